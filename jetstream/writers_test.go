package jetstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// decider appends the way the function send does: a yes is remembered with the epoch of the tail that was read before the membership, and
// does not count any more once the tail to append to carries a newer one.
type decider struct {
	t       *testing.T
	store   *jetstream.Store
	user    subjects.User
	random  *rand.Rand
	tails   map[subjects.Conversation]jetstream.Tail
	allowed map[subjects.Conversation]wire.Seq // the epoch of the last yes
	acked   map[subjects.Conversation]map[string]wire.Seq
	refused int
}

var errRefused = errors.New("not a member")

func (d *decider) decide(c subjects.Conversation) error {
	tail := d.tails[c]
	if epoch, yes := d.allowed[c]; yes && epoch == tail.Epoch {
		return nil
	}
	delete(d.allowed, c)
	tail, err := d.store.Tail(d.t.Context(), c)
	if err != nil {
		return err
	}
	d.tails[c] = tail
	_, err = d.store.Member(d.t.Context(), c, d.user)
	if errors.Is(err, jetstream.ErrNotFound) {
		return errRefused
	}
	if err == nil {
		d.allowed[c] = tail.Epoch
	}
	return err
}

func (d *decider) send(c subjects.Conversation, draft jetstream.Draft) (jetstream.Appended, error) {
	for {
		if err := d.decide(c); err != nil {
			return jetstream.Appended{}, err
		}
		done, err := d.store.Append(d.t.Context(), c, d.tails[c], draft)
		if err == nil {
			d.tails[c] = done.Tail
		}
		if !errors.Is(err, jetstream.ErrTailMoved) {
			return done, err
		}
		time.Sleep(time.Duration(d.random.Int64N(2e6))) // jitter, as send has it
		tail, err := d.store.Tail(d.t.Context(), c)
		if err != nil {
			return jetstream.Appended{}, err
		}
		d.tails[c] = tail
	}
}

// run posts, repeats some posts, also while the first copy is on its way, and reacts to some.
func (d *decider) run(conversations []subjects.Conversation, posts int) {
	for i := range posts {
		c := conversations[0] // the hot one
		if d.random.IntN(3) == 0 {
			c = conversations[d.random.IntN(len(conversations))]
		}
		draft := message(d.user, fmt.Sprintf("%s %d", d.user, i))
		draft.ClientID = fmt.Sprint("p", i)
		var copies sync.WaitGroup
		if d.random.IntN(4) == 0 {
			other := d.other()
			copies.Go(func() { other.post(c, draft) })
			d.post(c, draft)
			copies.Wait()
			d.agree(c, draft.ClientID, other.acked[c][draft.ClientID])
		}
		for range 1 + d.random.IntN(2) {
			d.post(c, draft)
		}
	}
}

// other returns another instance of send, which handles a copy of the same user's call.
func (d *decider) other() *decider {
	return &decider{
		t: d.t, store: d.store, user: d.user, random: rand.New(rand.NewPCG(d.random.Uint64(), 0)), tails: maps.Clone(d.tails),
		allowed: maps.Clone(d.allowed), acked: map[subjects.Conversation]map[string]wire.Seq{},
	}
}

// agree notes where a post was acknowledged to be, which must never change; 0 stands for nowhere.
func (d *decider) agree(c subjects.Conversation, id string, seq wire.Seq) {
	if seq == 0 {
		return
	}
	if d.acked[c] == nil {
		d.acked[c] = map[string]wire.Seq{}
	}
	if before := d.acked[c][id]; before != 0 && before != seq {
		d.t.Errorf("the post %s of %s is %d and %d", id, d.user, before, seq)
	}
	d.acked[c][id] = seq
}

