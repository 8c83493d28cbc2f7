package conversations_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestAGroupOfTenThousand makes a large group in bulk and then uses it as one uses a small one.
func TestAGroupOfTenThousand(t *testing.T) {
	const size = 10_000
	w := newWorld(t, "ada", "bob", "new")
	team := w.group("ada", "bob")
	w.crowd(team, size-2)
	timed := func(what string, do func()) {
		t.Helper()
		began := time.Now()
		do()
		t.Logf("%s: %v", what, time.Since(began)) // each call is bounded by its own timeout
	}
	timed("get", func() {
		if info := w.about("ada", team); info.Members != size {
			t.Errorf("the group has %d members", info.Members)
		}
	})
	timed("all members, in pages of 1,000", func() {
		if count := w.countByPages("u00042", team); count != size {
			t.Errorf("the pages hold %d members", count)
		}
	})
	timed("add", func() {
		w.change("", "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: team, User: "new"})
	})
	timed("remove", func() {
		w.change("", "ada", conversations.MethodRemove, wire.MemberUpdate{Conversation: team, User: "u09000"})
		w.post(wire.NotFound, "u09000", team)
	})
	timed("an owner who would leave", func() {
		w.change(wire.Conflict, "ada", conversations.MethodLeave, wire.ConversationQuery{Conversation: team})
	})
	timed("update", func() {
		title := "Large"
		w.change("", "ada", conversations.MethodUpdate, wire.Update{Conversation: team, Title: &title})
	})
	timed("100 posts", func() {
		for i := range 100 {
			w.post("", subjects.User(fmt.Sprintf("u%05d", i*7)), team)
		}
	})
	timed("heads and mine", func() {
		heads, err := invoke[wire.Heads](w, "u00099", "history", "heads", wire.HeadsQuery{})
		if err != nil || len(heads.Conversations) != 1 || heads.Conversations[0].Unread != 100 || heads.Conversations[0].Title != "Large" {
			t.Errorf("the heads are %+v, %v", heads, err)
		}
		mine := w.mine("u00099")
		if len(mine) != 1 || mine[0] != (wire.Membership{Conversation: team, From: 1}) {
			t.Errorf("the memberships are %+v", mine)
		}
	})
	if info := w.about("new", team); info.Members != size {
		t.Errorf("after one came and one went the group has %d members", info.Members)
	}
}

// crowd puts many members into a group at once, who are not registered.
func (w *world) crowd(c subjects.Conversation, size int) {
	w.t.Helper()
	crowd := make([]jetstream.Member, size)
	for i := range crowd {
		crowd[i] = jetstream.Member{Conversation: c, User: subjects.User(fmt.Sprintf("u%05d", i)), Role: wire.RoleMember, JoinedSeq: 1}
	}
	if err := w.store.PutMembers(w.t.Context(), crowd); err != nil {
		w.t.Fatal(err)
	}
}

// countByPages reads the list of members to its end.
func (w *world) countByPages(as subjects.User, c subjects.Conversation) (count int) {
	w.t.Helper()
	last, next := subjects.User(""), subjects.User("")
	for more := true; more; more = next != "" {
		page := ask[wire.Members](w, as, conversations.MethodMembers, wire.MembersQuery{Conversation: c, After: next, Limit: wire.MaxMembers})
		for _, m := range page.Members {
			if m.User <= last {
				w.t.Fatalf("%s comes after %s", m.User, last)
			}
			last = m.User
			count++
		}
		next = page.Next
	}
	return count
}

// TestManyFounders makes a group with about as many members as the data of one call can name.
func TestManyFounders(t *testing.T) {
	w := newWorld(t, "ada")
	founders := make([]subjects.User, 900)
	for i := range founders {
		founders[i] = subjects.User(fmt.Sprintf("u%d", i))
		jetstreamtest.Users(t, w.store, founders[i])
	}
	began := time.Now()
	info := ask[wire.ConversationInfo](w, "ada", conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, Title: "T", Members: founders})
	t.Logf("made in %v", time.Since(began))
	if info.Members != 901 || w.about("u899", info.Conversation).Members != 901 {
		t.Errorf("made %+v", info)
	}
}
