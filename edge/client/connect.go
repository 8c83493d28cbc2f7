package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// connect keeps the client connected until ctx ends or the server says that it must not come back.
func (c *Client) connect(ctx context.Context) {
	for try := 0; ctx.Err() == nil; try++ {
		l, err := c.dial(ctx)
		at := time.Time{} // when to come back, where the server said so
		if err == nil {
			began := time.Now()
			at, err = c.serve(ctx, l)
			if time.Since(began) > c.config.most {
				try = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.last = err
		c.mu.Unlock()
		if final(err) {
			c.config.log.Error("session ended by the server", "err", err)
			c.finish(fmt.Errorf("%w: %w", ErrClosed, err))
			c.emit(&Disconnected{Err: err, Final: true})
			return
		}
		wait := c.before(try, err)
		if !at.IsZero() {
			wait, try = max(0, time.Until(at)), -1 // to come as one was told is no failure
		}
		c.config.log.Info("not connected", "err", err, "again_in", wait)
		c.emit(&Disconnected{Err: err})
		if !sleep(ctx, wait) {
			return
		}
	}
}

// before returns how long to wait before the next try: not less than the server asked for, and up to half as long again, since others were
// asked for the same.
func (c *Client) before(try int, err error) time.Duration {
	wait := pause(c.config.least, c.config.most, try)
	if e, ok := errors.AsType[*wire.Error](err); ok && e.RetryAfterMS > 0 {
		asked := time.Duration(min(e.RetryAfterMS, maxAsked.Milliseconds())) * time.Millisecond
		wait = max(wait, asked+rand.N(asked/2+1))
	}
	return wait
}

// final reports whether an error ends the client: a close code of 4500 and above, or an answer to hello or a renewal that another try
// would only repeat.
func final(err error) bool {
	if closed, ok := errors.AsType[*CloseError](err); ok {
		return !closed.Code.Reconnect()
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case wire.Unauthenticated, wire.TokenExpired, wire.TokenInQuery, wire.Forbidden, wire.BadID, wire.BadData:
		return true
	}
	return false
}

// dial opens a connection and signs in on it. A token that turns out to be expired or unknown is renewed once.
func (c *Client) dial(ctx context.Context) (*link, error) {
	renewed := false
	if c.stale() {
		if err := c.renew(ctx); err != nil {
			return nil, err
		}
		renewed = true
	}
	for {
		l, err := c.open(ctx)
		if err == nil {
			if err = c.hello(ctx, l); err == nil {
				return l, nil
			}
			l.leave(err)
			<-l.done
		}
		if renewed || !c.renewable() || !unsigned(err) {
			return nil, err
		}
		if err := c.renew(ctx); err != nil {
			return nil, err
		}
		renewed = true
	}
}

// unsigned reports whether the server did not accept the token.
func unsigned(err error) bool {
	if closed, ok := errors.AsType[*CloseError](err); ok {
		return closed.Code == wire.CloseUnauthenticated || closed.Code == wire.CloseTokenExpired
	}
	e, ok := errors.AsType[*wire.Error](err)
	return ok && (e.Code == wire.Unauthenticated || e.Code == wire.TokenExpired)
}

// open makes the WebSocket.
func (c *Client) open(ctx context.Context) (*link, error) {
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: c.config.try, Subprotocols: []string{wire.Protocol}, TLSClientConfig: http1(c.config.tls)}
	conn, response, err := dialer.DialContext(ctx, c.config.socketURL(), nil)
	if err != nil && response != nil {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
		response.Body.Close()
		return nil, problem(response, body)
	}
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return newLink(conn, c.receive), nil
}

// http1 leaves out HTTP/2, which cannot be upgraded to a WebSocket by this dialer.
func http1(t *tls.Config) *tls.Config {
	if t = t.Clone(); t != nil {
		t.NextProtos = []string{"http/1.1"}
	}
	return t
}

// hello signs in on a connection, or extends its session.
func (c *Client) hello(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.try)
	defer cancel()
	var welcome wire.Welcome
	err := callLink(ctx, l, wire.CallHello, &wire.Hello{Token: c.Tokens().Token, Device: c.config.device}, &welcome)
	if errors.Is(err, ErrInterrupted) {
		<-l.done
		return l.reason()
	}
	if err != nil {
		return err
	}
	l.welcomed(welcome)
	return nil
}

// serve uses a connection until it ends, and returns why, and when to come back if the server said so.
func (c *Client) serve(ctx context.Context, l *link) (at time.Time, err error) {
	c.attach(l)
	c.config.log.Info("connected", "user", string(c.User()))
	welcome, _ := c.Welcome()
	c.emit(&Connected{Welcome: welcome})
	c.start(func(ctx context.Context) { c.resume(ctx, l) })
	at = c.tend(ctx, l)
	c.attach(nil)
	<-l.done
	return at, l.reason()
}

