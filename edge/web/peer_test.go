package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/edge/web"

	"github.com/confab-im/confab/edge/web/webtest"
)

// object is a JSON object of the protocol.
type object map[string]any

// entry is an entry of the protocol, as far as the tests need one.
type entry struct {
	Conversation string              `json:"conversation"`
	Seq          int                 `json:"seq"`
	Count        int                 `json:"count"`
	Kind         string              `json:"kind"`
	From         string              `json:"from"`
	At           string              `json:"at"`
	ClientID     string              `json:"client_id,omitempty"`
	Body         object              `json:"body,omitempty"`
	ReplyTo      int                 `json:"reply_to,omitempty"`
	Target       int                 `json:"target,omitempty"`
	EditedAt     string              `json:"edited_at,omitempty"`
	Recalled     bool                `json:"recalled,omitempty"`
	Reactions    map[string][]string `json:"reactions,omitempty"`
}

// call is one call that a client has made.
type call struct {
	Name   string
	Data   object
	Socket int
	At     time.Time
}

// reply is what a script answers instead of the peer's own way.
type reply struct {
	ok    any
	code  string
	store bool // Store a post before dropping or refusing it.
	drop  bool // Close the socket without an answer.
}

// peer is a scripted server: it speaks the protocol to one user, ada, keeps logs in memory, and misbehaves on demand.
type peer struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	logs    map[string][]entry
	titles  map[string]string
	roles   map[string]string
	reads   map[string]int
	state   map[string]object
	calls   []call
	sockets map[*socket]bool
	opened  int
	script  func(c call) *reply
	clock   time.Time
}

// socket writes frames one at a time.
type socket struct {
	*websocket.Conn
	mu     sync.Mutex
	number int
}

func (s *socket) send(frame any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := json.Marshal(frame)
	if err != nil {
		panic(err)
	}
	_ = s.WriteMessage(websocket.TextMessage, append(line, '\n'))
}

func newPeer(t *testing.T) *peer {
	p := &peer{
		t: t, logs: map[string][]entry{}, titles: map[string]string{}, roles: map[string]string{},
		reads: map[string]int{}, state: map[string]object{}, sockets: map[*socket]bool{},
		clock: time.Now().Add(-time.Hour),
	}
	mux := http.NewServeMux()
	mux.Handle("/", web.Handler())
	mux.HandleFunc("/v1/ws", p.serve)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.close(websocket.CloseGoingAway)
		p.Close()
	})
	return p
}

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{Subprotocols: []string{"confab.v1"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.opened++
	s := &socket{Conn: conn, number: p.opened}
	p.sockets[s] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.sockets, s)
		p.mu.Unlock()
		conn.Close()
	}()
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			return
		}
		for line := range strings.SplitSeq(string(message), "\n") {
			if strings.TrimSpace(line) != "" && !p.frame(s, line) {
				return
			}
		}
	}
}

// frame answers one line; false means that the socket is to be dropped.
func (p *peer) frame(s *socket, line string) bool {
	var frame struct {
		ID   any    `json:"id"`
		Call string `json:"call"`
		Data object `json:"data"`
	}
	if err := json.Unmarshal([]byte(line), &frame); err != nil {
		p.t.Errorf("the client sent a line that is no frame: %q", line)
		return false
	}
	c := call{Name: frame.Call, Data: frame.Data, Socket: s.number, At: time.Now()}
	p.mu.Lock()
	p.calls = append(p.calls, c)
	script := p.script
	p.mu.Unlock()
	var scripted *reply
	if script != nil {
		scripted = script(c)
	}
	var ok any
	var code string
	var after []entry
	switch {
	case scripted == nil:
		ok, code, after = p.answer(c)
	case scripted.store:
		_, _, after = p.answer(c)
		fallthrough
	default:
		ok, code = scripted.ok, scripted.code
		if scripted.drop {
			return false
		}
	}
	if frame.ID != nil && code != "" {
		s.send(object{"id": frame.ID, "error": object{"code": code, "message": code, "retry_after_ms": 0}})
	} else if frame.ID != nil {
		s.send(object{"id": frame.ID, "ok": ok})
	}
	for _, e := range after {
		p.event("entry", e)
	}
	return true
}

