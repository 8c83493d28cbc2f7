package edge

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestEntriesReachMembersOnce(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	w.add("g.one", "bob")
	ada, phone, bob, eve := r.connect(t, w, "ada", "web"), r.connect(t, w, "ada", "phone"), r.connect(t, w, "bob", "web"), r.connect(t, w, "eve", "web")
	for range 3 {
		w.say("g.one", "ada", "hi")
	}
	w.mu.Lock()
	w.live("g.one", 4, wire.KindMessage, "ada", w.logs["g.one"][3]) // announced again
	w.mu.Unlock()
	if ok, err := ada.call("send.post", wire.Post{To: "bob", ClientID: "x", Body: json.RawMessage("{}")}); err != nil {
		t.Fatal(string(ok), err)
	}
	w.say("g.one", "bob", "last")
	for _, c := range []*client{ada, phone, bob} {
		c.expect("g.one", 3, 4, 5, 6)
		if c.taken > 6 {
			t.Errorf("%d frames came", c.taken)
		}
	}
	// The direct conversation's entry came before the group's last one.
	for _, c := range []*client{ada, phone, bob} {
		found := 0
		c.mu.Lock()
		for _, f := range c.frames {
			var e wire.Entry
			if json.Unmarshal(f.Data, &e); e.Conversation == "d.ada.bob" && f.Event == wire.EventEntry {
				found++
			}
		}
		c.mu.Unlock()
		if found != 1 {
			t.Errorf("the direct entry came %d times", found)
		}
	}
	eve.call("ping", wire.Empty{})
	if len(eve.frames) > 0 {
		t.Errorf("a stranger got %v", eve.frames)
	}
}

func TestLostLiveCopiesAreFetchedInOrder(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	w.add("g.two", "ada")
	w.drop = func(_ subjects.Conversation, seq wire.Seq) bool { return seq == 3 || seq == 5 || seq == 6 || seq == 9 }
	ada := r.connect(t, w, "ada", "web")
	for range 8 {
		w.say("g.one", "bob", "hi")
	}
	// Seq 9 was lost and nothing follows: the comparison of heads finds it.
	ada.expect("g.one", 2, 3, 4, 5, 6, 7, 8, 9)
	w.say("g.two", "bob", "hi")
	w.say("g.two", "bob", "hi")
	ada.expect("g.two", 2, 3)
}

// TestAnErasedEntryEndsNoFetch loses more than one page of entries, of which one was erased: a page with a hole in it is no sign of the end.
func TestAnErasedEntryEndsNoFetch(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	ada := r.connect(t, w, "ada", "web")
	const erased, total = 50, 2*wire.MaxPage + 20
	w.mu.Lock()
	w.drop = func(_ subjects.Conversation, seq wire.Seq) bool { return seq < total }
	w.mu.Unlock()
	var want []wire.Seq
	for seq := wire.Seq(2); seq < total; seq++ {
		w.say("g.one", "bob", "lost")
		if seq != erased {
			want = append(want, seq)
		}
	}
	w.mu.Lock()
	w.logs["g.one"][erased-1] = nil
	w.mu.Unlock()
	w.say("g.one", "bob", "what shows the loss")
	ada.expect("g.one", append(want, total)...)
}

func TestTheLastLostCopyOfADirectConversationIsFetched(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.say("d.ada.bob", "bob", "before ada came")
	ada := r.connect(t, w, "ada", "web")
	if _, err := ada.call("history.heads", wire.Empty{}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.drop = func(subjects.Conversation, wire.Seq) bool { return true }
	w.mu.Unlock()
	w.say("d.ada.bob", "bob", "lost")
	ada.expect("d.ada.bob", 2)
	// One that the client never heard of: its own call tells the edge to look, and the head is told.
	w.append("d.ada.cyd", wire.KindMessage, "cyd", "", text{"lost too"})
	if _, err := ada.call("echo.say", map[string]any{"to": "cyd"}); err != nil {
		t.Fatal(err)
	}
	var head wire.HeadMoved
	if err := json.Unmarshal(ada.event(wire.EventHead), &head); err != nil || head.Conversation != "d.ada.cyd" || head.Seq != 1 {
		t.Errorf("head is %+v, %v", head, err)
	}
}

func TestMembershipBeginsAndEndsAtItsEntry(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	ada, bob := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web")
	w.say("g.one", "ada", "2: before bob")
	w.add("g.one", "bob")
	w.say("g.one", "ada", "4: with bob")
	w.remove("g.one", "bob")
	w.say("g.one", "ada", "6: without bob")
	ada.expect("g.one", 2, 3, 4, 5, 6)
	bob.expect("g.one", 3, 4, 5)
	// In a conversation that is new to the edge the addition itself is the first event too.
	w.add("g.new", "cyd")
	w.say("g.new", "cyd", "2: nobody here")
	w.add("g.new", "bob")
	w.say("g.new", "cyd", "4: with bob")
	bob.expect("g.new", 3, 4)
	eventually(t, "no more of the first group", func() bool { return r.conversations.find("g.one") != nil })
	bob.call("ping", wire.Empty{})
	for _, f := range bob.frames[bob.taken:] {
		if f.Event == wire.EventEntry {
			t.Errorf("bob also got %s", f.Data)
		}
	}
}

func TestARemovalWhoseLiveCopyIsLostEndsTheMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.HeadEvery = time.Hour })
	w.add("g.one", "ada")
	ada := r.connect(t, w, "ada", "web")
	w.mu.Lock()
	w.drop = func(_ subjects.Conversation, seq wire.Seq) bool { return seq == 2 }
	w.mu.Unlock()
	w.remove("g.one", "ada")
	ada.expect("g.one", 2)
	eventually(t, "nobody is there any more", func() bool { return r.conversations.find("g.one") == nil })
}

