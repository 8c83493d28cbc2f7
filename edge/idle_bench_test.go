package edge

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// The sizes of BenchmarkIdle. Each connection is a descriptor here and one in the other process.
const (
	idleSockets = 10_000
	idleGroup   = 100             // members of a group; each user is in one
	idlePings   = 5 * time.Second // five times as often as usual, so that a short run has some
	idleTime    = 15 * time.Second
)

// Variables of BenchmarkIdle: peerVariable makes a run of the test binary its other side, idleVariable changes the number of connections.
const (
	peerVariable = "CONFAB_EDGE_BENCHMARK_PEER"
	idleVariable = "CONFAB_EDGE_BENCHMARK_IDLE"
)

// BenchmarkIdle reports what an idle connection costs the process of its edge, whose user is signed in, present and a member of a group: bytes of
// resident memory, as they are and after a collection, and processor time at the usual rate of pings. All else, the NATS server,
// the functions and the clients, runs in another process, and what the process needs without connections is subtracted.
func BenchmarkIdle(b *testing.B) {
	n, _ := strconv.Atoi(os.Getenv(idleVariable))
	n = cmp.Or(n, idleSockets)
	peer := exec.Command(os.Args[0], "-test.run=^TestPeerOfTheIdleBenchmark$", "-test.timeout=10m")
	peer.Env = append(os.Environ(), peerVariable+"="+strconv.Itoa(n))
	peer.Stderr = os.Stderr
	stdin, err := peer.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := peer.StdoutPipe()
	if err == nil {
		err = peer.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = peer.Wait() }()
	answers := bufio.NewScanner(stdout)
	answer := func(prefix string) string {
		for answers.Scan() {
			if rest, ok := strings.CutPrefix(answers.Text(), prefix); ok {
				return rest
			}
		}
		b.Fatal("the peer has ended")
		return ""
	}
	nc, err := nats.Connect(answer("nats "))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	w := &world{t: b}
	r := w.edge(func(c *Config) {
		c.NATS, c.Limits, c.HeadEvery = nc, None(), 0
		c.Limits.Ping = idlePings
	})
	debug.FreeOSMemory()
	before := resident(b)
	fmt.Fprintln(stdin, r.addr)
	answer("connected")
	eventually(b, "all are there", func() bool { return r.users.count() == n })
	busy, begun := processorTime(), time.Now()
	for b.Loop() {
		time.Sleep(idleTime)
	}
	seconds := time.Since(begun).Seconds() * float64(defaults.Ping/idlePings)
	b.ReportMetric(float64((processorTime()-busy).Microseconds())/seconds/float64(n), "cpu-µs/connection/s")
	b.ReportMetric(float64(resident(b)-before)/float64(n), "resident-B/connection")
	debug.FreeOSMemory()
	b.ReportMetric(float64(resident(b)-before)/float64(n), "collected-B/connection")
	b.ReportMetric(float64(runtime.NumGoroutine())/float64(n), "goroutines/connection")
	b.ReportMetric(0, "ns/op")
	if r.count.Load() != int64(n) {
		b.Errorf("%d of %d connections are left", r.count.Load(), n)
	}
}

var defaults = Limits{}.withDefaults()

// resident returns the resident memory of this process.
func resident(b *testing.B) int {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestPeerOfTheIdleBenchmark is the other side of BenchmarkIdle, in a process of its own; by itself it has nothing to do.
func TestPeerOfTheIdleBenchmark(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv(peerVariable))
	if n == 0 {
		return
	}
	w := newWorld(t)
	fmt.Println("nats " + w.server.URL)
	input := bufio.NewReader(os.Stdin)
	addr, err := input.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(strings.TrimSpace(addr))
	for i := range n {
		user := subjects.User(fmt.Sprintf("u%d", i))
		w.mu.Lock()
		w.groups[user] = subjects.Conversation(fmt.Sprintf("g.g%d", i/idleGroup))
		w.mu.Unlock()
		conn := upgradeByHand(t, fmt.Sprintf("127.0.0.%d:%s", 1+i/20_000, port)) // an address has so many ports
		t.Cleanup(func() { _ = conn.Close() })
		hello := fmt.Sprintf(`{"id":1,"call":"hello","data":{"token":%q,"device":"web"}}`, w.token(string(user), time.Hour))
		_, _ = conn.Write(rawFrame(fin|textFrame, []byte(hello)))
		go answerPings(conn)
	}
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, input)
}

// answerPings answers every ping, which comes alone when nothing else happens.
func answerPings(conn net.Conn) {
	pong := rawFrame(fin|pongFrame, nil)
	buffer := make([]byte, 1024)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if n >= 2 && buffer[n-2] == finalPing && buffer[n-1] == 0 {
			_, _ = conn.Write(pong)
		}
	}
}
