package client

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// peer is a scripted server: a small truth (who said what), told over real sockets, with whatever faults a test puts in.
type peer struct {
	*httptest.Server
	t *testing.T

	// script sees every call first; true means that it has dealt with it.
	script func(s *socket, f wire.Frame) bool
	// login answers calls over HTTP by their path; nil refuses them.
	http func(path string, body []byte) (any, *wire.Error)

	mu      sync.Mutex
	log     map[subjects.Conversation][]wire.Entry
	tries   map[string]int // how often each client id came
	sockets []*socket
	dials   int
	hellos  []wire.Hello
	calls   []string
	welcome wire.Welcome
	refuse  int // status of the next upgrades, 0 = welcome them
	group   sync.WaitGroup
}

// socket is one connection to the peer.
type socket struct {
	peer *peer
	conn *websocket.Conn
	mu   sync.Mutex
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, log: map[subjects.Conversation][]wire.Entry{}, tries: map[string]int{}}
	p.welcome = wire.Welcome{User: "ada", Device: "go", Session: "s1", ServerTime: wire.At(time.Now()), ExpiresAt: wire.At(time.Now().Add(time.Hour)), PingSeconds: 25,
		Limits: wire.Limits{FrameBytes: 65536, BodyBytes: wire.MaxBody}, Calls: []string{"send.post"}}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/ws", p.upgrade)
	mux.HandleFunc("/v1/call/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		err := wire.Errorf(wire.UnknownCall, "No.")
		var out any
		if p.http != nil {
			out, err = p.http(r.URL.Path, body)
		}
		if err != nil {
			problem := wire.ProblemOf(err)
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(problem.Status)
			_ = json.NewEncoder(w).Encode(problem)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.cut()
		p.Server.Close()
		p.group.Wait()
	})
	return p
}

func (p *peer) upgrade(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.dials++
	refuse := p.refuse
	p.mu.Unlock()
	if refuse != 0 {
		w.WriteHeader(refuse)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.Protocol}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s := &socket{peer: p, conn: conn}
	p.mu.Lock()
	p.sockets = append(p.sockets, s)
	p.mu.Unlock()
	p.group.Go(s.serve)
}

func (s *socket) serve() {
	defer s.conn.Close()
	for {
		_, message, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		frame, bad := wire.ParseFrame(message)
		if bad != nil {
			s.peer.t.Errorf("the client sent %q: %v", message, bad)
			return
		}
		s.peer.mu.Lock()
		s.peer.calls = append(s.peer.calls, frame.Call)
		s.peer.mu.Unlock()
		if s.peer.script == nil || !s.peer.script(s, frame) {
			s.answer(frame)
		}
	}
}

// answer does what a server does.
func (s *socket) answer(f wire.Frame) {
	p := s.peer
	switch f.Call {
	case wire.CallHello:
		var hello wire.Hello
		_ = wire.Decode(f.Data, &hello)
		p.mu.Lock()
		p.hellos = append(p.hellos, hello)
		welcome := p.welcome
		p.mu.Unlock()
		s.ok(f, welcome)
	case "send.post", "send.edit", "send.recall", "send.react":
		s.store(f)
	case "history.heads":
		s.ok(f, p.heads())
	case "history.page":
		var q wire.PageQuery
		if err := wire.Decode(f.Data, &q); err != nil {
			p.t.Errorf("page %s: %v", f.Data, err)
		}
		s.ok(f, p.page(q))
	case wire.CallWatch, "presence.get":
		var q wire.UsersQuery
		_ = wire.Decode(f.Data, &q)
		out := wire.Presences{Users: map[subjects.User]wire.Presence{}}
		for _, u := range q.Users {
			out.Users[u] = wire.Presence{State: wire.StateOnline, Devices: 1}
		}
		s.ok(f, out)
	default:
		if len(f.ID) > 0 {
			s.ok(f, wire.Empty{})
		}
	}
}

// store appends what a send says, once for each client id, and answers.
func (s *socket) store(f wire.Frame) {
	posted, entry := s.peer.store(f)
	if entry != nil {
		s.peer.broadcast(*entry)
	}
	s.ok(f, posted)
}

