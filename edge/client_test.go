package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// patience bounds every wait of these tests.
const patience = 15 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// running is an edge that serves until the test ends.
type running struct {
	*Edge
	addr string
	stop func() // drains and waits
}

// edge runs an edge on a connection of its own.
func (w *world) edge(change ...func(*Config)) *running {
	w.t.Helper()
	cfg := Config{Name: "edge-a", Listen: "127.0.0.1:0", DrainWindow: -1, HeadEvery: 200 * time.Millisecond, Log: quiet}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.NATS == nil {
		cfg.NATS = w.server.Connect(w.t)
	}
	e, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	r := &running{Edge: e, addr: e.Addr().String()}
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				w.t.Errorf("edge: %v", err)
			}
		case <-time.After(2 * patience):
			w.t.Error("the edge does not end")
		}
	})
	w.t.Cleanup(r.stop)
	eventually(w.t, "the edge is ready", func() bool { return e.Ready() == nil })
	return r
}

// eventually polls until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not in %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// client is a client of an edge. Everything that comes is kept in order.
type client struct {
	t  testing.TB
	ws *websocket.Conn

	mu     sync.Mutex
	frames []wire.ServerFrame // events and answers without an id
	taken  int                // of frames
	open   map[string]chan wire.ServerFrame
	ended  chan struct{}
	code   int // close code, once ended
	lastID int
	news   chan struct{}
}

// dial connects without saying hello.
func (r *running) dial(t testing.TB, header ...http.Header) *client {
	t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: patience, Subprotocols: []string{wire.Protocol}}
	var h http.Header
	if len(header) > 0 {
		h = header[0]
		if h.Get("Sec-Websocket-Protocol") != "" {
			dialer.Subprotocols = nil
		}
	}
	ws, response, err := dialer.Dial("ws://"+r.addr+"/v1/ws", h)
	if err != nil {
		t.Fatalf("dial: %v %v", err, response)
	}
	c := &client{t: t, ws: ws, open: map[string]chan wire.ServerFrame{}, ended: make(chan struct{}), news: make(chan struct{}, 1)}
	go c.read()
	t.Cleanup(c.close)
	return c
}

// connect connects and says hello.
func (r *running) connect(t testing.TB, w *world, user, device string) *client {
	t.Helper()
	c := r.dial(t)
	if _, err := c.call("hello", map[string]any{"token": w.token(user, time.Hour), "device": device}); err != nil {
		t.Fatalf("hello of %s: %v", user, err)
	}
	return c
}

func (c *client) close() {
	_ = c.ws.Close()
	<-c.ended
}

func (c *client) read() {
	defer close(c.ended)
	for {
		_, message, err := c.ws.ReadMessage()
		if err != nil {
			if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
				c.code = closed.Code
			}
			return
		}
		for line := range bytes.SplitSeq(bytes.TrimSpace(message), []byte("\n")) {
			var f wire.ServerFrame
			if err := json.Unmarshal(line, &f); err != nil {
				c.t.Errorf("frame %q: %v", line, err)
				continue
			}
			c.mu.Lock()
			waiting, ok := c.open[string(f.ID)]
			if delete(c.open, string(f.ID)); !ok {
				c.frames = append(c.frames, f)
			}
			c.mu.Unlock()
			if ok {
				waiting <- f
			}
			select {
			case c.news <- struct{}{}:
			default:
			}
		}
	}
}

// begin sends a call and returns where its answer will come.
func (c *client) begin(name string, data any) chan wire.ServerFrame {
	c.t.Helper()
	body, err := json.Marshal(data)
	if err != nil {
		c.t.Fatal(err)
	}
	answer := make(chan wire.ServerFrame, 1)
	c.mu.Lock()
	c.lastID++
	id := fmt.Sprint(c.lastID)
	c.open[id] = answer
	c.mu.Unlock()
	quoted, _ := json.Marshal(name) // a string always encodes
	c.raw(fmt.Sprintf(`{"id":%s,"call":%s,"data":%s}`, id, quoted, body))
	return answer
}

// call sends a call and waits for its answer.
func (c *client) call(name string, data any) (json.RawMessage, *wire.Error) {
	c.t.Helper()
	answer := c.begin(name, data)
	select {
	case f := <-answer:
		return f.OK, f.Error
	case <-c.ended:
		select {
		case f := <-answer: // it came before the end
			return f.OK, f.Error
		default:
		}
		return nil, wire.Errorf("closed", "%d", c.code)
	case <-time.After(patience):
		c.t.Fatalf("%s is not answered", name)
		return nil, nil
	}
}

// raw sends a message as it is.
func (c *client) raw(message string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		c.t.Logf("write: %v", err)
	}
}

// next returns the next event that came, of any sort.
func (c *client) next() wire.ServerFrame {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		if c.taken < len(c.frames) {
			f := c.frames[c.taken]
			c.taken++
			c.mu.Unlock()
			return f
		}
		c.mu.Unlock()
		select {
		case <-c.news:
		case <-c.ended:
			c.mu.Lock()
			more := c.taken < len(c.frames)
			c.mu.Unlock()
			if !more {
				c.t.Fatalf("closed with %d instead of an event", c.code)
			}
		case <-deadline:
			for _, f := range c.frames {
				c.t.Logf("had %s %s", f.Event, f.Data)
			}
			c.t.Fatal("no event comes")
		}
	}
}

// event returns the data of the next event of a sort; others are passed over.
func (c *client) event(event wire.Event) json.RawMessage {
	c.t.Helper()
	for {
		if f := c.next(); f.Event == event {
			return f.Data
		}
	}
}

// entry returns the next entry of a conversation.
func (c *client) entry(conversation string) wire.Entry {
	c.t.Helper()
	for {
		var e wire.Entry
		if err := json.Unmarshal(c.event(wire.EventEntry), &e); err != nil {
			c.t.Fatal(err)
		}
		if e.Conversation == subjects.Conversation(conversation) {
			return e
		}
	}
}

// expect fails unless the next entries of a conversation have these seqs.
func (c *client) expect(conversation string, seqs ...wire.Seq) {
	c.t.Helper()
	for _, seq := range seqs {
		if e := c.entry(conversation); e.Seq != seq {
			c.t.Fatalf("entry %d came, want %d", e.Seq, seq)
		}
	}
}

// closed waits for the end and returns the close code.
func (c *client) closed() int {
	c.t.Helper()
	select {
	case <-c.ended:
		return c.code
	case <-time.After(2 * patience):
		c.t.Fatal("the socket stays open")
		return 0
	}
}

// rawConn upgrades by hand, for bytes that no library sends.
func (r *running) rawConn(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	_, err = fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 0, 512)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil {
			t.Fatalf("upgrade: %v after %q", err, head)
		}
		head = append(head, b[0])
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		t.Fatalf("upgrade: %s", head)
	}
	return conn
}

func newReader(conn net.Conn) *bufio.Reader { return bufio.NewReader(conn) }
