package edge

import (
	"maps"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of what a conversation keeps while a hole before it is being filled. Beyond them entries are dropped and fetched again.
const (
	maxPending      = 512
	maxPendingBytes = 1 << 20
)

// conversations is the table of the conversations that users with sockets here are members of. A conversation is there while somebody
// holds it: a member, or a goroutine that is about to make members.
type conversations struct {
	edge  *Edge
	mu    sync.RWMutex
	known map[subjects.Conversation]*conversation
}

// conversation is where an edge stands in one conversation: which entry was delivered last, and to which local users the next one goes.
type conversation struct {
	id   subjects.Conversation
	subs []*nats.Subscription // guarded by the table's mutex; none for a direct one, which wildcards cover

	mu       sync.Mutex
	dead     bool // it has left the table
	holds    int
	members  map[*user]wire.Seq // local members, and the first seq that each gets
	placed   bool               // last is known
	last     wire.Seq           // the newest entry that was delivered, or need not be
	pending  map[wire.Seq]entry // beyond a hole
	bytes    int                // of pending
	filling  bool
	target   wire.Seq // the newest entry that the edge has heard of
	announce bool     // once placed, members are told the head: they may have missed something
}

// find returns a conversation that the edge follows, or nil.
func (t *conversations) find(id subjects.Conversation) *conversation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[id]
}

// all returns every conversation.
func (t *conversations) all() []*conversation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Values(t.known))
}

func (t *conversations) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.known)
}

// hold returns a conversation, which is followed from now on if it was not, and keeps it until release.
func (t *conversations) hold(id subjects.Conversation) (*conversation, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.known[id]
	if c == nil {
		c = &conversation{id: id, members: map[*user]wire.Seq{}}
		if err := t.subscribe(c); err != nil {
			c.unsubscribe()
			return nil, err
		}
		t.known[id] = c
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds++
	return c, nil
}

func (t *conversations) subscribe(c *conversation) error {
	if c.id.Kind() == subjects.KindDirect {
		return nil
	}
	for _, s := range []struct {
		subject string
		feed    *feed
	}{{subjects.Live(c.id), &t.edge.feeds.live}, {subjects.Signal(c.id), &t.edge.feeds.signals}} {
		sub, err := t.edge.cfg.NATS.ChanSubscribe(s.subject, s.feed.messages)
		if err != nil {
			return err
		}
		c.subs = append(c.subs, sub)
	}
	return nil
}

func (c *conversation) unsubscribe() {
	for _, sub := range c.subs {
		_ = sub.Unsubscribe() // fails only on a closed connection
	}
}

// release undoes one hold.
func (t *conversations) release(c *conversation) {
	c.mu.Lock()
	c.holds--
	c.mu.Unlock()
	t.tidy(c)
}

// tidy forgets a conversation that nobody holds.
func (t *conversations) tidy(c *conversation) {
	c.mu.Lock()
	held := c.holds > 0 || len(c.members) > 0 || c.dead
	c.mu.Unlock()
	if held {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holds > 0 || len(c.members) > 0 || c.dead {
		return
	}
	c.dead = true
	delete(t.known, c.id)
	c.unsubscribe()
}

// joinLocked makes a local user a member who gets what comes from a seq on. It does nothing for a user who has just gone.
func (c *conversation) joinLocked(u *user, from wire.Seq) bool {
	if c.dead {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		return false
	}
	if at, joined := u.placeLocked(c.id); joined {
		u.joined[at] = c
	} else {
		u.joined = slices.Insert(u.joined, at, c)
	}
	c.members[u] = from
	return true
}

// partLocked ends a membership; the conversation may then be tidied.
func (c *conversation) partLocked(u *user) {
	delete(c.members, u)
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, joined := u.placeLocked(c.id); joined && u.joined[at] == c {
		u.joined = slices.Delete(u.joined, at, at+1)
	}
}

// part ends a membership without an entry: the user has gone, or is no member any more as the store has it.
func (t *conversations) part(c *conversation, u *user) {
	c.mu.Lock()
	c.partLocked(u)
	c.mu.Unlock()
	t.tidy(c)
}

// signal queues a frame to all local members but one.
func (c *conversation) signal(except subjects.User, frame framed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for u := range c.members {
		if u.name != except {
			u.push(frame)
		}
	}
}

// headLocked tells the local members how far the conversation is.
func (c *conversation) headLocked() {
	for u := range c.members {
		u.event(wire.EventHead, wire.HeadMoved{Conversation: c.id, Seq: c.last})
	}
}

// direct returns a direct conversation that a local user takes part in, made where it was not followed, with its local users as members.
// It returns nil where none of the two is here.
func (e *Edge) direct(id subjects.Conversation) *conversation {
	a, b, ok := id.Pair()
	if !ok {
		return nil
	}
	first, second := e.users.find(a), e.users.find(b)
	if first == nil && second == nil {
		return nil
	}
	if c := e.conversations.find(id); c != nil && c.has(first, second) {
		return c
	}
	c, err := e.conversations.hold(id)
	if err != nil {
		return nil // cannot be: it subscribes to nothing
	}
	defer e.conversations.release(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range []*user{first, second} {
		if u == nil {
			continue
		}
		if _, member := c.members[u]; !member {
			c.joinLocked(u, 1)
		}
	}
	return c
}

// has reports whether the users, of whom one may be nil, are local members.
func (c *conversation) has(first, second *user) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range []*user{first, second} {
		if _, member := c.members[u]; u != nil && !member {
			return false
		}
	}
	return !c.dead
}
