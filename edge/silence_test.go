package edge

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

func TestSilentConnectionsDelayNobody(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits = None(); c.Limits.Hello = 20 * time.Second })
	for range 300 {
		r.rawConn(t) // upgraded, and never a word
	}
	for range 200 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "GET /v1/ws HTTP/1.1\r\nX-Slow: ")
	}
	ada := r.connect(t, w, "ada", "web")
	best := time.Hour // of a few rounds: others use the machine as well
	for range 3 {
		var took []time.Duration
		for i := range 100 {
			begun := time.Now()
			if _, err := ada.call("echo.say", wire.Empty{}); err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 { // others come in just as quickly
				r.connect(t, w, "bob", fmt.Sprintf("device-%d", i)).close()
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		best = min(best, took[len(took)*99/100-1])
	}
	if best > 100*time.Millisecond {
		t.Errorf("99 of 100 calls beside silent connections take up to %s", best)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	for what, header := range map[string]string{
		"one long header":  "X-Long: " + strings.Repeat("x", 64<<10) + "\r\n",
		"very many":        strings.Repeat("X-Many: x\r\n", 6000),
		"a long address":   "",
		"a header no more": strings.Repeat("X-Many: x\r\n", 100),
	} {
		path, want := "/v1/ws", http.StatusRequestHeaderFieldsTooLarge
		switch what {
		case "a long address":
			path += "?" + strings.Repeat("x", 64<<10)
		case "a header no more":
			want = http.StatusUpgradeRequired // it is read, and asks for no WebSocket
		}
		response := exchange(t, r.addr, "GET "+path+" HTTP/1.1\r\nHost: "+r.addr+"\r\n"+header+"\r\n")
		if response.StatusCode != want {
			t.Errorf("%s is answered %d, want %d", what, response.StatusCode, want)
		}
	}
}

// deaf signs a user in on a connection that takes little and is never read again.
func (r *running) deaf(t *testing.T, w *world, user string) net.Conn {
	t.Helper()
	conn := r.rawConn(t)
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	rawHello(t, w, conn, user)
	return conn
}

// alive reports whether a socket is neither closed nor given up, as one is that takes nothing for too long.
func (s *socket) alive() bool {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.out.reason == 0 && !s.out.gone
}

func TestWhatWaitsForAllConnectionsIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const total = 2 << 20
	r := w.edge(func(c *Config) {
		c.Limits = None()                                           // a queue alone is not bounded
		c.Limits.QueueTotal, c.Limits.Write = total, 12*time.Second // less than the patience at the end
	})
	w.add("g.one", "ada")
	ada := r.connect(t, w, "ada", "web")
	const sockets = 8
	for i := range sockets {
		user := fmt.Sprintf("deaf-%d", i)
		ada.expect("g.one", w.add("g.one", user))
		r.deaf(t, w, user)
	}
	var slow []*socket
	for _, u := range r.users.all() {
		if u.name != "ada" {
			slow = append(slow, u.list()...)
		}
	}
	gone := func() bool { return !slices.ContainsFunc(slow, (*socket).alive) }
	big := strings.Repeat("x", 16_000)
	last, most := wire.Seq(1+sockets), int64(0)
	for ; !gone() && last < 5000; last++ {
		w.say("g.one", "ada", big)
		ada.expect("g.one", last+1) // who reads is not disturbed
		most = max(most, r.queued.Load())
	}
	if !gone() || len(slow) != sockets {
		t.Errorf("after %d entries some of %d connections are open", last, len(slow))
	}
	if most < total/2 || most > total+sockets*2*coalesce {
		t.Errorf("up to %d bytes waited, with a bound of %d", most, total)
	}
	eventually(t, "nothing waits any more", func() bool { return r.queued.Load() == 0 })
}
