package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestThreeReplicasShowWhatWasAcknowledged writes through one of three servers and at once reads through another. Direct reads are often a
// moment behind there; the stores whose comment says so must not be.
func TestThreeReplicasShowWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	stores := cluster(t)
	ctx := t.Context()
	revocations := make([]*jetstream.Revocations, len(stores))
	for i, s := range stores {
		var err error
		if revocations[i], err = s.Revocations(ctx); err != nil {
			t.Fatal(err)
		}
	}
	lists := listsOf(stores)
	stale := 0
	const rounds = 30
	for i := range rounds {
		here, there := stores[i%3], stores[(i+1)%3]
		u, c := subjects.User(fmt.Sprint("u", i)), subjects.Conversation(fmt.Sprint("g.c", i))
		if _, err := here.CreateUser(ctx, jetstream.User{User: u}); err != nil {
			t.Fatal(err)
		}
		if users, err := there.Users(ctx, []subjects.User{u, "nobody"}); err != nil || len(users) != 1 {
			t.Errorf("round %d: users %v, %v", i, users, err)
		}
		revision, err := here.PutMember(ctx, member(c, u))
		if err != nil {
			t.Fatal(err)
		}
		if found, err := jetstream.Matching(there, ctx, subjects.BucketMembers, subjects.MembershipsPattern(u)); err != nil || len(found) == 0 {
			stale++
		}
		if got, err := there.MembershipsOf(ctx, []subjects.User{u, "nobody"}, 10); err != nil || len(got[u]) != 1 {
			t.Fatalf("with others the other server has %+v, %v", got, err)
		}
		if got, err := there.Memberships(ctx, u); err != nil || len(got) != 1 {
			t.Errorf("round %d: added to %v, %v", i, got, err)
		}
		m := member(c, u)
		m.Revision = revision
		if err := there.RemoveMember(ctx, m); err != nil {
			t.Fatal(err)
		}
		if got, err := here.Memberships(ctx, u); err != nil || len(got) != 0 {
			t.Errorf("round %d: removed from, and still in %v, %v", i, got, err)
		}
		if _, err := here.Member(ctx, c, u); !errors.Is(err, jetstream.ErrNotFound) {
			t.Errorf("round %d: the removed member: %v", i, err)
		}
		if _, err := here.RaiseCursor(ctx, c, u, at(wire.Seq(i+1))); err != nil {
			t.Fatal(err)
		}
		if got, err := there.RaiseCursor(ctx, c, u, at(1)); err != nil || got != at(wire.Seq(i+1)) {
			t.Errorf("round %d: a lower mark elsewhere: %+v, %v", i, got, err)
		}
		checkListsOfReplicas(t, here, there, lists[(i+1)%3], i)
		if got, err := there.Cursors(ctx, u, []subjects.Conversation{c}); err != nil || got[c] != at(wire.Seq(i+1)) {
			t.Errorf("round %d: cursors %+v, %v", i, got, err)
		}
		if err := revocations[i%3].Revoke(ctx, wire.Revocation{User: u, Session: "s"}, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		other := revocations[(i+1)%3]
		if err := other.Poll(ctx); err != nil || !other.Revoked(u, "s", time.Now()) {
			t.Errorf("round %d: revoked elsewhere, and good here: %v", i, err)
		}
	}
	checkPagesOfReplicas(t, stores)
	t.Logf("a plain direct read was stale %d times of %d", stale, rounds)
}

func listsOf(stores []*jetstream.Store) (lists []*jetstream.Lists) {
	for _, s := range stores {
		lists = append(lists, jetstream.NewLists(s, 1<<20))
	}
	return lists
}

// checkListsOfReplicas adds to a list through one server and reads it through another, which remembers it from an earlier round.
func checkListsOfReplicas(t *testing.T, here, other *jetstream.Store, there *jetstream.Lists, round int) {
	t.Helper()
	ctx, c := t.Context(), subjects.Conversation(fmt.Sprint("g.round-", round))
	if _, err := here.PutMember(ctx, member(c, "reader")); err != nil {
		t.Fatal(err)
	}
	if _, err := here.RaiseCursor(ctx, "g.all", "reader", at(wire.Seq(round+1))); err != nil {
		t.Fatal(err)
	}
	many := []subjects.User{"reader"}
	for i := range 300 {
		many = append(many, subjects.User(fmt.Sprint("nobody-", i)))
	}
	for c, want := range map[subjects.Conversation]wire.Seq{"g.all": wire.Seq(round + 1), "g.none": 0} {
		if got, err := other.Readers(ctx, c, many); err != nil || got["reader"] != at(want) || len(got) != min(1, int(want)) {
			t.Errorf("round %d: the readers of %s are %+v, %v", round, c, got, err)
		}
	}
	if got, err := there.Listed(ctx, "reader"); err != nil || len(got) != round+1 {
		t.Errorf("round %d: listed are %v, %v", round, got, err)
	}
	if got, err := there.Marks(ctx, "reader", []subjects.Conversation{"g.all"}); err != nil || got.Of("g.all") != at(wire.Seq(round+1)) {
		t.Errorf("round %d: marks %+v, %v", round, got, err)
	}
}

// checkPagesOfReplicas reads and seals a page through one server that is written and recalled from through the others.
func checkPagesOfReplicas(t *testing.T, stores []*jetstream.Store) {
	t.Helper()
	w := newWriter(t, stores[0], talk)
	for n := range jetstream.PageSize + 3 {
		w.post("ada", fmt.Sprint("text ", n))
	}
	p := pagesOf(t, stores[1], 1<<20)
	eventually(t, "the page's seal", func() bool {
		read(t, p, wire.PageQuery{Conversation: talk, Limit: 200, AtLeast: w.tail.Seq}, 0)
		msg := sealedRecord(t, stores[1], talk, 0)
		return msg != nil && len(msg.Data) > 0
	})
	other := newWriter(t, stores[2], talk)
	for _, target := range []wire.Seq{3, 64} {
		other.reload()
		other.append(recallOf(target, "ada"))
		if !other.tail.Settled() {
			t.Errorf("the recall of %d is not settled", target)
		}
		got := read(t, p, wire.PageQuery{Conversation: talk, Limit: 200, AtLeast: other.tail.Seq}, 0)
		if text := string(got.Entries[target-1]); len(got.Entries) != int(other.tail.Seq) || !strings.Contains(text, `"recalled":true`) {
			t.Errorf("after its recall entry %d of %d reads %s", target, len(got.Entries), text)
		}
		msg, err := jetstream.LastFromLeader(stores[0], t.Context(), subjects.BucketStream(subjects.BucketPages), subjects.BucketSubject(subjects.BucketPages, subjects.PageKey(talk, 0)))
		if err == nil && strings.Contains(string(msg.Data), fmt.Sprintf("text %d\"", target-1)) {
			t.Errorf("entry %d was recalled and is still sealed", target)
		}
	}
}