// tend pings, renews the token and obeys the wish to drain while the connection lasts.
func (c *Client) tend(ctx context.Context, l *link) (at time.Time) {
	welcome, _ := c.Welcome()
	ping := time.NewTicker(time.Duration(max(1, welcome.PingSeconds)) * time.Second)
	defer ping.Stop()
	renew := time.NewTimer(l.untilRenewal())
	defer renew.Stop()
	drain := make(<-chan time.Time)
	failures := 0
	for {
		select {
		case <-ctx.Done():
			l.leave(ErrClosed)
			return at
		case <-l.done:
			return at
		case <-ping.C:
			if err := l.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWithin)); err != nil {
				l.end(fmt.Errorf("ping: %w", err))
			}
		case <-l.resync:
			c.start(func(ctx context.Context) { c.resume(ctx, l) })
		case <-l.replan:
			renew.Reset(l.untilRenewal())
		case <-renew.C:
			switch {
			case !c.renewable():
			case c.extend(ctx, l):
				failures = 0
				renew.Reset(max(c.config.least/2, l.untilRenewal())) // a clock that jumps must not make it spin
			default:
				failures++
				renew.Reset(pause(c.config.least, c.config.most, failures))
			}
		case wait := <-l.drained:
			wait += rand.N(c.config.least) // others were told the same
			at = time.Now().Add(wait)
			drain = time.After(wait)
		case <-drain:
			l.leave(&CloseError{Code: wire.CloseDraining, Reason: "the server drains"})
		}
	}
}

// extend renews the token and says hello with it on the same connection. Where that fails for good the connection is left alone: it lasts
// until the old token expires, and the next one then says what is wrong.
func (c *Client) extend(ctx context.Context, l *link) bool {
	err := c.renew(ctx)
	if err == nil {
		err = c.hello(ctx, l)
	}
	if err != nil {
		c.config.log.Warn("token not renewed", "err", err)
	}
	return err == nil
}

// untilRenewal returns how long the token needs no renewal; without an expiry, a day.
func (l *link) untilRenewal() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewAt.IsZero() {
		return 24 * time.Hour
	}
	return max(0, time.Until(l.renewAt))
}

// stale reports whether there is no token, or one that is known to be expired, and a way to get another.
func (c *Client) stale() bool {
	tokens := c.Tokens()
	old := tokens.Token == "" || (!tokens.ExpiresAt.IsZero() && time.Until(tokens.ExpiresAt.Time) <= 0)
	return old && c.renewable()
}

func (c *Client) renewable() bool { return c.config.source != nil || c.Tokens().RefreshToken != "" }

// renew gets new tokens: by the refresh token, or, where there is none or it is spent, from the source.
func (c *Client) renew(ctx context.Context) error {
	tokens := c.Tokens()
	var next wire.Tokens
	err := error(wire.Errorf(wire.TokenExpired, "The token has expired and nothing was given to renew it."))
	if tokens.RefreshToken != "" {
		err = c.config.post(ctx, "auth", "refresh", "", &wire.Refresh{RefreshToken: tokens.RefreshToken}, &next)
	}
	if err != nil && c.config.source != nil && (tokens.RefreshToken == "" || final(err)) {
		next, err = c.config.source(ctx)
	}
	if err != nil {
		return err
	}
	if c.config.refreshed != nil {
		c.config.refreshed(next)
	}
	c.mu.Lock()
	c.tokens = next
	c.mu.Unlock()
	return nil
}

// resume brings everything to the present after a connection began or the server lost its place: watched users, and the heads of
// conversations, from which views know what they miss. Neither waits for the other: messages must come where nobody's presence can be told.
func (c *Client) resume(ctx context.Context, l *link) {
	c.start(func(ctx context.Context) { c.insist(ctx, l, "watching again", c.rewatch) })
	c.insist(ctx, l, "catching up", c.catchUp)
}

// insist repeats what a connection begins with until it succeeds, or the connection ends.
func (c *Client) insist(ctx context.Context, l *link, what string, do func(context.Context, *link) error) {
	for try := 0; ctx.Err() == nil; try++ {
		err := do(ctx, l)
		select {
		case <-l.done:
			return
		default:
		}
		if err == nil {
			return
		}
		c.config.log.Warn(what+" failed", "err", err)
		if !sleep(ctx, c.before(try, err)) {
			return
		}
	}
}

// catchUp reads the heads of all conversations and tells the views.
func (c *Client) catchUp(ctx context.Context, l *link) error {
	listed := map[subjects.Conversation]bool{}
	query := wire.HeadsQuery{Limit: wire.MaxHeads}
	for {
		var heads wire.Heads
		if err := c.try(ctx, l, "history.heads", &query, &heads); err != nil {
			return err
		}
		for _, head := range heads.Conversations {
			listed[head.Conversation] = true
			c.see(head.Conversation, head.Head.Seq, nil)
		}
		if heads.Next == "" {
			break
		}
		query.After = heads.Next
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, view := range c.views {
		if !listed[id] {
			view.check() // the user may not be a member any more
		}
	}
	return nil
}

// rewatch asks again for the presence of the users that are watched; the answers are events.
func (c *Client) rewatch(ctx context.Context, l *link) error {
	c.mu.Lock()
	users := slices.Collect(maps.Keys(c.watched))
	c.mu.Unlock()
	for batch := range slices.Chunk(users, wire.MaxWatched) {
		var presences wire.Presences
		if err := c.try(ctx, l, wire.CallWatch, &wire.UsersQuery{Users: batch}, &presences); err != nil {
			return err
		}
		for u, p := range presences.Users {
			c.emit(&wire.PresenceChange{User: u, State: p.State, Status: p.Status, LastSeen: p.LastSeen})
		}
	}
	return nil
}
