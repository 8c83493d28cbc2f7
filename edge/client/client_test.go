package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func text(n int) json.RawMessage { return json.RawMessage(fmt.Sprintf(`{"text":"%d"}`, n)) }

// follow reads n entries and fails unless their seqs are dense from first.
func follow(t *testing.T, v *Conversation, first wire.Seq, n int) {
	t.Helper()
	for i := range n {
		e, err := v.Next(within(t))
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if e.Seq != first+wire.Seq(i) {
			t.Fatalf("seq %d instead of %d", e.Seq, first+wire.Seq(i))
		}
	}
}

func TestAPostReturnsWhenItIsStored(t *testing.T) {
	p := newPeer(t)
	c := p.dial()
	posted, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: text(1)})
	if err != nil || posted.Seq != 1 || posted.Conversation != "g.a" || c.User() != "ada" {
		t.Fatalf("%+v, %v as %s", posted, err, c.User())
	}
	posted, err = c.Post(within(t), wire.Post{To: "bob", ClientID: "mine", Body: text(1)})
	if err != nil || posted.Conversation != "d.ada.bob" || p.tries["mine"] != 1 {
		t.Fatalf("%+v, %v", posted, err)
	}
	if _, err := c.Post(within(t), wire.Post{To: "ada", Body: text(1)}); wire.CodeOf(err) != wire.BadData {
		t.Errorf("to oneself: %v", err)
	}
	if _, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: json.RawMessage(`"x"`)}); wire.CodeOf(err) != wire.BadData {
		t.Errorf("a body that is no object: %v", err)
	}
}

// TestSendsSurviveEveryFault loses answers, connections and tries, and expects every post once, in order.
func TestSendsSurviveEveryFault(t *testing.T) {
	p := newPeer(t)
	var n atomic.Int64
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call != "send.post" {
			return false
		}
		switch n.Add(1) % 7 {
		case 1: // never stored, and no answer
			p.cut()
		case 2: // stored, and the answer is lost with the connection
			p.store(f)
			p.cut()
		case 3:
			s.fail(f, wire.StorageUnavailable)
		case 4:
			p.store(f)
			s.fail(f, wire.Timeout)
		case 5:
			s.write(wire.AppendError(nil, f.ID, &wire.Error{Code: wire.RateLimited, Message: "Slow down.", RetryAfterMS: 3}))
		case 6:
			s.fail(f, "a_code_of_a_later_release")
		default:
			return false
		}
		return true
	}
	c := p.dial()
	var group sync.WaitGroup
	for lane := range 3 {
		id := subjects.Conversation(fmt.Sprintf("g.%d", lane))
		group.Go(func() {
			for i := range 15 {
				if _, err := c.Post(within(t), wire.Post{Conversation: id, Body: text(i)}); err != nil {
					t.Errorf("post %d to %s: %v", i, id, err)
				}
			}
		})
	}
	group.Wait()
	for id, entries := range p.log {
		if len(entries) != 15 {
			t.Errorf("%s has %d entries", id, len(entries))
		}
		for i, e := range entries {
			if string(e.Body) != string(text(i)) {
				t.Errorf("%s: entry %d is %s", id, i, e.Body)
			}
		}
	}
	if p.dials < 5 {
		t.Errorf("only %d connections: the faults did not hit", p.dials)
	}
}

func TestARefusedPostIsNotRepeated(t *testing.T) {
	p := newPeer(t)
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call == "send.post" {
			s.fail(f, wire.Forbidden)
		}
		return f.Call == "send.post"
	}
	c := p.dial()
	_, err := c.Post(within(t), wire.Post{Conversation: "c.news", Body: text(1)})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Forbidden || p.count("send.post") != 1 {
		t.Errorf("%v after %d tries", err, p.count("send.post"))
	}
}

func TestPostsOfOneConversationKeepTheirOrder(t *testing.T) {
	p := newPeer(t)
	c := p.dial()
	p.cut()
	var group sync.WaitGroup
	for i := range 30 { // queued while there is no connection, one after another
		before := c.waiting()
		group.Go(func() {
			if _, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: text(i)}); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "queued or sent", func() bool { return c.waiting() != before || p.stored("g.a") > i })
	}
	group.Wait()
	for i, e := range p.log["g.a"] {
		if string(e.Body) != string(text(i)) {
			t.Errorf("entry %d is %s", i, e.Body)
		}
	}
}

