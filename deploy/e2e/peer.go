package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// peer is one connection to an edge, as bare as a client can be: it has no retries and hides nothing.
type peer struct {
	t      testing.TB
	target Target
	user   subjects.User
	tokens wire.Tokens
	socket *websocket.Conn
	write  sync.Mutex // one writer at a time

	mu     sync.Mutex // guards what follows
	next   int
	open   map[string]chan wire.ServerFrame
	events []wire.ServerFrame // in the order of arrival; never shortened
	closed error              // why the connection ended; nil while it stands
	news   chan struct{}      // closed and replaced when events or closed change
}

// register registers a new user and connects it.
func register(t testing.TB, target Target, prefix string) *peer {
	t.Helper()
	user := name(prefix)
	tokens, err := post[wire.Tokens](target, "", "auth.register", wire.Register{User: user, Password: password})
	if err != nil {
		t.Fatalf("register %s: %v", user, err)
	}
	return connect(t, target, tokens, "web-1")
}

// connect opens a connection and says hello.
func connect(t testing.TB, target Target, tokens wire.Tokens, device subjects.Device) *peer {
	t.Helper()
	p := dial(t, target)
	p.user, p.tokens = tokens.User, tokens
	welcome := call[wire.Welcome](p, wire.CallHello, wire.Hello{Token: tokens.Token, Device: device})
	if welcome.User != tokens.User {
		t.Fatalf("hello answers for %q, want %q", welcome.User, tokens.User)
	}
	return p
}

// issue has an operator make a token, which costs no hashing and wakes auth where it sleeps.
func issue(t testing.TB, target Target, in wire.Issue) wire.Tokens {
	t.Helper()
	nc := target.operator(t)
	defer nc.Close()
	caller, err := functions.NewCaller(nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tokens, err := functions.Invoke[wire.Issue, wire.Tokens](ctx, caller, nil, "auth", "issue", in)
	if err != nil {
		t.Fatalf("issue a token for %s: %v", in.User, err)
	}
	return tokens
}

// dial opens a connection without saying hello.
func dial(t testing.TB, target Target) *peer {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{wire.Protocol}, HandshakeTimeout: patience}
	socket, response, err := dialer.Dial("ws"+strings.TrimPrefix(target.URL, "http")+"/v1/ws", nil)
	if err != nil {
		t.Fatalf("dial %s: %v (%v)", target.URL, err, response)
	}
	p := &peer{t: t, target: target, socket: socket, open: map[string]chan wire.ServerFrame{}, news: make(chan struct{})}
	done := make(chan struct{})
	go func() { defer close(done); p.read() }()
	t.Cleanup(func() { _ = socket.Close(); <-done })
	return p
}

func (p *peer) read() {
	for {
		_, message, err := p.socket.ReadMessage()
		if err != nil {
			p.mu.Lock()
			p.closed = err
			for _, answer := range p.open {
				close(answer)
			}
			p.open = nil
			p.notify()
			p.mu.Unlock()
			return
		}
		for line := range bytes.SplitSeq(message, []byte("\n")) {
			var frame wire.ServerFrame
			if len(bytes.TrimSpace(line)) > 0 && json.Unmarshal(line, &frame) == nil {
				p.take(frame)
			}
		}
	}
}

func (p *peer) take(frame wire.ServerFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if answer, ok := p.open[string(frame.ID)]; ok {
		delete(p.open, string(frame.ID))
		answer <- frame
		return
	}
	p.events = append(p.events, frame)
	p.notify()
}

// notify wakes all who wait for events; the caller holds mu.
func (p *peer) notify() {
	close(p.news)
	p.news = make(chan struct{})
}

