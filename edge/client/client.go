package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Client is one signed-in device. It is made by Dial, safe for use by many goroutines, and must be closed.
//
// Three goroutines live as long as it does: supervise starts all others and waits for their end, connect owns the connection, and each
// conversation with drafts has one that sends them. Locks: order before mu; eventsMu alone.
type Client struct {
	config *config
	cancel context.CancelFunc
	tasks  chan func(context.Context) // for supervise to start
	life   <-chan struct{}            // closed when the client begins to end
	ended  chan struct{}              // closed when every goroutine has ended

	events chan Event
	ids    minter

	eventsMu     sync.Mutex // guards the two below
	missed       int
	eventsClosed bool

	order  sync.Mutex // held while a draft is saved and queued, so that both orders agree
	drafts outbox     // guarded by order

	mu      sync.Mutex // guards what follows
	link    *link      // the signed-in connection, nil while there is none
	changed chan struct{}
	err     error // why the client ended
	last    error // why the last try to connect failed
	tokens  wire.Tokens
	user    subjects.User
	ahead   time.Duration // how far the server's clock is ahead of this machine's
	seen    map[subjects.Conversation]wire.Seq
	views   map[subjects.Conversation]*Conversation
	watched map[subjects.User]struct{}
}

// Dial connects to the server at address (wss://host or https://host; ws and http on loopback) and signs in. It tries until ctx ends and
// then returns the last failure; what cannot get better, such as a wrong password, is returned at once. From then on the client stays
// connected by itself until Close, or until the server ends it for good: see Err.
func Dial(ctx context.Context, address string, opts ...Option) (*Client, error) {
	config, err := configure(address, opts)
	if err != nil {
		return nil, err
	}
	if config.tokens.Token == "" && config.tokens.RefreshToken == "" && config.source == nil {
		return nil, wire.Errorf(wire.Unauthenticated, "Give a token, tokens, a password or a source of tokens.")
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &Client{
		config: config, cancel: cancel, tasks: make(chan func(context.Context)), life: life.Done(), ended: make(chan struct{}), events: make(chan Event, max(1, config.events)),
		drafts: outbox{lanes: map[subjects.Conversation]*lane{}, drafts: map[string]*draft{}},
		tokens: config.tokens, changed: make(chan struct{}), seen: map[subjects.Conversation]wire.Seq{}, views: map[subjects.Conversation]*Conversation{},
		watched: map[subjects.User]struct{}{},
	}
	go c.supervise(life)
	err = c.loadDrafts()
	if err == nil {
		_, err = c.connected(ctx)
	}
	if err == nil {
		return c, nil
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	_ = c.Close()
	switch {
	case last != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ctx.Err(), last)
	case last != nil:
		return nil, last
	}
	return nil, err
}

// Close ends the connection and every goroutine of the client, and waits for them. Drafts stay in the outbox. It is safe to call twice.
func (c *Client) Close() error {
	c.finish(ErrClosed)
	<-c.ended
	return nil
}

// Done returns a channel that is closed when the client has ended, by Close or by the server.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err returns nil while the client lives, ErrClosed after Close, and otherwise an error that wraps ErrClosed and why the server ended the
// session: a *CloseError or a *wire.Error.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// User returns who is signed in.
func (c *Client) User() subjects.User {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// now returns the time by the server's clock, as far as the client knows it. Client ids carry it, so that a machine whose clock is wrong can
// still send.
func (c *Client) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Tokens returns the newest tokens.
func (c *Client) Tokens() wire.Tokens {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens
}

// Welcome returns the answer to the newest hello; ok is false while there is no connection.
func (c *Client) Welcome() (w wire.Welcome, ok bool) {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l == nil {
		return wire.Welcome{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.welcome, true
}

// supervise starts what the client does and returns when all of it has ended.
func (c *Client) supervise(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { c.connect(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case task := <-c.tasks:
			group.Go(func() { task(ctx) })
		}
	}
	group.Wait()
	c.config.http.CloseIdleConnections()
	c.eventsMu.Lock()
	c.eventsClosed = true
	close(c.events)
	c.eventsMu.Unlock()
	close(c.ended)
}

// start runs task in a goroutine of the client, with a context that ends with it; after the end it does nothing.
func (c *Client) start(task func(context.Context)) {
	select {
	case c.tasks <- task:
	case <-c.life:
	}
}

// finish ends the client for a reason; the first one stays.
func (c *Client) finish(reason error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = reason
	}
	c.mu.Unlock()
	c.cancel()
}

// connected waits until there is a signed-in connection.
func (c *Client) connected(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, changed, err := c.link, c.changed, c.err
		c.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case l != nil && !l.over():
			return l, nil
		}
		select {
		case <-changed:
		case <-c.life:
			return nil, c.reasonToEnd()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// attach makes l the connection that calls use, or, when nil, says that there is none.
func (c *Client) attach(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
	close(c.changed)
	c.changed = make(chan struct{})
	if l != nil {
		c.last = nil
		l.mu.Lock()
		c.user, c.ahead = l.welcome.User, l.ahead
		l.mu.Unlock()
	}
}
