package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkFanOut delivers one entry to all members of a group: through an edge, and by a bare loop over as many connections of the WebSocket
// library. The clients and what they cost are the same in both, so the difference is what the edge adds: the way through NATS, order,
// membership, queues and bounds.
func BenchmarkFanOut(b *testing.B) {
	for _, members := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d members", members), func(b *testing.B) { fanOutTo(b, members) })
	}
}

func fanOutTo(b *testing.B, members int) {
	body := text{strings.Repeat("x", 200)}
	b.Run("edge", func(b *testing.B) {
		w := newWorld(b)
		r := w.edge(func(c *Config) { c.Limits = None() })
		var got receiver
		for i := range members {
			name := subjects.User(fmt.Sprintf("u%d", i))
			w.mu.Lock()
			if w.members["g.hot"] == nil {
				w.members["g.hot"] = map[subjects.User]wire.Seq{}
			}
			w.members["g.hot"][name] = 1
			w.mu.Unlock()
			hello := fmt.Sprintf(`{"call":"hello","data":{"token":%q,"device":"web"}}`, w.token(string(name), time.Hour))
			got.dial(b, r.addr, hello)
		}
		eventually(b, "all are there", func() bool { return r.users.count() == members && r.members("g.hot") == members })
		measure(b, &got, members, func() { w.append("g.hot", wire.KindMessage, "u0", "", body) })
	})
	b.Run("relay", func(b *testing.B) {
		relay := newRelay(b)
		var got receiver
		for range members {
			got.dial(b, relay.addr, "{}")
		}
		eventually(b, "all are there", func() bool { relay.mu.Lock(); defer relay.mu.Unlock(); return len(relay.conns) == members })
		payload, _ := json.Marshal(wire.Entry{Conversation: "g.hot", Seq: 1, Kind: wire.KindMessage, From: "u0", Body: json.RawMessage(`{"text":"` + body.Text + `"}`)})
		frame := wire.AppendEvent(nil, wire.EventEntry, payload)
		measure(b, &got, members, func() { relay.send(frame) })
	})
}

// members returns how many local members a conversation has.
func (r *running) members(id subjects.Conversation) int {
	c := r.conversations.find(id)
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.members)
}

// measure sends once a round and waits until every socket has it.
func measure(b *testing.B, got *receiver, members int, send func()) {
	got.messages.Store(0)
	got.whole = make(chan struct{}, 1)
	before := processorTime()
	b.ResetTimer()
	for i := range b.N {
		got.await.Store(int64((i + 1) * members))
		send()
		<-got.whole
	}
	b.StopTimer()
	n := float64(b.N * members)
	b.ReportMetric(n/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64((processorTime()-before).Microseconds())/n, "cpu-µs/delivery")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with this argument
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// receiver counts the messages of entries that its connections get.
type receiver struct {
	messages, await atomic.Int64
	whole           chan struct{} // when as many came as are awaited
}

// dial opens one connection, says something and counts what comes.
func (g *receiver) dial(b testing.TB, addr, hello string) {
	conn := upgradeByHand(b, addr)
	b.Cleanup(func() { _ = conn.Close() })
	_, _ = conn.Write(rawFrame(fin|textFrame, []byte(hello)))
	go func() {
		buffer := make([]byte, 1024)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			count := int64(bytes.Count(buffer[:n], []byte(`"event":"entry"`)))
			if count > 0 && g.messages.Add(count) == g.await.Load() {
				g.whole <- struct{}{}
			}
		}
	}()
}

// upgradeByHand is the least that makes a WebSocket.
func upgradeByHand(t testing.TB, addr string) net.Conn {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", addr)
	head := make([]byte, 0, 512) // nothing comes behind it before hello
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		n, err := conn.Read(head[len(head):cap(head)])
		if err != nil {
			t.Fatal(err)
		}
		head = head[:len(head)+n]
	}
	return conn
}

// relay is the least that fans out.
type relay struct {
	addr  string
	mu    sync.Mutex
	conns []*websocket.Conn
}

func newRelay(b *testing.B) *relay {
	r := &relay{}
	upgrader := websocket.Upgrader{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		conn, err := upgrader.Upgrade(rw, q, nil)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn)
		r.mu.Unlock()
		for err == nil {
			_, _, err = conn.ReadMessage()
		}
	}))
	b.Cleanup(func() {
		for _, conn := range r.conns {
			_ = conn.Close()
		}
		server.Close()
	})
	r.addr = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *relay) send(frame []byte) {
	for _, conn := range r.conns {
		_ = conn.WriteMessage(websocket.TextMessage, frame)
	}
}
