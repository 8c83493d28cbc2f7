package send_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// proxy carries a NATS connection. Armed, it holds up what the server says from the moment that the client says one thing until it says
// another.
type proxy struct {
	mu      sync.Mutex
	hold    []byte        // what the client says
	release []byte        // what it says then
	held    chan struct{} // closed when it has said the first
	gate    chan struct{} // closed while nothing is held up
}

func newProxy(t *testing.T, url string) (*proxy, string) {
	t.Helper()
	p := &proxy{gate: make(chan struct{})}
	close(p.gate)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
			if err != nil {
				t.Error(err)
				return
			}
			all.Go(func() { p.carry(server, client, p.watch); _ = server.Close() })
			all.Go(func() { p.carry(client, server, p.wait); _ = client.Close() })
		}
	})
	return p, "nats://" + listener.Addr().String()
}

// carry copies bytes and lets a function see, or delay, each piece.
func (p *proxy) carry(to io.Writer, from io.Reader, each func([]byte)) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		each(buffer[:n])
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) watch(said []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hold != nil && bytes.Contains(said, p.hold):
		p.hold, p.gate = nil, make(chan struct{})
		close(p.held)
	case p.hold == nil && p.release != nil && bytes.Contains(said, p.release):
		p.release = nil
		close(p.gate)
	}
}

func (p *proxy) wait([]byte) {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	<-gate
}

// arm returns a channel that is closed when the server is held up.
func (p *proxy) arm(hold, release string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold, p.release, p.held = []byte(hold), []byte(release), make(chan struct{})
	return p.held
}

// TestATryWithoutAnAnswer takes the acknowledgement of a stored message away. The next try of the same call finds out that it is stored; where that
// try is refused, the answer must not be a definite no.
func TestATryWithoutAnAnswer(t *testing.T) {
	for name, topology := range topologies {
		t.Run(name, func(t *testing.T) { unanswered(t, topology) })
	}
}

func unanswered(t *testing.T, topology topology) {
	const c = subjects.Conversation("g.team")
	server := jetstreamtest.Start(t, topology.options...)
	w := &world{t: t, server: server, nc: server.Connect(t)}
	w.store = server.StoreOn(t, w.nc)
	p, url := newProxy(t, server.URL)
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	functionstest.Run(t, nc, send.Function(send.Config{}))
	w.caller = functionstest.Caller(t, w.nc)
	w.conversation(c, map[subjects.User]wire.Role{"ada": wire.RoleOwner, "bob": wire.RoleMember})
	post := func() wire.Post {
		return wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")}
	}
	ok(w, "bob", send.MethodPost, post()) // tail and decision are remembered now

	for _, round := range []struct {
		name      string
		meanwhile func()
		code      wire.Code
	}{
		{"is found by the next", func() {}, ""},
		{"leaves the outcome unknown where the next is refused", func() {
			m, err := w.store.Member(t.Context(), c, "bob")
			if err == nil {
				err = w.store.RemoveMember(t.Context(), m)
			}
			if err == nil {
				entry := memberEntry(c, "bob", wire.ChangeRemoved)
				_, err = w.store.Append(t.Context(), c, w.head(c), jetstream.Draft{Kind: entry.Kind, From: entry.From, Body: entry.Body})
			}
			if err != nil {
				t.Error(err)
			}
		}, wire.StorageUnavailable},
	} {
		t.Run(round.name, func(t *testing.T) {
			ok(w, "bob", send.MethodPost, post())
			before := w.head(c).Seq
			// The second try begins with a read of the tail.
			held := p.arm("HPUB "+subjects.Message(c), topology.tailRead(c))
			answer := make(chan error, 1)
			go func() {
				_, err := call(w, "bob", send.MethodPost, post())
				answer <- err
			}()
			<-held
			for w.head(c).Seq == before { // until it is stored
				runtime.Gosched()
			}
			round.meanwhile()
			if err := <-answer; wire.CodeOf(err) != round.code {
				t.Errorf("answered %v, want code %q", err, round.code)
			}
			if all := w.entries(c); all[before].Kind != wire.KindMessage || all[before].From != "bob" {
				t.Errorf("the log is %+v", all)
			}
		})
	}
}