func (p *peer) store(f wire.Frame) (wire.Posted, *wire.Entry) {
	var in struct {
		wire.Post
		Seq wire.Seq `json:"seq"`
	}
	if err := json.Unmarshal(f.Data, &in); err != nil {
		p.t.Errorf("send %s: %v", f.Data, err)
	}
	if in.To != "" {
		in.Conversation, _ = subjects.Direct("ada", in.To)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries[in.ClientID]++
	for _, e := range p.log[in.Conversation] {
		if e.ClientID == in.ClientID {
			return wire.Posted{Conversation: e.Conversation, Seq: e.Seq, Count: e.Count, At: e.At, Duplicate: true}, nil
		}
	}
	e := p.appendLocked(in.Conversation, wire.Entry{From: "ada", ClientID: in.ClientID, Body: in.Body, Target: in.Seq})
	return wire.Posted{Conversation: e.Conversation, Seq: e.Seq, Count: e.Count, At: e.At}, &e
}

func (p *peer) appendLocked(id subjects.Conversation, e wire.Entry) wire.Entry {
	n := len(p.log[id]) + 1
	e.Conversation, e.Seq, e.Count, e.Kind, e.At = id, wire.Seq(n), uint64(n), wire.KindMessage, wire.At(time.Now())
	p.log[id] = append(p.log[id], e)
	return e
}

// say appends a message of somebody else without telling anybody.
func (p *peer) say(id subjects.Conversation, text string) wire.Entry {
	body, _ := json.Marshal(map[string]string{"text": text})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.appendLocked(id, wire.Entry{From: "bob", Body: body})
}

func (p *peer) page(q wire.PageQuery) wire.Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.log[q.Conversation]
	from := max(0, len(all)-q.Limit)
	switch {
	case q.After != nil:
		from = min(int(*q.After), len(all))
	case q.Time != nil:
		from = max(0, slices.IndexFunc(all, func(e wire.Entry) bool { return !e.At.Before(q.Time.Time) }))
	}
	page := wire.Page{Entries: []json.RawMessage{}, MoreBefore: from > 0}
	for _, e := range all[from:min(len(all), from+q.Limit)] {
		if e.Kind == "" {
			continue // erased
		}
		raw, _ := wire.Marshal(e)
		page.Entries = append(page.Entries, raw)
		page.Last = e.Seq
		if page.First == 0 {
			page.First = e.Seq
		}
	}
	page.MoreAfter = from+q.Limit < len(all)
	return page
}

func (p *peer) heads() wire.Heads {
	p.mu.Lock()
	defer p.mu.Unlock()
	heads := wire.Heads{Conversations: []wire.ConversationHead{}}
	for id, entries := range p.log {
		heads.Conversations = append(heads.Conversations, wire.ConversationHead{Conversation: id, Kind: id.Kind(), Head: wire.Head{Seq: wire.Seq(len(entries))}})
	}
	return heads
}

// broadcast sends an entry to every socket.
func (p *peer) broadcast(e wire.Entry) { p.event(wire.EventEntry, e) }

func (p *peer) event(name wire.Event, data any) {
	p.mu.Lock()
	sockets := slices.Clone(p.sockets)
	p.mu.Unlock()
	raw, _ := wire.Marshal(data)
	for _, s := range sockets {
		s.write(wire.AppendEvent(nil, name, raw))
	}
}

// close ends every socket with a code.
func (p *peer) close(code wire.CloseCode) {
	for _, s := range p.drop() {
		_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), "scripted"), time.Now().Add(time.Second))
	}
}

// cut ends every socket in the middle of a frame.
func (p *peer) cut() {
	for _, s := range p.drop() {
		s.mu.Lock()
		_, _ = s.conn.NetConn().Write([]byte{0x81, 0x7e, 0x10, 0x00, '{', '"', 'i'}) // 4,096 bytes are announced
		s.conn.NetConn().Close()
		s.mu.Unlock()
	}
}

func (p *peer) drop() []*socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	sockets := p.sockets
	p.sockets = nil
	return sockets
}

func (p *peer) count(call string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (s *socket) ok(f wire.Frame, data any) {
	raw, err := wire.Marshal(data)
	if err != nil {
		s.peer.t.Error(err)
	}
	s.write(wire.AppendOK(nil, f.ID, raw))
}

func (s *socket) fail(f wire.Frame, code wire.Code) {
	s.write(wire.AppendError(nil, f.ID, wire.Errorf(code, "Scripted.")))
}

func (s *socket) write(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.WriteMessage(websocket.TextMessage, text)
}

// quick makes reconnects fast enough for a test.
func quick() Option {
	return func(c *config) { c.least, c.most, c.try = 5*time.Millisecond, 50*time.Millisecond, 2*time.Second }
}

// dial connects a client that is closed with the test.
func (p *peer) dial(opts ...Option) *Client {
	p.t.Helper()
	log := slog.New(slog.NewTextHandler(p.t.Output(), nil))
	c, err := Dial(p.t.Context(), p.URL, append([]Option{WithToken("t1"), quick(), WithLog(log)}, opts...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually waits until ok, and fails the test after ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within ten seconds", what)
		}
	}
}