func (c *Client) waiting() int {
	c.order.Lock()
	defer c.order.Unlock()
	return len(c.drafts.drafts)
}

func (p *peer) stored(id subjects.Conversation) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log[id])
}

func TestDraftsSurviveARestart(t *testing.T) {
	p := newPeer(t)
	var deaf atomic.Bool
	deaf.Store(true)
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call == "send.post" && deaf.Load() {
			p.store(f) // stored, and nobody hears of it
			return true
		}
		return false
	}
	path := filepath.Join(t.TempDir(), "outbox")
	box, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	c := p.dial(WithOutbox(box))
	for i := range 3 {
		go func() { _, _ = c.Post(t.Context(), wire.Post{Conversation: "g.a", Body: text(i)}) }()
		eventually(t, "saved", func() bool { return c.waiting() == i+1 })
	}
	eventually(t, "the first is tried", func() bool { return p.stored("g.a") == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_ = box.Close()
	deaf.Store(false)
	if box, err = OpenFileOutbox(path); err != nil {
		t.Fatal(err)
	}
	c = p.dial(WithOutbox(box))
	sent := map[wire.Seq]string{}
	for len(sent) < 3 {
		if e, ok := (<-c.Events()).(*Sent); ok {
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			var post wire.Post
			_ = json.Unmarshal(e.Draft.Data, &post)
			sent[e.Posted.Seq] = string(post.Body)
		}
	}
	for i := range 3 {
		if sent[wire.Seq(i+1)] != string(text(i)) {
			t.Errorf("seq %d is %s", i+1, sent[wire.Seq(i+1)])
		}
	}
	if p.stored("g.a") != 3 {
		t.Errorf("%d entries", p.stored("g.a"))
	}
	if left, _ := box.Load(); len(left) != 0 {
		t.Errorf("%d drafts are left", len(left))
	}
	_ = c.Close()
	_ = box.Close()
}

// TestOldDraftsAreLookedUp: beyond the window in which repeats are recognised, the client looks in history before it sends anew.
func TestOldDraftsAreLookedUp(t *testing.T) {
	p := newPeer(t)
	p.script = func(s *socket, f wire.Frame) bool {
		var post wire.Post
		if f.Call != "send.post" || json.Unmarshal(f.Data, &post) != nil || (post.ClientID != "old-stored" && post.ClientID != "old-lost" && post.ClientID != "own-lost") {
			return false
		}
		s.fail(f, wire.RetryWindowExpired)
		return true
	}
	for i := range 450 {
		p.say("g.a", fmt.Sprint(i))
	}
	p.mu.Lock()
	p.appendLocked("g.a", wire.Entry{From: "ada", ClientID: "old-stored", Body: text(1)})
	p.mu.Unlock()
	box := &MemoryOutbox{}
	for _, id := range []string{"old-stored", "old-lost", "own-lost"} {
		data := json.RawMessage(`{"conversation":"g.a","client_id":"` + id + `","body":{"text":"x"}}`)
		_ = box.Save(Draft{ClientID: id, Minted: id != "own-lost", Call: "send.post", Conversation: "g.a", Data: data, At: wire.At(time.Now().Add(-time.Hour))})
	}
	c := p.dial(WithOutbox(box), WithEventBuffer(1000))
	var got []*Sent
	for len(got) < 3 {
		if e, ok := (<-c.Events()).(*Sent); ok {
			got = append(got, e)
		}
	}
	if got[0].Err != nil || got[0].Posted.Seq != 451 || !got[0].Posted.Duplicate {
		t.Errorf("the stored one: %+v", got[0])
	}
	if got[1].Err != nil || got[1].Posted.Seq != 452 || got[1].Draft.ClientID == "old-lost" {
		t.Errorf("the lost one: %+v", got[1])
	}
	if wire.CodeOf(got[2].Err) != wire.RetryWindowExpired {
		t.Errorf("the lost one whose id the program chose: %+v", got[2])
	}
}

func TestAViewFillsHolesAndDropsRepeats(t *testing.T) {
	p := newPeer(t)
	for i := range 5 {
		p.say("g.a", fmt.Sprint(i))
	}
	c := p.dial()
	v, err := c.Follow("g.a", 2)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, v, 3, 3)
	if _, err := c.Follow("g.a", 0); err == nil {
		t.Error("a second view of a conversation was opened")
	}
	e6 := p.say("g.a", "six")
	p.broadcast(e6)
	p.broadcast(e6)
	follow(t, v, 6, 1)
	p.say("g.a", "seven, which nobody hears of")
	e8 := p.say("g.a", "eight")
	p.broadcast(e8)
	p.broadcast(e6)
	follow(t, v, 7, 2)
	e9, e10 := p.say("g.a", "nine"), p.say("g.a", "ten")
	p.broadcast(e10)
	p.broadcast(e9)
	follow(t, v, 9, 2)
	p.say("g.a", "eleven, of which a head event tells")
	p.event(wire.EventHead, wire.HeadMoved{Conversation: "g.a", Seq: 11})
	follow(t, v, 11, 1)
	p.say("g.a", "twelve, found after a resync")
	p.event(wire.EventResync, wire.Resync{Reason: "slow consumer"})
	follow(t, v, 12, 1)
	p.cut()
	for range 300 {
		p.say("g.a", "while away")
	}
	follow(t, v, 13, 300)
	v.Close()
	if _, err := v.Next(within(t)); !errors.Is(err, ErrViewClosed) {
		t.Errorf("after Close: %v", err)
	}
	if v, err = c.Follow("g.a", 310); err != nil {
		t.Fatal(err)
	}
	follow(t, v, 311, 2)
}

