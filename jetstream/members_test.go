package jetstream_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func member(c subjects.Conversation, u subjects.User) jetstream.Member {
	return jetstream.Member{Conversation: c, User: u, Role: wire.RoleMember, JoinedSeq: 1}
}

// wantMembers compares how many members the room has.
func wantMembers(t *testing.T, store *jetstream.Store, want int) {
	t.Helper()
	if got, err := store.CountMembers(t.Context(), room); got != want || err != nil {
		t.Errorf("%d members, want %d: %v", got, want, err)
	}
}

// wantListed compares the conversations of a user, in ascending order.
func wantListed(t *testing.T, store *jetstream.Store, u subjects.User, want ...subjects.Conversation) {
	t.Helper()
	memberships, err := store.Memberships(t.Context(), u)
	var got []subjects.Conversation
	for _, m := range memberships {
		got = append(got, m.Conversation)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s is in %q, want %q: %v", u, got, want, err)
	}
	groups := slices.DeleteFunc(memberships, func(m jetstream.Member) bool { return m.Conversation.Kind() == subjects.KindDirect })
	together, err := store.MembershipsOf(t.Context(), []subjects.User{u, "nobody", u}, 100)
	if err != nil || len(together) != 2 || len(together["nobody"]) != 0 || !slices.Equal(together[u], groups) {
		t.Errorf("asked for with others %s is in %+v, want %+v: %v", u, together, groups, err)
	}
}