func (d *decider) post(c subjects.Conversation, draft jetstream.Draft) {
	done, err := d.send(c, draft)
	if errors.Is(err, errRefused) {
		d.refused++
		return
	}
	if err != nil {
		d.t.Errorf("%s posts to %s: %v", d.user, c, err)
		return
	}
	d.agree(c, draft.ClientID, done.Entry.Seq)
	if d.random.IntN(8) == 0 {
		react := reactionTo(done.Entry.Seq, d.user, "👍", false)
		react.ClientID = draft.ClientID
		if _, err := d.send(c, react); err != nil && !errors.Is(err, errRefused) {
			d.t.Errorf("%s reacts in %s: %v", d.user, c, err)
		}
	}
}

// changeMembers removes and adds members of one conversation: what restricts goes to the bucket first, what permits to the log first.
func changeMembers(t *testing.T, s *jetstream.Store, c subjects.Conversation, users []subjects.User, random *rand.Rand, done <-chan struct{}) {
	w := newWriter(t, s, c)
	entry := func(u subjects.User, change wire.MemberChange) wire.Seq {
		body, err := json.Marshal(wire.MemberBody{User: u, Change: change, By: "root"})
		if err != nil {
			t.Error(err)
		}
		return w.append(jetstream.Draft{Kind: wire.KindMember, From: "root", Body: body}).Entry.Seq
	}
	out := map[subjects.User]bool{}
	for {
		u := users[random.IntN(len(users))]
		if out[u] {
			seq := entry(u, wire.ChangeAdded)
			if _, err := s.PutMember(t.Context(), jetstream.Member{Conversation: c, User: u, Role: wire.RoleMember, JoinedSeq: seq}); err != nil {
				t.Errorf("add %s: %v", u, err)
			}
		} else {
			m, err := s.Member(t.Context(), c, u)
			if err == nil {
				err = s.RemoveMember(t.Context(), m)
			}
			if err != nil {
				t.Errorf("remove %s: %v", u, err)
			}
			entry(u, wire.ChangeRemoved)
		}
		out[u] = !out[u]
		select {
		case <-done:
			return
		case <-time.After(time.Duration(random.Int64N(10e6))):
		}
	}
}

