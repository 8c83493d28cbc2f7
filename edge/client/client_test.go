package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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

// pauses notes how long a client says that it waits.
type pauses struct {
	slog.Handler
	after chan time.Duration
}

func (p *pauses) Enabled(context.Context, slog.Level) bool { return true }

func (p *pauses) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "again_in" {
			p.after <- a.Value.Duration()
		}
		return true
	})
	return nil
}

// Nobody is back yet of an edge that restarts when the first of its clients come: they wait as after a first try.
func TestToComeAsToldIsNoFailure(t *testing.T) {
	p := newPeer(t)
	log := &pauses{slog.DiscardHandler, make(chan time.Duration, 1000)}
	const least = 20 * time.Millisecond
	p.dial(WithLog(slog.New(log)), func(c *config) { c.least, c.most = least, time.Minute })
	for range 12 {
		p.mu.Lock()
		p.refuse = http.StatusServiceUnavailable
		p.mu.Unlock()
		p.event(wire.EventDraining, wire.Draining{ReconnectAfterMS: 1})
		<-log.after // as it was told
		wait := <-log.after
		p.mu.Lock()
		hellos := len(p.hellos)
		p.refuse, p.sockets = 0, nil
		p.mu.Unlock()
		if wait < least || wait >= 4*least {
			t.Errorf("waits for %v after its first try", wait)
		}
		eventually(t, "connected again", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.hellos) > hellos && len(p.sockets) > 0 })
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

func TestNoMoreCallsAreOpenThanTheServerTakes(t *testing.T) {
	p := newPeer(t)
	p.welcome.Limits.OpenCalls = 2
	c := p.dial()
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	eventually(t, "two places", func() bool { return cap(l.slots)-len(l.slots) == 2 })
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := c.Ping(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