// TestASlowReaderOfAViewMissesNothing: what does not fit is fetched when its turn comes.
func TestASlowReaderOfAViewMissesNothing(t *testing.T) {
	p := newPeer(t)
	c := p.dial()
	v, err := c.Follow("g.a", 0)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3*mostReady + 17
	for i := range n {
		p.broadcast(p.say("g.a", fmt.Sprint(i)))
	}
	if _, err := c.Ping(within(t)); err != nil { // all of it was read before the answer
		t.Fatal(err)
	}
	v.mu.Lock()
	ready, ahead := len(v.ready), len(v.ahead)
	v.mu.Unlock()
	if ready > mostReady || ahead > mostAhead {
		t.Errorf("%d ready and %d ahead", ready, ahead)
	}
	follow(t, v, 1, n)
}

func TestAViewOverErasedAndLateEntries(t *testing.T) {
	p := newPeer(t)
	for i := range 10 {
		p.say("g.a", fmt.Sprint(i))
	}
	p.log["g.a"][3].Kind = "" // entry 4 is erased
	stale := atomic.Int64{}
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call != "history.page" || stale.Add(-1) < 0 {
			return false
		}
		s.ok(f, wire.Page{Entries: []json.RawMessage{}}) // a replica that lags behind
		return true
	}
	c := p.dial()
	v, err := c.Follow("g.a", 0)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, v, 1, 3)
	follow(t, v, 5, 6)
	eventually(t, "caught up", func() bool { _, needed := v.missing(); return !needed })
	stale.Store(3)
	p.say("g.a", "eleven")
	p.broadcast(p.say("g.a", "twelve"))
	follow(t, v, 11, 2)
}

func TestAViewEndsWithTheMembership(t *testing.T) {
	p := newPeer(t)
	p.say("g.a", "one")
	var gone atomic.Bool
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call == "history.page" && gone.Load() {
			s.fail(f, wire.NotFound)
			return true
		}
		return false
	}
	c := p.dial()
	v, err := c.Follow("g.a", 0)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, v, 1, 1)
	gone.Store(true)
	p.broadcast(p.say("g.a", "the removal"))
	p.event(wire.EventConversation, wire.ConversationChange{Conversation: "g.a", Change: wire.ChangeConversationRemoved})
	follow(t, v, 2, 1)
	for _, err := range v.All(within(t)) {
		if wire.CodeOf(err) != wire.NotFound {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestCloseCodesDecideWhetherToComeBack(t *testing.T) {
	for _, code := range wire.CloseCodes {
		t.Run(fmt.Sprint(code.Code), func(t *testing.T) {
			p := newPeer(t)
			c := p.dial()
			if code.Code == 1009 || code.Code < 4000 {
				return // sent by the libraries; the rule is the same as for a cut
			}
			p.close(code.Code)
			if code.Code.Reconnect() {
				eventually(t, "connected again", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.hellos) >= 2 })
				if c.Err() != nil {
					t.Error(c.Err())
				}
				return
			}
			<-c.Done()
			var closed *CloseError
			if err := c.Err(); !errors.Is(err, ErrClosed) || !errors.As(err, &closed) || closed.Code != code.Code {
				t.Errorf("ended with %v", err)
			}
			if _, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: text(1)}); !errors.Is(err, ErrClosed) {
				t.Errorf("a post after the end: %v", err)
			}
			var last Event
			for e := range c.Events() {
				last = e
			}
			if d, ok := last.(*Disconnected); !ok || !d.Final {
				t.Errorf("the last event is %#v", last)
			}
		})
	}
}