// answer is the peer's own way: ok or a code, and the entries to announce.
func (p *peer) answer(c call) (any, string, []entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conversation, _ := c.Data["conversation"].(string)
	if to, ok := c.Data["to"].(string); ok {
		conversation = "d." + min("ada", to) + "." + max("ada", to)
	}
	switch c.Name {
	case "auth.login", "auth.register":
		if c.Data["password"] != "correct horse" {
			return nil, "unauthenticated", nil
		}
		return object{"token": "t1", "refresh_token": "r1", "user": c.Data["user"]}, "", nil
	case "auth.refresh":
		return object{"token": "fresh", "refresh_token": "r2", "user": "ada"}, "", nil
	case "hello":
		if c.Data["token"] == "old" {
			return nil, "token_expired", nil
		}
		return object{"user": "ada", "device": c.Data["device"], "session": "s1", "ping_seconds": 25,
			"server_time": time.Now().UTC().Format(time.RFC3339Nano), "limits": object{"frame_bytes": 65536}}, "", nil
	case "history.heads":
		return p.heads(), "", nil
	case "history.page":
		return p.page(conversation, c.Data)
	case "send.post", "send.edit", "send.recall", "send.react":
		return p.sent(conversation, c)
	case "receipts.mark":
		seq, _ := c.Data["read"].(float64)
		p.reads[conversation] = max(p.reads[conversation], int(seq))
		return object{"read": object{"seq": p.reads[conversation], "count": p.count(conversation, p.reads[conversation])}}, "", nil
	case "receipts.who":
		return object{"read": []string{}, "delivered": []string{}}, "", nil
	case "conversations.get":
		return object{"conversation": conversation, "members": 2}, "", nil
	case "conversations.members":
		return object{"members": []object{{"user": "ada", "role": "owner"}, {"user": "bob", "role": "member"}}}, "", nil
	case "presence.watch":
		return object{"users": p.state}, "", nil
	case "conversations.create":
		id := "g." + strings.ToLower(strings.ReplaceAll(c.Data["title"].(string), " ", "-"))
		p.titles[id] = c.Data["title"].(string)
		p.append(entry{Conversation: id, Kind: "member", From: "ada", Body: object{"user": "ada", "change": "added", "by": "ada", "role": "owner"}})
		return object{"conversation": id}, "", nil
	}
	return object{}, "", nil
}

func (p *peer) heads() object {
	list := []object{}
	for id, log := range p.logs {
		last := log[len(log)-1]
		read := p.reads[id]
		count := p.count(id, read)
		list = append(list, object{"conversation": id, "title": p.titles[id], "role": p.roles[id],
			"head": object{"seq": last.Seq, "count": last.Count, "entry": p.folded(id, last.Seq)},
			"read": object{"seq": read, "count": count}, "unread": last.Count - count})
	}
	return object{"conversations": list}
}

// count is the count as of a seq.
func (p *peer) count(conversation string, seq int) int {
	if seq < 1 || seq > len(p.logs[conversation]) {
		return 0
	}
	return p.logs[conversation][seq-1].Count
}

func (p *peer) page(conversation string, data object) (any, string, []entry) {
	log := p.logs[conversation]
	if log == nil {
		return nil, "not_found", nil
	}
	limit := 50
	if n, ok := data["limit"].(float64); ok {
		limit = min(int(n), 200)
	}
	first, last := max(1, len(log)-limit+1), len(log)
	if after, ok := data["after"].(float64); ok {
		first, last = int(after)+1, min(len(log), int(after)+limit)
	} else if before, ok := data["before"].(float64); ok {
		first, last = max(1, int(before)-limit), int(before)-1
	}
	entries := []entry{}
	for seq := first; seq <= last; seq++ {
		entries = append(entries, p.folded(conversation, seq))
	}
	return object{"entries": entries, "first": first, "last": last, "more_before": first > 1, "more_after": last < len(log)}, "", nil
}

