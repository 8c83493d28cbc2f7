package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Call makes any call of the protocol once, such as Call[wire.PageQuery, wire.Page](ctx, c, "history.page", query), also one that this
// package does not know. It waits for a connection as long as ctx allows, and for the answer 40 seconds where ctx has no deadline. The error is a *wire.Error where the server answered;
// ErrInterrupted and a code that is marked unknown mean that the call may have taken effect.
func Call[In, Out any](ctx context.Context, c *Client, name string, in In) (Out, error) {
	var out Out
	l, err := c.connected(ctx)
	if err != nil {
		return out, err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, mostPatience, wire.Errorf(wire.Timeout, "No answer to %s came within %s.", name, mostPatience))
		defer cancel()
	}
	if err = callLink(ctx, l, name, in, &out); errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return out, err
}

// mostPatience is longer than any server works on a call, so that its own code says what went wrong.
const mostPatience = 40 * time.Second

// try makes one call on one connection, within the time of one try.
func (c *Client) try(ctx context.Context, l *link, name string, in, out any) error {
	limited, cancel := context.WithTimeout(ctx, c.config.try)
	defer cancel()
	err := callLink(limited, l, name, in, out)
	if limited.Err() != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return wire.Errorf(wire.Timeout, "No answer to %s came within %s.", name, c.config.try)
	}
	return err
}

func callLink(ctx context.Context, l *link, name string, in, out any) error {
	data, err := wire.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	answer, err := l.call(ctx, name, data)
	if errors.Is(err, &wire.Error{Code: wire.TokenExpired}) {
		l.expires(&wire.Time{}) // renewed at once
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read the answer to %s: %w", name, err)
	}
	return nil
}