func TestManyWritersAgree(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	conversations := []subjects.Conversation{"g.hot", "g.warm", "g.cold"}
	var users []subjects.User
	for i := range 24 {
		users = append(users, subjects.User(fmt.Sprint("u", i)))
	}
	for _, c := range conversations {
		newWriter(t, s, c).append(jetstream.Draft{Kind: wire.KindPolicy, From: "root", Body: json.RawMessage(`{}`)})
		for _, u := range users {
			if _, err := s.PutMember(t.Context(), jetstream.Member{Conversation: c, User: u, Role: wire.RoleMember, JoinedSeq: 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var writing, changing sync.WaitGroup
	written := make(chan struct{})
	for i, c := range conversations {
		changing.Go(func() { changeMembers(t, s, c, users, rand.New(rand.NewPCG(seed, uint64(100+i))), written) })
	}
	deciders := make([]*decider, len(users))
	for i, u := range users {
		d := &decider{
			t: t, store: server.Store(t), user: u, random: rand.New(rand.NewPCG(seed, uint64(i))), tails: map[subjects.Conversation]jetstream.Tail{},
			allowed: map[subjects.Conversation]wire.Seq{}, acked: map[subjects.Conversation]map[string]wire.Seq{},
		}
		deciders[i] = d
		writing.Go(func() { d.run(conversations, 15) })
	}
	writing.Wait()
	close(written)
	changing.Wait()
	refused := 0
	for _, d := range deciders {
		refused += d.refused
	}
	for _, c := range conversations {
		checkLog(t, s, c, users, deciders)
	}
	if refused == 0 {
		t.Error("nobody was refused: the test proves nothing about removals")
	}
	t.Logf("%d sends were refused", refused)
}

// checkLog holds what the paper says against one conversation.
func checkLog(t *testing.T, s *jetstream.Store, c subjects.Conversation, users []subjects.User, deciders []*decider) {
	t.Helper()
	entries := readAll(t, s, c)
	members := map[subjects.User]bool{}
	for _, u := range users {
		members[u] = true
	}
	count, at := uint64(0), wire.Time{}
	ids := map[string]wire.Seq{}
	newest := map[subjects.User]wire.Mark{}
	for i, e := range entries {
		switch e.Kind {
		case wire.KindMember:
			var body wire.MemberBody
			if err := json.Unmarshal(e.Body, &body); err != nil {
				t.Fatal(err)
			}
			members[body.User] = body.Change.Begins()
		case wire.KindMessage:
			count++
			newest[e.From] = wire.Mark{Seq: e.Seq, Count: count}
		}
		if e.From != "root" && !members[e.From] {
			t.Errorf("%s: entry %d is by %s, who was removed before", c, e.Seq, e.From)
		}
		if e.Seq != wire.Seq(i+1) || e.Count != count || e.At.Before(at.Time) {
			t.Errorf("%s: entry %d after %d others has count %d, want %d, and is of %v after %v", c, e.Seq, i, e.Count, count, e.At, at)
		}
		at = e.At
		id := fmt.Sprint(e.From, e.Kind, e.ClientID)
		if other := ids[id]; other != 0 {
			t.Errorf("%s: the client id of entry %d is stored at %d too", c, e.Seq, other)
		}
		ids[id] = e.Seq
	}
	tail, err := s.Tail(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range deciders {
		for id, seq := range d.acked[c] {
			if stored := ids[fmt.Sprint(d.user, wire.KindMessage, id)]; stored != seq {
				t.Errorf("%s: the post %s of %s was acknowledged as %d and is %d", c, id, d.user, seq, stored)
			}
		}
		mark, ok := tail.Poster(d.user)
		cursor, err := s.Cursor(t.Context(), c, d.user)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			mark = cursor.Read
		}
		if mark != newest[d.user] || cursor.Read.Seq > mark.Seq {
			t.Errorf("%s: %s is marked as read up to %+v, cursor %+v, want %+v", c, d.user, mark, cursor.Read, newest[d.user])
		}
	}
}

// readAll reads a conversation in every direction and returns it, if all agree.
func readAll(t *testing.T, s *jetstream.Store, c subjects.Conversation) []wire.Entry {
	t.Helper()
	ways := map[string][]json.RawMessage{}
	for more, after := true, wire.Seq(0); more; {
		p := page(t, s, wire.PageQuery{Conversation: c, After: &after, Limit: 70}, 0)
		ways["forward"] = append(ways["forward"], p.Entries...)
		more, after = p.MoreAfter, p.Last
	}
	for more, before := true, wire.MaxSeq; more; {
		p := page(t, s, wire.PageQuery{Conversation: c, Before: &before, Limit: 41}, 0)
		ways["backward"] = slices.Concat(p.Entries, ways["backward"])
		more, before = p.MoreBefore, p.First
	}
	for more, middle := true, wire.Seq(5); more; {
		p := page(t, s, wire.PageQuery{Conversation: c, Around: &middle, Limit: 10}, 0)
		ways["around"] = append(ways["around"], p.Entries[len(ways["around"])-int(p.First)+1:]...)
		more, middle = p.MoreAfter, min(middle+10, p.Last+5)
		if p.MoreAfter && middle > wire.Seq(len(ways["forward"])) {
			middle = wire.Seq(len(ways["forward"]))
		}
	}
	for name, way := range ways {
		if !slices.EqualFunc(way, ways["forward"], func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Fatalf("%s: %d entries %s, %d forward, or not the same", c, len(way), name, len(ways["forward"]))
		}
	}
	entries := make([]wire.Entry, len(ways["forward"]))
	for i, data := range ways["forward"] {
		if err := json.Unmarshal(data, &entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s: %d entries, read %v", c, len(entries), slices.Sorted(maps.Keys(ways)))
	return entries
}