func TestMembershipThatChangesUnderLoadLeaksNothing(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	r.connect(t, w, "ada", "web")
	bob := r.connect(t, w, "bob", "web")
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 400 {
			w.say("g.one", "ada", fmt.Sprint(i))
		}
	})
	for range 20 {
		w.add("g.one", "bob")
		w.remove("g.one", "bob")
	}
	second := r.connect(t, w, "bob", "phone")
	w.add("g.one", "bob")
	wg.Wait()
	last := w.say("g.one", "ada", "last")
	for _, c := range []*client{bob, second} {
		for c.entry("g.one").Seq < last {
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	allowed := map[wire.Seq]bool{}
	inside := false
	for _, payload := range w.logs["g.one"] {
		var e wire.Entry
		if err := json.Unmarshal(payload, &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == wire.KindMember && e.From == "bob" {
			var body wire.MemberBody
			_ = json.Unmarshal(e.Body, &body)
			inside = body.Change.Begins()
			allowed[e.Seq] = true
		}
		allowed[e.Seq] = allowed[e.Seq] || inside
	}
	seqs := bob.seqs(t, "g.one")
	for i, seq := range seqs {
		if !allowed[seq] || i > 0 && seq <= seqs[i-1] {
			t.Fatalf("entry %d leaked or is out of order", seq)
		}
	}
}

// seqs returns the seqs of a conversation's entries in the order in which they came.
func (c *client) seqs(t *testing.T, conversation subjects.Conversation) (seqs []wire.Seq) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		var e wire.Entry
		if f.Event == wire.EventEntry && json.Unmarshal(f.Data, &e) == nil && e.Conversation == conversation {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs
}

func TestAfterAReconnectNothingIsMissing(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.HeadEvery = time.Hour })
	w.add("g.one", "ada")
	ada := r.connect(t, w, "ada", "web")
	w.say("g.one", "bob", "2")
	ada.expect("g.one", 2)
	w.mu.Lock()
	w.drop = func(c subjects.Conversation, _ wire.Seq) bool { return true }
	w.mu.Unlock()
	w.say("g.one", "bob", "3")
	w.say("g.one", "bob", "4")
	if err := r.cfg.NATS.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	ada.expect("g.one", 3, 4)
	eventually(t, "a resync was asked for", func() bool {
		ada.mu.Lock()
		defer ada.mu.Unlock()
		return slices.ContainsFunc(ada.frames, func(f wire.ServerFrame) bool { return f.Event == wire.EventResync })
	})
}

func TestAnOverflowOfTheLiveChannelIsHealed(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.HeadEvery = time.Hour })
	w.add("g.one", "ada")
	ada := r.connect(t, w, "ada", "web")
	r.unsure("live overflow")
	ada.event(wire.EventResync)
	w.mu.Lock()
	w.drop = func(_ subjects.Conversation, seq wire.Seq) bool { return seq == 2 }
	w.mu.Unlock()
	w.say("g.one", "bob", "2")
	r.unsure("live overflow")
	ada.expect("g.one", 2)
}

