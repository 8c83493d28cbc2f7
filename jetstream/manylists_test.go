package jetstream_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// agreeTogether compares what lists say of users together with what they say of each.
func agreeTogether(t *testing.T, s *jetstream.Store, name string, l *jetstream.Lists, users []subjects.User, conversations []subjects.Conversation, most int) {
	t.Helper()
	ctx := t.Context()
	listed, err := l.ListedOf(ctx, users, most)
	if err != nil {
		t.Fatal(err)
	}
	confirmed, err := s.ConfirmOf(ctx, listed)
	if err != nil {
		t.Fatal(err)
	}
	marks, err := l.MarksOf(ctx, users)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		alone, err := l.Listed(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		together, ok := listed[u]
		if ok != (len(alone) <= most) || ok && !slices.Equal(alone, together) {
			t.Fatalf("memory %s: together %s has listed %v, %v, and alone %v", name, u, together, ok, alone)
		}
		if member, err := s.Confirm(ctx, u, alone); err != nil || ok && !slices.Equal(member, confirmed[u]) {
			t.Fatalf("memory %s: together %s is in %v, and alone in %v, %v", name, u, confirmed[u], member, err)
		}
		if len(alone) > 1024 {
			continue
		}
		one, err := l.Marks(ctx, u, conversations)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range conversations {
			if marks[u].Of(c) != one.Of(c) {
				t.Fatalf("memory %s: together %s has read %+v of %s, and alone %+v", name, u, marks[u].Of(c), c, one.Of(c))
			}
		}
	}
}

// TestListsOfManyAtOnce has more together than one answer of the server holds, and somebody with more than that alone.
func TestListsOfManyAtOnce(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	lists := memories(s)
	users := []subjects.User{"nobody"}
	var members []jetstream.Member
	for i, n := range []int{1100, 3, 600, 500, 0, 64} {
		u := subjects.User(fmt.Sprint("u", i))
		users = append(users, u)
		for k := range n {
			members = append(members, member(subjects.Conversation(fmt.Sprintf("g.c%04d", k)), u))
		}
	}
	if err := s.PutMembers(t.Context(), members); err != nil {
		t.Fatal(err)
	}
	conversations := []subjects.Conversation{"g.c0000", "g.c0001", "g.c0099"}
	for _, u := range users[1:4] {
		if _, err := s.RaiseCursor(t.Context(), conversations[1], u, at(7)); err != nil {
			t.Fatal(err)
		}
	}
	for _, most := range []int{64, 1024, 64, 2} {
		for name, l := range lists {
			agreeTogether(t, s, name, l, users, conversations, most)
		}
	}
}