func TestMembersInBothDirections(t *testing.T) {
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	ctx := t.Context()
	wantMembers(t, store, 0)
	wantListed(t, store, "ada")
	if _, err := store.PutMember(ctx, member(room, "ada")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutMember(ctx, member(room, "ada")); !errors.Is(err, jetstream.ErrExists) {
		t.Errorf("a second membership: %v", err)
	}
	if _, err := store.PutMember(ctx, member("c.news", "ada")); err != nil {
		t.Fatal(err)
	}
	if err := store.PutListing(ctx, jetstream.Member{Conversation: "d.ada.bob", User: "ada"}); err != nil {
		t.Fatal(err)
	}
	wantMembers(t, store, 1)
	wantListed(t, store, "ada", "c.news", "d.ada.bob", "g.general")
	m, err := store.Member(ctx, room, "ada")
	if err != nil || m.Role != wire.RoleMember || m.JoinedSeq != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	first := m
	m.Role = wire.RoleOwner
	if m.Revision, err = store.PutMember(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := store.RemoveMember(ctx, first); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("remove as of an old revision: %v", err)
	}
	server.Restart(t)
	memberships, err := store.Memberships(ctx, "ada")
	if err != nil || len(memberships) != 3 || memberships[2].Role != wire.RoleOwner || memberships[2].Revision != m.Revision {
		t.Errorf("after a restart: %+v, %v", memberships, err)
	}
	if err := store.RemoveMember(ctx, m); err != nil {
		t.Fatal(err)
	}
	wantMembers(t, store, 0)
	wantListed(t, store, "ada", "c.news", "d.ada.bob")
	if _, err := store.Member(ctx, room, "ada"); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
	if err := store.RemoveMember(ctx, member(room, "ada")); err != nil {
		t.Errorf("remove what is gone: %v", err)
	}
	if _, err := store.PutMember(ctx, member(room, "ada")); err != nil {
		t.Errorf("add again: %v", err)
	}
	wantMembers(t, store, 1)
	wantListed(t, store, "ada", "c.news", "d.ada.bob", "g.general")
}

// A crash between the two writes must neither show a conversation to somebody who is out of it, nor stay for ever.
func TestHalfAMembership(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	ctx := t.Context()
	if err := store.PutListing(ctx, member(room, "eve")); err != nil { // what a removal leaves that ends in between
		t.Fatal(err)
	}
	if got, err := store.Memberships(ctx, "eve"); err != nil || len(got) != 0 {
		t.Errorf("a listing alone shows %+v, %v", got, err)
	}
	if err := store.RemoveMember(ctx, member(room, "eve")); err != nil {
		t.Fatal(err)
	}
	keys, err := jetstream.Matching(store, ctx, subjects.BucketMembers, subjects.MembershipsPattern("eve"))
	if err != nil || len(keys) != 0 {
		t.Errorf("after the removal was repeated: %v, %v", keys, err)
	}
}

func TestRacingAdditionsAndRemovalsAgree(t *testing.T) {
	server := jetstreamtest.Start(t)
	ctx := t.Context()
	var racers sync.WaitGroup
	for range 4 {
		store := server.Store(t)
		racers.Go(func() {
			for range 25 {
				m, err := store.Member(ctx, room, "ada")
				switch {
				case errors.Is(err, jetstream.ErrNotFound):
					_, err = store.PutMember(ctx, member(room, "ada"))
				case err == nil:
					err = store.RemoveMember(ctx, m)
				}
				if err != nil && !errors.Is(err, jetstream.ErrConflict) && !errors.Is(err, jetstream.ErrExists) {
					t.Error(err)
				}
			}
		})
	}
	racers.Wait()
	store := server.Store(t)
	_, err := store.Member(ctx, room, "ada")
	listings, listErr := jetstream.Matching(store, ctx, subjects.BucketMembers, subjects.MembershipsPattern("ada"))
	if listErr != nil || (err == nil) != (len(listings) == 1) {
		t.Errorf("the conversation says %v, and the user lists %d: %v", err, len(listings), listErr)
	}
	if got, countErr := store.CountMembers(ctx, room); countErr != nil || (err == nil) != (got == 1) {
		t.Errorf("the conversation says %v, and counts %d: %v", err, got, countErr)
	}
}

func TestPagesOfManyMembers(t *testing.T) {
	for _, n := range []int{0, 1, 1024, 1025, 2500} {
		t.Run(fmt.Sprintf("%d members", n), func(t *testing.T) {
			store := jetstreamtest.Start(t).Store(t)
			members := make([]jetstream.Member, n)
			for i := range members {
				members[i] = member(room, subjects.User(fmt.Sprintf("u%d", i)))
			}
			began := time.Now()
			if err := store.PutMembers(t.Context(), members); err != nil {
				t.Fatal(err)
			}
			t.Logf("put %d in %v", n, time.Since(began))
			if got, err := store.CountMembers(t.Context(), room); got != n || err != nil {
				t.Errorf("count: %d, %v", got, err)
			}
			seen := map[subjects.User]bool{}
			var after subjects.User
			for more := true; more; {
				var page []jetstream.Member
				var err error
				page, more, err = store.Members(t.Context(), room, after, 400)
				if err != nil || len(page) > 400 || (more && len(page) == 0) {
					t.Fatalf("a page of %d, %v", len(page), err)
				}
				for _, m := range page {
					if m.User <= after || m.Role != wire.RoleMember {
						t.Fatalf("%+v after %s", m, after)
					}
					after = m.User
					seen[after] = true
				}
			}
			if len(seen) != n {
				t.Errorf("saw %d of %d", len(seen), n)
			}
			if n > 0 {
				if got, err := store.Memberships(t.Context(), members[n-1].User); err != nil || len(got) != 1 {
					t.Errorf("the last one is in %v, %v", got, err)
				}
			}
		})
	}
}

func TestMembershipsOfManyUsers(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	sizes := map[subjects.User]int{"a": 0, "b": 1, "c": 700, "d": 1024, "e": 1025, "f": 3, "g": 600}
	var members []jetstream.Member
	users := []subjects.User{"nobody"}
	for u, n := range sizes {
		users = append(users, u)
		for i := range n {
			members = append(members, member(subjects.Conversation(fmt.Sprintf("g.c%04d", i)), u))
		}
	}
	if err := store.PutMembers(t.Context(), members); err != nil {
		t.Fatal(err)
	}
	for most, left := range map[int]map[subjects.User]bool{
		10_000: {"e": true},            // more than one request can list
		2328:   {"e": true},            // as many as there are
		2327:   {"e": true, "g": true}, // one less
		3:      {"c": true, "d": true, "e": true, "f": true, "g": true},
	} {
		got, err := store.MembershipsOf(t.Context(), users, most)
		if err != nil || len(got) != len(users)-len(left) {
			t.Errorf("at most %d: %d users, %v", most, len(got), err)
		}
		for u, list := range got {
			if left[u] || len(list) != sizes[u] {
				t.Errorf("at most %d: %s is in %d", most, u, len(list))
			}
			for i, m := range list {
				if m.User != u || m.Conversation != subjects.Conversation(fmt.Sprintf("g.c%04d", i)) {
					t.Fatalf("at most %d: membership %d of %s is %+v", most, i, u, m)
				}
			}
		}
	}
}

func TestAUserInManyConversations(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	members := make([]jetstream.Member, 1500)
	for i := range members {
		members[i] = member(subjects.Conversation(fmt.Sprintf("g.c%04d", i)), "ada")
	}
	if err := store.PutMembers(t.Context(), members); err != nil {
		t.Fatal(err)
	}
	got, err := store.Memberships(t.Context(), "ada")
	if err != nil || len(got) != len(members) {
		t.Fatalf("%d memberships, %v", len(got), err)
	}
	for i, m := range got {
		if m.Conversation != members[i].Conversation {
			t.Fatalf("membership %d is %+v", i, m)
		}
	}
}
