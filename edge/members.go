package edge

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of the reading of memberships.
const (
	loadsAtOnce  = 2 * wire.MaxTogether // many share a call
	loadWithin   = 5 * time.Second
	reloadPause  = time.Second // after one that failed
	removalCheck = 100 * time.Millisecond
	removalWait  = 1500 * time.Millisecond
	maxTouched   = 20_000 // conversations that a user's calls may make the edge follow
)

// ensureLoaded reads the memberships of a user who has just come.
func (e *Edge) ensureLoaded(ctx context.Context, u *user) error {
	u.loading.Lock()
	defer u.loading.Unlock()
	if u.loaded {
		return nil
	}
	if err := e.load(ctx, u, false); err != nil {
		return err
	}
	u.loaded = true
	return nil
}

// load makes the user a local member of what the store says, and of nothing else. It is exact, although memberships change meanwhile:
//
// Where a conversation is followed already, every change comes as an entry, and entries win over what was read (user.changed). Where it is
// not, the edge first follows it and learns where it stands, and then reads the memberships again: who is removed after that is removed by
// an entry yet to come, for the store of members changes before the log when it restricts, and after it when it permits. Where nobody tells where it stands, who is a member is
// as good as was read only until somebody does: see placeLateLocked.
//
// The caller holds u.loading.
func (e *Edge) load(ctx context.Context, u *user, announce bool) error {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	l := loader{edge: e, user: u, late: u.loaded, held: map[subjects.Conversation]*conversation{}}
	u.mu.Lock()
	u.changed = map[subjects.Conversation]struct{}{}
	u.mu.Unlock()
	defer l.end()
	for try := 1; ; try++ {
		mine, err := e.membershipsFor(ctx, u.name)
		if err != nil {
			return err
		}
		unplaced, err := l.hold(mine)
		if err != nil {
			return errNoNATS
		}
		if len(unplaced) == 0 || try == 3 || !l.place(ctx, unplaced) {
			l.apply(mine, announce)
			return nil
		}
	}
}

// loader is the state of one load.
type loader struct {
	edge *Edge
	user *user
	late bool // the user's clients have been connected for a while: they are told what is new
	held map[subjects.Conversation]*conversation
}

// end lets go of the conversations; those with members stay.
func (l *loader) end() {
	l.user.mu.Lock()
	l.user.changed = nil
	l.user.mu.Unlock()
	for _, c := range l.held {
		l.edge.conversations.release(c)
	}
}

// hold follows the conversations, and returns those of which it is not known where they stand.
func (l *loader) hold(mine []wire.Membership) (unplaced []wire.Membership, err error) {
	for _, m := range mine {
		if m.Conversation.Kind() == subjects.KindDirect {
			continue
		}
		c := l.held[m.Conversation]
		if c == nil {
			if c, err = l.edge.conversations.hold(m.Conversation); err != nil {
				return nil, err
			}
			l.held[m.Conversation] = c
		}
		c.mu.Lock()
		if !c.placed {
			unplaced = append(unplaced, m)
		}
		c.mu.Unlock()
	}
	return unplaced, nil
}

// place asks where conversations stand. It reports whether that was answered.
func (l *loader) place(ctx context.Context, unplaced []wire.Membership) bool {
	ids := make([]subjects.Conversation, len(unplaced))
	for i, m := range unplaced {
		ids[i] = m.Conversation
	}
	heads, err := l.edge.headsFor(ctx, ids)
	if err != nil {
		return false
	}
	var again []*user
	for _, id := range ids {
		c := l.held[id]
		c.mu.Lock()
		if !c.placed {
			again = append(again, l.edge.placeLateLocked(c, heads[id])...)
		}
		c.mu.Unlock()
	}
	l.edge.reloadEach(again)
	return true
}

// placeLateLocked says where a conversation stands. Members that a group has already were read before that was known: an entry that ended a membership meanwhile lies before
// the place, and is not delivered any more. So nobody is a member until memberships are read once more, which the caller has done for those who are returned.
func (e *Edge) placeLateLocked(c *conversation, head wire.Seq) (again []*user) {
	if c.id.Kind() != subjects.KindDirect {
		for u := range c.members {
			c.partLocked(u)
			u.miss(c.id)
			again = append(again, u)
		}
	}
	e.placeLocked(c, head, head)
	return again
}

// miss notes that the user was put out of a conversation, which no reading of memberships that is under way may undo.
func (u *user) miss(id subjects.Conversation) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.missed == nil {
		u.missed = map[subjects.Conversation]struct{}{}
	}
	u.missed[id] = struct{}{}
	if u.changed != nil {
		u.changed[id] = struct{}{}
	}
}

// found reports whether the user was put out of a conversation, and ends that.
func (u *user) found(id subjects.Conversation) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, missed := u.missed[id]
	if delete(u.missed, id); len(u.missed) == 0 {
		u.missed = nil
	}
	return missed
}

// missing returns the conversations that the user was put out of.
func (u *user) missing() []subjects.Conversation {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.missed))
}

// reloadEach reads the memberships of users again, without their clients being told.
func (e *Edge) reloadEach(users []*user) {
	for _, u := range users {
		e.reload(u, "")
	}
}

// apply makes the memberships what was read, except where entries have changed them since.
func (l *loader) apply(mine []wire.Membership, announce bool) {
	u := l.user
	listed := make(map[subjects.Conversation]bool, len(mine))
	for _, m := range mine {
		listed[m.Conversation] = true
		if c := l.held[m.Conversation]; c != nil {
			l.join(c, m, announce)
		}
	}
	left := func(id subjects.Conversation, announce bool) {
		if announce {
			u.event(wire.EventConversation, wire.ConversationChange{Conversation: id, Change: wire.ChangeConversationRemoved})
		}
	}
	for _, c := range u.conversations() {
		if c.id.Kind() == subjects.KindDirect || listed[c.id] || l.isChanged(c.id) {
			continue
		}
		l.edge.conversations.part(c, u)
		left(c.id, announce)
	}
	for _, id := range u.missing() {
		if !listed[id] && !l.isChanged(id) && u.found(id) {
			left(id, true)
		}
	}
}