// repeat makes a call that does no harm when it is made twice, until the server has answered with a definite code or ctx ends.
func repeat[Out any](ctx context.Context, c *Client, name string, in any) (Out, error) {
	for try := 0; ; try++ {
		var out Out
		l, err := c.connected(ctx)
		if err != nil {
			return out, err
		}
		if err = c.try(ctx, l, name, in, &out); err == nil {
			return out, nil
		}
		wait, again := c.again(err, try)
		if !again {
			return out, err
		}
		if !sleep(ctx, wait) {
			return out, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// again reports whether a call that failed is worth another try, and after which pause.
func (c *Client) again(err error, try int) (time.Duration, bool) {
	if errors.Is(err, ErrInterrupted) {
		return 0, true
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return 0, false
	}
	transient := e.Code.Info().Unknown || e.Code == wire.RateLimited || e.Code == wire.TokenExpired || e.Code == wire.Unauthenticated
	return c.before(try, err), transient
}

// Heads returns the user's conversations with their newest entries, in ascending order, a page at a time.
func (c *Client) Heads(ctx context.Context, q wire.HeadsQuery) (wire.Heads, error) {
	return repeat[wire.Heads](ctx, c, "history.heads", &q)
}

// Page returns a page of history.
func (c *Client) Page(ctx context.Context, q wire.PageQuery) (wire.Page, error) {
	return repeat[wire.Page](ctx, c, "history.page", &q)
}

// Entries decodes the entries of a page.
func Entries(p wire.Page) ([]wire.Entry, error) {
	entries := make([]wire.Entry, len(p.Entries))
	for i, raw := range p.Entries {
		if err := json.Unmarshal(raw, &entries[i]); err != nil {
			return nil, fmt.Errorf("read entry %d of a page: %w", i, err)
		}
	}
	return entries, nil
}

// Create makes a group or a channel. With an id it may be repeated after an unknown outcome: conflict then means that it is there.
func (c *Client) Create(ctx context.Context, in wire.Create) (wire.ConversationInfo, error) {
	return Call[*wire.Create, wire.ConversationInfo](ctx, c, "conversations.create", &in)
}

// Info returns what a conversation is (conversations.get).
func (c *Client) Info(ctx context.Context, id subjects.Conversation) (wire.ConversationInfo, error) {
	return repeat[wire.ConversationInfo](ctx, c, "conversations.get", &wire.ConversationQuery{Conversation: id})
}

// Update changes the title or the policy of a conversation.
func (c *Client) Update(ctx context.Context, in wire.Update) (wire.Changed, error) {
	return Call[*wire.Update, wire.Changed](ctx, c, "conversations.update", &in)
}

// Members returns the members of a conversation, a page at a time.
func (c *Client) Members(ctx context.Context, q wire.MembersQuery) (wire.Members, error) {
	return repeat[wire.Members](ctx, c, "conversations.members", &q)
}

// Join makes the user a reader of a channel.
func (c *Client) Join(ctx context.Context, id subjects.Conversation) (wire.Changed, error) {
	return Call[*wire.ConversationQuery, wire.Changed](ctx, c, "conversations.join", &wire.ConversationQuery{Conversation: id})
}

// Leave ends the user's membership.
func (c *Client) Leave(ctx context.Context, id subjects.Conversation) (wire.Changed, error) {
	return Call[*wire.ConversationQuery, wire.Changed](ctx, c, "conversations.leave", &wire.ConversationQuery{Conversation: id})
}

// Add makes somebody a member.
func (c *Client) Add(ctx context.Context, in wire.MemberUpdate) (wire.Changed, error) {
	return Call[*wire.MemberUpdate, wire.Changed](ctx, c, "conversations.add", &in)
}

// Remove ends somebody's membership.
func (c *Client) Remove(ctx context.Context, in wire.MemberUpdate) (wire.Changed, error) {
	return Call[*wire.MemberUpdate, wire.Changed](ctx, c, "conversations.remove", &in)
}

// SetRole gives a member another role.
func (c *Client) SetRole(ctx context.Context, in wire.MemberUpdate) (wire.Changed, error) {
	return Call[*wire.MemberUpdate, wire.Changed](ctx, c, "conversations.role", &in)
}

// Mark raises the user's marks in a conversation; they never go back.
func (c *Client) Mark(ctx context.Context, in wire.MarkQuery) (wire.Marked, error) {
	return repeat[wire.Marked](ctx, c, "receipts.mark", &in)
}

// Who returns who has read and who has received an entry.
func (c *Client) Who(ctx context.Context, in wire.ReadersQuery) (wire.Readers, error) {
	return repeat[wire.Readers](ctx, c, "receipts.who", &in)
}

// SetPresence sets the user's own state, for all devices.
func (c *Client) SetPresence(ctx context.Context, in wire.PresenceSetting) error {
	_, err := repeat[wire.Empty](ctx, c, "presence.set", &in)
	return err
}

// Presence returns the states of at most MaxWatched users.
func (c *Client) Presence(ctx context.Context, users ...subjects.User) (wire.Presences, error) {
	return repeat[wire.Presences](ctx, c, "presence.get", &wire.UsersQuery{Users: users})
}

// Watch returns the states of at most MaxWatched users and asks for an event at every change, which the client also does after each
// reconnect until Unwatch.
func (c *Client) Watch(ctx context.Context, users ...subjects.User) (wire.Presences, error) {
	out, err := repeat[wire.Presences](ctx, c, wire.CallWatch, &wire.UsersQuery{Users: users})
	if err == nil {
		c.mu.Lock()
		for _, u := range users {
			c.watched[u] = struct{}{}
		}
		c.mu.Unlock()
	}
	return out, err
}

// Unwatch ends the events of Watch for these users.
func (c *Client) Unwatch(ctx context.Context, users ...subjects.User) error {
	c.mu.Lock()
	for _, u := range users {
		delete(c.watched, u)
	}
	c.mu.Unlock()
	_, err := repeat[json.RawMessage](ctx, c, wire.CallUnwatch, &wire.UsersQuery{Users: users})
	return err
}

// Signal tells the other members something that is never stored, such as that the user is typing. Nothing is answered: without a
// connection it is ErrNotConnected, and otherwise it may be lost.
func (c *Client) Signal(in wire.Signal) error {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l == nil {
		return ErrNotConnected
	}
	data, err := wire.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode signal: %w", err)
	}
	return l.write(nil, wire.CallSignal, data)
}

// Ping makes a call that does nothing, and returns how long it took.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	_, err := Call[wire.Empty, json.RawMessage](ctx, c, wire.CallPing, wire.Empty{})
	return time.Since(start), err
}

// Logout ends this session, another one, or all of the user; the server then closes their connections, so the client may end with it.
func (c *Client) Logout(ctx context.Context, in wire.Logout) error {
	_, err := Call[*wire.Logout, wire.Empty](ctx, c, "auth.logout", &in)
	return err
}