func TestADrainingEdgeIsLeftAsTold(t *testing.T) {
	p := newPeer(t)
	c := p.dial()
	p.event(wire.EventDraining, wire.Draining{ReconnectAfterMS: 20})
	eventually(t, "connected again", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.hellos) == 2 })
	if _, err := c.Ping(within(t)); err != nil {
		t.Error(err)
	}
}

func TestASilentServerIsLeft(t *testing.T) {
	p := newPeer(t)
	p.welcome.PingSeconds = 1
	c := p.dial()
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	l.mu.Lock()
	l.silence = 50 * time.Millisecond // instead of seven seconds
	l.mu.Unlock()
	if _, err := c.Ping(within(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected again", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.hellos) >= 2 })
}

func TestTokensAreRenewedAheadOfTheirEnd(t *testing.T) {
	p := newPeer(t)
	var renewals atomic.Int64
	p.http = func(path string, body []byte) (any, *wire.Error) {
		n := renewals.Add(1)
		if path != "/v1/call/auth/refresh" || !strings.Contains(string(body), fmt.Sprintf(`"r%d"`, n)) {
			return nil, wire.Errorf(wire.Unauthenticated, "%s with %s", path, body)
		}
		return wire.Tokens{Token: fmt.Sprintf("t%d", n+1), RefreshToken: fmt.Sprintf("r%d", n+1), ExpiresAt: wire.At(time.Now().Add(time.Hour)), User: "ada"}, nil
	}
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call != wire.CallHello {
			return false
		}
		life := 50 * time.Millisecond // of the first two tokens
		if renewals.Load() >= 2 {
			life = time.Hour
		}
		p.mu.Lock()
		p.welcome.ServerTime = wire.At(time.Now().Add(-8 * time.Hour)) // clocks differ
		p.welcome.ExpiresAt = wire.At(p.welcome.ServerTime.Add(life))
		p.mu.Unlock()
		return false
	}
	var kept []string
	var mu sync.Mutex
	p.dial(WithTokens(wire.Tokens{Token: "t1", RefreshToken: "r1"}), WithRefresh(func(tokens wire.Tokens) {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, tokens.RefreshToken)
	}))
	eventually(t, "two renewals", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.hellos) == 3 })
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(kept, []string{"r2", "r3"}) || p.hellos[2].Token != "t3" || p.dials != 1 {
		t.Errorf("kept %q, said hello with %q on %d connections", kept, p.hellos, p.dials)
	}
}