// raw sends bytes as one message.
func (p *peer) raw(message string) {
	p.t.Helper()
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.socket.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// start sends a call and returns where its answer comes.
func (p *peer) start(name string, data any) <-chan wire.ServerFrame {
	p.t.Helper()
	body, ok := data.([]byte)
	if !ok {
		var err error
		if body, err = json.Marshal(data); err != nil {
			p.t.Fatal(err)
		}
	}
	answer := make(chan wire.ServerFrame, 1)
	p.mu.Lock()
	p.next++
	id := fmt.Sprint(p.next)
	if p.open == nil {
		close(answer)
	} else {
		p.open[id] = answer
	}
	p.mu.Unlock()
	p.raw(fmt.Sprintf(`{"id":%s,"call":%q,"data":%s}`, id, name, body))
	return answer
}

// tells matches what no error may tell a client: subjects, streams, files, stacks, and what the server is made of.
var tells = regexp.MustCompile(`(?i)\bim\.|im_|\$|nats|jetstream|stream|bucket|\.go\b|goroutine|panic|/home|/tmp`)

var errNoAnswer = errors.New("the connection closed before the answer")

// try makes a call and returns what it answers.
func try[Out any](p *peer, name string, data any) (out Out, err error) {
	p.t.Helper()
	return wait[Out](p, name, p.start(name, data))
}

func wait[Out any](p *peer, name string, answer <-chan wire.ServerFrame) (out Out, err error) {
	p.t.Helper()
	select {
	case frame, ok := <-answer:
		if !ok {
			return out, errNoAnswer
		}
		if frame.Error != nil {
			if tells.MatchString(frame.Error.Message) {
				p.t.Errorf("%s tells a client of the inside: %s", name, frame.Error.Message)
			}
			return out, frame.Error
		}
		return out, json.Unmarshal(frame.OK, &out)
	case <-time.After(patience):
		p.t.Fatalf("%s of %s is not answered", name, p.user)
		return out, nil
	}
}

// call makes a call that must succeed.
func call[Out any](p *peer, name string, data any) Out {
	p.t.Helper()
	out, err := try[Out](p, name, data)
	if err != nil {
		p.t.Fatalf("%s of %s: %v", name, p.user, err)
	}
	return out
}

// refused makes a call that must fail with the code.
func refused(p *peer, want wire.Code, name string, data any) {
	p.t.Helper()
	_, err := try[json.RawMessage](p, name, data)
	if got := wire.CodeOf(err); got != want {
		p.t.Fatalf("%s of %s answers %v, want %s", name, p.user, err, want)
	}
}

// say posts a text to a conversation.
func (p *peer) say(c subjects.Conversation, format string, args ...any) wire.Posted {
	p.t.Helper()
	return call[wire.Posted](p, "send.post", wire.Post{Conversation: c, ClientID: client.NewClientID(), Body: text(format, args...)})
}

// until waits until some event satisfies match and returns it. Events that came before the call count too.
func until[Data any](p *peer, what string, event wire.Event, match func(Data) bool) Data {
	p.t.Helper()
	deadline := time.After(patience)
	seen := 0
	for {
		p.mu.Lock()
		fresh, news, closed := p.events[seen:], p.news, p.closed
		seen = len(p.events)
		p.mu.Unlock()
		for _, frame := range fresh {
			var data Data
			if frame.Event == event && json.Unmarshal(frame.Data, &data) == nil && match(data) {
				return data
			}
		}
		if closed != nil {
			p.t.Fatalf("%s: the connection of %s ended before: %v", what, p.user, closed)
		}
		select {
		case <-news:
		case <-deadline:
			p.t.Fatalf("%s: %s never got that event", what, p.user)
		}
	}
}

// entry waits for the live entry with the given seq.
func (p *peer) entry(c subjects.Conversation, seq wire.Seq) wire.Entry {
	p.t.Helper()
	return until(p, fmt.Sprintf("entry %d of %s", seq, c), wire.EventEntry, func(e wire.Entry) bool {
		return e.Conversation == c && e.Seq == seq
	})
}

// entries returns the live entries of a conversation that came so far.
func (p *peer) entries(c subjects.Conversation) []wire.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []wire.Entry
	for _, frame := range p.events {
		var e wire.Entry
		if frame.Event == wire.EventEntry && json.Unmarshal(frame.Data, &e) == nil && e.Conversation == c {
			all = append(all, e)
		}
	}
	return all
}

// ended waits until the connection is closed and returns its close code.
func (p *peer) ended() wire.CloseCode {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		closed, news := p.closed, p.news
		p.mu.Unlock()
		if closed != nil {
			var code *websocket.CloseError
			if errors.As(closed, &code) {
				return wire.CloseCode(code.Code)
			}
			return 0
		}
		select {
		case <-news:
		case <-deadline:
			p.t.Fatalf("the connection of %s is still open", p.user)
		}
	}
}

// post makes a call over HTTP.
func post[Out any](target Target, token, name string, data any) (out Out, err error) {
	body, err := json.Marshal(data)
	if err != nil {
		return out, err
	}
	path := target.URL + "/v1/call/" + strings.ReplaceAll(name, ".", "/")
	request, err := http.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		return out, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return out, err
	}
	if response.StatusCode != http.StatusOK {
		var problem wire.Problem
		if err := json.Unmarshal(answer, &problem); err != nil {
			return out, fmt.Errorf("%s: status %d: %q", name, response.StatusCode, answer)
		}
		if tells.MatchString(problem.Detail) {
			return out, fmt.Errorf("%s tells a client of the inside: %s", name, problem.Detail)
		}
		if problem.Status != response.StatusCode || problem.Code.Info().Status != response.StatusCode {
			return out, fmt.Errorf("%s: status %d does not fit %+v", name, response.StatusCode, problem)
		}
		return out, &wire.Error{Code: problem.Code, Message: problem.Detail, RetryAfterMS: problem.RetryAfterMS}
	}
	return out, json.Unmarshal(answer, &out)
}