func TestSignalsReachTheOtherMembersOnly(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits.Signal = Rate{1, 4} })
	w.add("g.one", "ada")
	w.add("g.one", "bob")
	ada, bob, eve := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web"), r.connect(t, w, "eve", "web")
	if _, err := ada.call("signal", wire.Signal{Conversation: "g.one", Kind: "typing"}); err != nil {
		t.Fatal(err)
	}
	if got := string(bob.event(wire.EventSignal)); got != `{"conversation":"g.one","user":"ada","kind":"typing"}` {
		t.Errorf("the signal is %s", got)
	}
	for _, id := range []subjects.Conversation{"g.one", "g.none", "d.ada.bob"} {
		if _, err := eve.call("signal", wire.Signal{Conversation: id, Kind: "typing"}); err == nil || err.Code != wire.NotFound {
			t.Errorf("a stranger's signal to %s is answered %v", id, err)
		}
	}
	if _, err := bob.call("signal", wire.Signal{Conversation: "d.ada.bob", Kind: "typing"}); err != nil {
		t.Fatal(err)
	}
	ada.event(wire.EventSignal)
	receipt, _ := wire.Marshal(wire.Receipt{Conversation: "g.one", User: "bob", Read: 2, Delivered: 2})
	said, _ := wire.Marshal(wire.Signalled{Event: wire.EventReceipt, User: "bob", Data: receipt})
	_ = w.nc.Publish(subjects.Signal("g.one"), said)
	if got := ada.event(wire.EventReceipt); string(got) != string(receipt) {
		t.Errorf("the receipt is %s", got)
	}
	w.tell("bob", wire.UserEvent{Change: wire.ChangeMarks, Receipt: &wire.Receipt{Conversation: "g.one", User: "bob", Read: 2}})
	bob.event(wire.EventReceipt)
	limited := false
	for range 6 {
		_, err := ada.call("signal", wire.Signal{Conversation: "g.one", Kind: "typing"})
		limited = limited || err != nil && err.Code == wire.RateLimited
	}
	if !limited {
		t.Error("signals are not limited")
	}
	for _, f := range append(ada.frames[:ada.taken:ada.taken], eve.frames...) {
		if f.Event == wire.EventSignal && string(f.Data) == `{"conversation":"g.one","user":"ada","kind":"typing"}` {
			t.Error("a signal came back, or reached a stranger")
		}
	}
}

func TestAHoleThatIsTooLargeIsSkippedAndMembersReadAnew(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	w.add("g.one", "bob")
	ada, bob := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web")
	w.mu.Lock()
	w.drop = func(_ subjects.Conversation, seq wire.Seq) bool { return seq <= maxHole+5 }
	delete(w.members["g.one"], "bob")
	for range maxHole + 1 {
		w.appendLocked("g.one", wire.KindMessage, "ada", "", text{"lost"})
	}
	w.appendLocked("g.one", wire.KindMember, "bob", "", wire.MemberBody{User: "bob", Change: wire.ChangeRemoved, By: "bob"})
	w.appendLocked("g.one", wire.KindMessage, "ada", "", text{"lost"})
	w.mu.Unlock()
	last := w.say("g.one", "ada", "beyond the hole")
	first := ada.entry("g.one").Seq
	for seq := first; seq < last; seq++ {
		ada.expect("g.one", seq+1)
	}
	if last-first >= maxCatchUp {
		t.Errorf("ada got %d entries before the last", last-first)
	}
	next := w.say("g.one", "ada", "after the hole")
	ada.expect("g.one", next)
	bob.call("ping", wire.Empty{})
	if seqs := bob.seqs(t, "g.one"); len(seqs) > 0 {
		t.Errorf("bob, who was removed in the hole, got %v", seqs)
	}
}

func TestAfterADoubtTheEdgeWritesItsPresenceAgain(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	r.connect(t, w, "ada", "web")
	written := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.presence["s.ada.web"] != nil && w.presence["e.edge-a"] != nil
	}
	eventually(t, "presence is written", written)
	w.mu.Lock()
	clear(w.presence) // the bucket is in memory, and its server has restarted
	w.mu.Unlock()
	r.unsure("reconnect")
	eventually(t, "presence is written again", written)
}

func TestWhoIsAddedToABusyConversationGetsEverythingSince(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	w.add("g.one", "ada")
	r.connect(t, w, "ada", "web")
	bob := r.connect(t, w, "bob", "web")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.say("g.one", "ada", "busy")
				time.Sleep(200 * time.Microsecond)
			}
		}
	})
	for i := range 20 {
		group := fmt.Sprintf("g.new-%d", i)
		w.mu.Lock() // founders are members from the first entry, and nothing in the log says so
		w.members[subjects.Conversation(group)] = map[subjects.User]wire.Seq{"ada": 1, "bob": 1}
		w.mu.Unlock()
		w.say(group, "ada", "1")
		w.tell("ada", wire.UserEvent{Change: wire.ChangeConversationAdded, Conversation: subjects.Conversation(group), From: 1})
		w.tell("bob", wire.UserEvent{Change: wire.ChangeConversationAdded, Conversation: subjects.Conversation(group), From: 1})
		w.say(group, "ada", "2")
		bob.expect(group, 1, 2)
	}
	added := w.add("g.one", "bob")
	for seq := added; seq < added+20; seq++ {
		bob.expect("g.one", seq)
	}
	close(stop)
	wg.Wait()
}