// folded is an entry as a page shows it.
func (p *peer) folded(conversation string, seq int) entry {
	e := p.logs[conversation][seq-1]
	for _, other := range p.logs[conversation][seq:] {
		if other.Target != seq {
			continue
		}
		switch other.Kind {
		case "edit":
			e.Body, e.EditedAt = other.Body, other.At
		case "recall":
			e.Body, e.Recalled = nil, true
		case "reaction":
			emoji, _ := other.Body["emoji"].(string)
			reactions := map[string][]string{}
			for k, users := range e.Reactions {
				reactions[k] = slices.Clone(users)
			}
			reactions[emoji] = append(reactions[emoji], other.From)
			e.Reactions = reactions
		}
	}
	return e
}

func (p *peer) sent(conversation string, c call) (any, string, []entry) {
	clientID, _ := c.Data["client_id"].(string)
	for _, e := range p.logs[conversation] {
		if e.ClientID == clientID {
			return object{"conversation": conversation, "seq": e.Seq, "count": e.Count, "at": e.At, "duplicate": true}, "", nil
		}
	}
	e := entry{Conversation: conversation, Kind: "message", From: "ada", ClientID: clientID}
	e.Body, _ = c.Data["body"].(map[string]any)
	target, _ := c.Data["seq"].(float64)
	e.Target = int(target)
	replyTo, _ := c.Data["reply_to"].(float64)
	e.ReplyTo = int(replyTo)
	switch c.Name {
	case "send.edit":
		e.Kind = "edit"
	case "send.recall":
		e.Kind = "recall"
	case "send.react":
		e.Kind = "reaction"
		e.Body = object{"emoji": c.Data["emoji"]}
	}
	e.At = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	e = p.append(e)
	return object{"conversation": conversation, "seq": e.Seq, "count": e.Count, "at": e.At}, "", []entry{e}
}

// append adds to the log; p.mu is held.
func (p *peer) append(e entry) entry {
	log := p.logs[e.Conversation]
	e.Seq = len(log) + 1
	if len(log) > 0 {
		e.Count = log[len(log)-1].Count
	}
	if e.Kind == "" {
		e.Kind = "message"
	}
	if e.Kind == "message" {
		e.Count++
	}
	if e.At == "" {
		p.clock = p.clock.Add(time.Second)
		e.At = p.clock.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	p.logs[e.Conversation] = append(log, e)
	return e
}

// store adds an entry that no socket is told of, and returns it with its seq.
func (p *peer) store(e entry) entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.append(e)
}

// say stores a message without telling anybody.
func (p *peer) say(conversation, from, text string) entry {
	return p.store(entry{Conversation: conversation, From: from, Body: object{"text": text}})
}

// event sends an event to all sockets.
func (p *peer) event(name string, data any) {
	p.mu.Lock()
	sockets := make([]*socket, 0, len(p.sockets))
	for s := range p.sockets {
		sockets = append(sockets, s)
	}
	p.mu.Unlock()
	for _, s := range sockets {
		s.send(object{"event": name, "data": data})
	}
}

// close closes all sockets with a code.
func (p *peer) close(code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.sockets {
		_ = s.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
		s.Conn.Close()
	}
}

// setScript makes the peer misbehave; a script returns nil for what it leaves alone.
func (p *peer) setScript(script func(c call) *reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = script
}

// made lists the calls of a name so far.
func (p *peer) made(name string) []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []call
	for _, c := range p.calls {
		if c.Name == name {
			list = append(list, c)
		}
	}
	return list
}

// until waits for a call to have been made n times, and returns these calls.
func (p *peer) until(name string, n int) []call {
	p.t.Helper()
	if !webtest.Eventually(func() bool { return len(p.made(name)) >= n }) {
		p.t.Fatalf("%s was called %d times, want %d", name, len(p.made(name)), n)
	}
	return p.made(name)
}