func TestAnExpiredTokenIsRenewedAtTheDoor(t *testing.T) {
	p := newPeer(t)
	var logins atomic.Int64
	p.http = func(path string, _ []byte) (any, *wire.Error) {
		if path == "/v1/call/auth/refresh" {
			return nil, wire.Errorf(wire.Unauthenticated, "Spent.")
		}
		logins.Add(1)
		return wire.Tokens{Token: "good", RefreshToken: "r", User: "ada", ExpiresAt: wire.At(time.Now().Add(time.Hour))}, nil
	}
	p.script = func(s *socket, f wire.Frame) bool {
		var hello wire.Hello
		if f.Call != wire.CallHello || wire.Decode(f.Data, &hello) != nil || hello.Token == "good" {
			return false
		}
		s.fail(f, wire.TokenExpired)
		return true
	}
	c := p.dial(WithTokens(wire.Tokens{Token: "old", RefreshToken: "spent"}), WithPassword("ada", "password"))
	if c.Tokens().Token != "good" || logins.Load() != 1 {
		t.Errorf("%+v after %d logins", c.Tokens(), logins.Load())
	}
	if _, err := Dial(within(t), p.URL, WithToken("old"), quick()); wire.CodeOf(err) != wire.TokenExpired {
		t.Errorf("without a way to renew: %v", err)
	}
	p.http = func(string, []byte) (any, *wire.Error) { return nil, wire.Errorf(wire.Unauthenticated, "Wrong.") }
	if _, err := Dial(within(t), p.URL, WithPassword("ada", "wrong"), quick()); wire.CodeOf(err) != wire.Unauthenticated {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestDialTriesUntilItsContextEnds(t *testing.T) {
	p := newPeer(t)
	p.refuse = 503
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, p.URL, WithToken("t"), quick())
	if !errors.Is(err, context.DeadlineExceeded) || wire.CodeOf(err) != wire.Unavailable || p.dials < 2 {
		t.Errorf("%v after %d tries", err, p.dials)
	}
	p.refuse = 403
	if _, err := Dial(within(t), p.URL, WithToken("t"), quick()); wire.CodeOf(err) != wire.Forbidden {
		t.Errorf("refused: %v", err)
	}
	for _, address := range []string{"ws://chat.example", "http://10.0.0.1:80", "ftp://localhost", "localhost:80", "wss://", "ws://localhost?token=x", "ws://ada@localhost", "%"} {
		if _, err := Dial(within(t), address, WithToken("t")); err == nil {
			t.Errorf("%s was dialled", address)
		}
	}
	if _, err := Dial(within(t), p.URL); wire.CodeOf(err) != wire.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	if _, err := Dial(within(t), p.URL, WithToken("t"), WithDevice("No!")); !errors.Is(err, subjects.ErrBadID) {
		t.Errorf("with a bad device: %v", err)
	}
}

func TestWatchedUsersAreWatchedAgain(t *testing.T) {
	p := newPeer(t)
	c := p.dial()
	out, err := c.Watch(within(t), "bob", "cy")
	if err != nil || out.Users["bob"].State != wire.StateOnline {
		t.Fatalf("%+v, %v", out, err)
	}
	if err := c.Unwatch(within(t), "cy"); err != nil {
		t.Fatal(err)
	}
	p.cut()
	for {
		if e, ok := (<-c.Events()).(*wire.PresenceChange); ok {
			if e.User != "bob" {
				t.Errorf("%s is watched", e.User)
			}
			break
		}
	}
}

func TestASlowReaderOfEventsHoldsUpNothing(t *testing.T) {
	p := newPeer(t)
	var called atomic.Int64
	c := p.dial(WithEventBuffer(4), WithOnEvent(func(e Event) {
		if _, ok := e.(*wire.Signal); ok {
			called.Add(1)
		}
	}))
	for range 50 {
		p.event(wire.EventSignal, wire.Signal{Conversation: "g.a", User: "bob", Kind: "typing"})
	}
	p.event("of_a_later_release", 7)
	p.event(wire.EventEntry, "not an entry")
	if _, err := c.Ping(within(t)); err != nil {
		t.Fatal(err)
	}
	if called.Load() != 50 {
		t.Errorf("the callback saw %d of 50", called.Load())
	}
	held := 0
	for range 4 {
		<-c.Events()
		held++
	}
	p.event(wire.EventSignal, wire.Signal{Conversation: "g.a", User: "bob", Kind: "typing"})
	missed, ok := (<-c.Events()).(*Missed)
	if !ok || missed.Count != 51-held {
		t.Errorf("%+v", missed)
	}
}

func TestCallsEndWithTheirContextAndTheClient(t *testing.T) {
	p := newPeer(t)
	p.script = func(_ *socket, f wire.Frame) bool { return f.Call == "history.page" || f.Call == "conversations.join" } // never answered
	c := p.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Page(ctx, wire.PageQuery{Conversation: "g.a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the context: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := c.Join(t.Context(), "c.news")
		done <- err
	}()
	eventually(t, "called", func() bool { return p.count("conversations.join") == 1 })
	p.cut()
	if err := <-done; !errors.Is(err, ErrInterrupted) {
		t.Errorf("after a cut: %v", err)
	}
	go func() {
		_, err := c.Page(t.Context(), wire.PageQuery{Conversation: "g.a"})
		done <- err
	}()
	eventually(t, "called", func() bool { return p.count("history.page") >= 2 })
	_ = c.Close()
	if err := <-done; !errors.Is(err, ErrClosed) && !errors.Is(err, ErrInterrupted) {
		t.Errorf("after Close: %v", err)
	}
	if err := c.Signal(wire.Signal{Conversation: "g.a", Kind: "typing"}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("a signal after Close: %v", err)
	}
	if _, err := c.Heads(t.Context(), wire.HeadsQuery{}); !errors.Is(err, ErrClosed) {
		t.Errorf("heads after Close: %v", err)
	}
	if _, err := c.Follow("g.a", 0); !errors.Is(err, ErrClosed) {
		t.Errorf("a view after Close: %v", err)
	}
}
