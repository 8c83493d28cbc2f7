package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/confab-im/confab/subjects/wire"
)

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

// Messages that were missed come also where nobody's presence can be told.
func TestViewsCatchUpWithoutPresence(t *testing.T) {
	p := newPeer(t)
	var broken atomic.Bool
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call != wire.CallWatch || !broken.Load() {
			return false
		}
		s.fail(f, wire.StorageUnavailable)
		return true
	}
	p.say("g.a", "one")
	c := p.dial()
	v, err := c.Follow("g.a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Watch(within(t), "bob"); err != nil {
		t.Fatal(err)
	}
	follow(t, v, 1, 1)
	broken.Store(true)
	p.cut()
	p.say("g.a", "two, which nobody hears of")
	follow(t, v, 2, 1)
}