func (l *loader) join(c *conversation, m wire.Membership, announce bool) {
	u := l.user
	c.mu.Lock()
	_, member := c.members[u]
	changed := l.isChanged(c.id)
	missed := !changed && u.found(c.id)
	if !member && !changed && c.joinLocked(u, m.From) {
		switch {
		case !c.placed:
			c.announce = true
		case missed: // it is nothing new to the clients, who ask for what they lack
			u.event(wire.EventHead, wire.HeadMoved{Conversation: c.id, Seq: c.last})
		case l.late && c.last >= m.From:
			l.edge.startCatchUp(c, u, max(m.From, 1)-1)
		}
		if announce && !missed {
			u.event(wire.EventConversation, wire.ConversationChange{Conversation: c.id, Change: wire.ChangeConversationAdded})
		}
	}
	fill := c.wantLocked()
	c.mu.Unlock()
	if fill {
		l.edge.startFill(c)
	}
}

func (l *loader) isChanged(id subjects.Conversation) bool {
	l.user.mu.Lock()
	defer l.user.mu.Unlock()
	_, changed := l.user.changed[id]
	return changed
}

// reload reads a user's memberships again, beside everything else and until it succeeds or the user has gone. Where a reason is given
// the user's clients are then told to resynchronise.
func (e *Edge) reload(u *user, reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stale = true
	if reason != "" {
		u.resync = reason
	}
	if u.reloading || u.gone {
		return
	}
	u.reloading = e.start(func(ctx context.Context) { e.reloadAll(ctx, u) })
}

func (e *Edge) reloadAll(ctx context.Context, u *user) {
	for {
		u.mu.Lock()
		reason := u.resync
		if !u.stale || u.gone || ctx.Err() != nil {
			u.reloading = false
			u.mu.Unlock()
			return
		}
		u.stale, u.resync = false, ""
		u.mu.Unlock()
		if e.reloadOnce(ctx, u, reason != "") {
			if reason != "" {
				e.metrics.resyncs.Inc()
				u.event(wire.EventResync, wire.Resync{Reason: reason})
			}
			continue
		}
		u.mu.Lock()
		u.stale = true
		if u.resync == "" {
			u.resync = reason
		}
		u.mu.Unlock()
		sleep(ctx, reloadPause)
	}
}

func (e *Edge) reloadOnce(ctx context.Context, u *user, announce bool) bool {
	select {
	case e.loads <- struct{}{}:
		defer func() { <-e.loads }()
	case <-ctx.Done():
		return false
	}
	u.loading.Lock()
	defer u.loading.Unlock()
	if err := e.load(ctx, u, announce); err != nil {
		e.log.Warn("memberships not read", "user", string(u.name), "code", string(wire.CodeOf(err)))
		return false
	}
	u.loaded = true
	return true
}

// membershipEvent follows what a function says of a membership. The log has the last word: an addition or a removal that has come as an
// entry already needs nothing more.
func (e *Edge) membershipEvent(u *user, event wire.UserEvent) {
	id := event.Conversation
	if id.Kind() == subjects.KindDirect {
		if c := e.touch(u, id); c != nil && event.Change == wire.ChangeConversationAdded && event.From > 0 {
			c.mu.Lock()
			if !c.placed {
				e.placeLocked(c, event.From-1, event.From-1)
			}
			c.mu.Unlock()
		}
		return
	}
	member := e.isMember(u, id)
	switch {
	case event.Change == wire.ChangeConversationAdded && !member:
		e.reload(u, "")
	case event.Change == wire.ChangeConversationRemoved && member:
		e.start(func(ctx context.Context) { e.expectRemoval(ctx, u, id) })
	}
}

// expectRemoval sees to it that a membership ends whose end was announced, even if the entry that says so never comes live.
func (e *Edge) expectRemoval(ctx context.Context, u *user, id subjects.Conversation) {
	if !sleep(ctx, removalCheck) || !e.isMember(u, id) {
		return
	}
	if c := e.conversations.find(id); c != nil {
		e.checkHeads(ctx, []*conversation{c})
	}
	if sleep(ctx, removalWait) && e.isMember(u, id) {
		e.reload(u, "")
	}
}

// touch follows a direct conversation that a local user has called about, so that what is lost of it is noticed.
func (e *Edge) touch(u *user, id subjects.Conversation) *conversation {
	if _, member := id.Peer(u.name); !member {
		return nil
	}
	u.mu.Lock()
	many := len(u.joined) >= maxTouched
	u.mu.Unlock()
	if many {
		return nil
	}
	c := e.direct(id)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announce = c.announce || !c.placed
	return c
}

// learnDirects follows the direct conversations that an answer of history.heads told a user of.
func (e *Edge) learnDirects(u *user, answer []byte) {
	_ = wire.EachHead(answer, func(id subjects.Conversation, head wire.Seq) { // what cannot be read is the client's to complain about
		if _, direct := id.Peer(u.name); !direct {
			return
		}
		c := e.touch(u, id)
		if c == nil {
			return
		}
		c.mu.Lock()
		if !c.placed {
			c.announce = false // the client has just been told
			e.placeLocked(c, head, head)
		}
		c.mu.Unlock()
	})
}
