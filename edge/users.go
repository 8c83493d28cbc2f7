package edge

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// users is the table of the users who have sockets here.
type users struct {
	mu    sync.RWMutex
	known map[subjects.User]*user
}

// user is a user with sockets here. It is made by the first hello and forgotten with the last socket; then gone is true for ever.
type user struct {
	name subjects.User

	loading sync.Mutex // held while memberships are read; taken before any other lock
	loaded  bool       // guarded by loading: they were read at least once

	mu       sync.Mutex
	gone     bool
	entering int                                // hellos under way
	sockets  []*socket                          // one a device
	joined   []*conversation                    // sorted by id
	changed  map[subjects.Conversation]struct{} // memberships that were changed while they were being read; nil = they are not
	missed   map[subjects.Conversation]struct{} // conversations that the user was put out of until memberships are read again, see placeLateLocked

	reloading bool   // a goroutine reads the memberships again
	stale     bool   // and must do so once more
	resync    string // and then tell the clients why

	taken taken
}

// find returns a user who has sockets here, or nil.
func (t *users) find(name subjects.User) *user {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[name]
}

// all returns everybody.
func (t *users) all() []*user {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Values(t.known))
}

func (t *users) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.known)
}

// list returns the user's sockets.
func (u *user) list() []*socket {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.sockets)
}

// push queues a frame to all sockets of the user and returns to how many.
func (u *user) push(frame framed) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.sockets {
		s.push(frame)
	}
	return len(u.sockets)
}

// entry queues the event of an entry to all sockets of the user and returns to how many.
func (u *user) entry(frame framed, id subjects.Conversation, author subjects.User) int {
	if u.name != author {
		return u.push(frame)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.sockets {
		s.accompany(frame, id)
	}
	return len(u.sockets)
}

// event queues an event to all sockets of the user.
func (u *user) event(event wire.Event, data any) {
	body, err := wire.Marshal(data)
	if err != nil {
		return // a struct of package wire always encodes
	}
	u.push(eventFrame(event, body))
}

// conversations returns what the user is a member of here.
func (u *user) conversations() []*conversation {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.joined)
}

// joins returns of how many conversations the user is a member here.
func (u *user) joins() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.joined)
}

// placeLocked returns where a conversation is among those that the user has joined, or would be.
func (u *user) placeLocked(id subjects.Conversation) (at int, joined bool) {
	return slices.BinarySearchFunc(u.joined, id, func(c *conversation, id subjects.Conversation) int { return cmp.Compare(c.id, id) })
}

// onLocked returns the socket of a device, or nil.
func (u *user) onLocked(d subjects.Device) *socket {
	for _, s := range u.sockets {
		if s.session.Load().device == d {
			return s
		}
	}
	return nil
}

// enter returns the user of that name, who is made where there is none yet, and keeps him from being forgotten until admit or withdraw.
func (e *Edge) enter(name subjects.User) *user {
	e.users.mu.Lock()
	defer e.users.mu.Unlock()
	u := e.users.known[name]
	if u == nil {
		u = &user{name: name, taken: e.strangers.leave(name)}
		e.users.known[name] = u
	}
	u.mu.Lock()
	u.entering++
	u.mu.Unlock()
	return u
}

// admit gives a socket to a user that enter returned, and queues the welcome before any event can be. It returns the socket of the same
// device that this one replaces; ok is false where the user has too many.
func (u *user) admit(s *socket, sess *session, most int, welcome framed) (old *socket, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	old = u.onLocked(sess.device)
	if old == nil && len(u.sockets) >= most {
		return nil, false
	}
	s.session.Store(sess)
	u.sockets = append(slices.DeleteFunc(u.sockets, func(other *socket) bool { return other == old }), s)
	if len(welcome) > 0 {
		s.push(welcome)
	}
	return old, true
}

// withdraw undoes enter. It must be called once for each enter, after admit where that was done.
func (e *Edge) withdraw(u *user) {
	e.forget(u, func() { u.entering-- })
}

// detach takes a socket from its user. It reports whether the device has left: a newer socket may have taken its place.
func (e *Edge) detach(s *socket, sess *session) (left bool) {
	e.forget(sess.user, func() {
		before := len(sess.user.sockets)
		sess.user.sockets = slices.DeleteFunc(sess.user.sockets, func(other *socket) bool { return other == s })
		left = len(sess.user.sockets) < before
	})
	return left
}

// forget applies a change to a user, and forgets him where he has no sockets left.
func (e *Edge) forget(u *user, change func()) {
	e.users.mu.Lock()
	u.mu.Lock()
	change()
	last := len(u.sockets) == 0 && u.entering == 0 && !u.gone
	var joined []*conversation
	if last {
		u.gone = true
		delete(e.users.known, u.name)
		e.strangers.keep(u.name, u.taken, rightNow())
		u.taken = taken{} // whoever still holds the user must not write to what was handed over
		joined, u.joined = u.joined, nil
	}
	u.mu.Unlock()
	e.users.mu.Unlock()
	if !last {
		return
	}
	for _, c := range joined {
		e.conversations.part(c, u)
	}
}

// take takes one from the user's rates for a call.
func (u *user) take(e *Edge, name string, now moment) (wait time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.taken.take(e, name, now)
}

// flooded notes what a connection had taken of what is forgiven, which is closed for it.
func (u *user) flooded(refused allowance) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken.refused = max(u.taken.refused, refused)
}

// unforgiven returns what a new connection has taken from the beginning of what is forgiven.
func (u *user) unforgiven() allowance {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.taken.refused
}

// rest lets go of the allowances that are whole.
func (u *user) rest(now moment) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken.rest(now)
}
