package conversations_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// lossy is a function send that can be told to store and then to answer as if it had not, or not to store: what a caller sees when an
// instance dies after, or before, its append.
type lossy struct {
	store  *jetstream.Store
	before bool
	after  bool
	hold   func(*wire.Append) // runs before an append
}

func (l *lossy) function() functions.Function {
	return functions.Function{
		Name: "send", Description: "Loses answers",
		Methods: []functions.Method{{Name: "append", Response: wire.Posted{}}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"append": functions.Handle(l.append)}, nil
		},
	}
}

func (l *lossy) append(ctx context.Context, _ *functions.Call, in *wire.Append) (wire.Posted, error) {
	lost := wire.Errorf(wire.Timeout, "The answer is lost.")
	if l.hold != nil {
		l.hold(in)
	}
	if l.before {
		return wire.Posted{}, lost
	}
	var done jetstream.Appended
	err := jetstream.ErrTailMoved
	for errors.Is(err, jetstream.ErrTailMoved) {
		var tail jetstream.Tail
		if tail, err = l.store.Tail(ctx, in.Conversation); err != nil {
			return wire.Posted{}, err
		}
		if in.Epoch > 0 && in.Epoch != tail.Epoch || in.First && tail.Seq > 0 {
			return wire.Posted{}, wire.Errorf(wire.Conflict, "Something changed.")
		}
		done, err = l.store.Append(ctx, in.Conversation, tail, jetstream.Draft{Kind: in.Kind, From: in.From, ClientID: in.ClientID, Body: in.Body})
	}
	if err != nil {
		return wire.Posted{}, err
	}
	if l.after {
		return wire.Posted{}, lost
	}
	return wire.Posted{Conversation: in.Conversation, Seq: done.Entry.Seq, Count: done.Entry.Count, At: done.Entry.At, Duplicate: done.Duplicate}, nil
}

func newLossyWorld(t *testing.T, users ...subjects.User) (*world, *lossy) {
	w := &world{t: t, server: jetstreamtest.Start(t)}
	w.nc = w.server.Connect(t)
	w.store = w.server.StoreOn(t, w.nc)
	w.caller = functionstest.Caller(t, w.nc)
	l := &lossy{store: w.store}
	w.run(l.function())
	w.run(conversations.Function(conversations.Config{}))
	jetstreamtest.Users(t, w.store, users...)
	return w, l
}

// TestChangesCutInTwo makes every change three times: with the log failing before the append, after it, and not at all. The third call
// finishes what the others began: one entry, one seq, and a record that agrees.
func TestChangesCutInTwo(t *testing.T) {
	w, l := newLossyWorld(t, "ada", "mod", "bob")
	team := w.group("ada", "mod")
	news := ask[wire.ConversationInfo](w, "ada", conversations.MethodCreate, wire.Create{Kind: subjects.KindChannel, Title: "News"}).Conversation
	title := "Titled"
	member := func(c subjects.Conversation, u subjects.User, r wire.Role) wire.MemberUpdate {
		return wire.MemberUpdate{Conversation: c, User: u, Role: r}
	}
	for _, c := range []struct {
		name string
		user subjects.User
		m    subjects.Method
		in   any
		conv subjects.Conversation
		role wire.Role // of bob or mod afterwards
	}{
		{"an addition", "ada", conversations.MethodAdd, member(team, "bob", ""), team, wire.RoleMember},
		{"a higher role", "ada", conversations.MethodRole, member(team, "bob", wire.RoleModerator), team, wire.RoleModerator},
		{"a lower role", "ada", conversations.MethodRole, member(team, "bob", wire.RoleReader), team, wire.RoleReader},
		{"a title", "ada", conversations.MethodUpdate, wire.Update{Conversation: team, Title: &title}, team, wire.RoleReader},
		{"a removal", "ada", conversations.MethodRemove, member(team, "bob", ""), team, ""},
		{"another addition", "ada", conversations.MethodAdd, member(team, "bob", ""), team, wire.RoleMember},
		{"a leave", "bob", conversations.MethodLeave, wire.ConversationQuery{Conversation: team}, team, ""},
		{"a join", "bob", conversations.MethodJoin, wire.ConversationQuery{Conversation: news}, news, wire.RoleReader},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			before := w.entries(c.conv)
			l.before = true
			w.change(wire.Timeout, c.user, c.m, c.in)
			l.before, l.after = false, true
			w.change(wire.Timeout, c.user, c.m, c.in)
			l.after = false
			seq := w.change("", c.user, c.m, c.in)
			if after := w.entries(c.conv); len(after) != len(before)+1 || seq != after[len(after)-1].Seq {
				t.Errorf("the log grew by %d entries; the last seq is %d, the answer %d", len(after)-len(before), after[len(after)-1].Seq, seq)
			}
			m, err := w.store.Member(t.Context(), c.conv, "bob")
			if m.Role != c.role || (err != nil) != (c.role == "") {
				t.Errorf("bob's record is %+v, %v; want the role %q", m, err, c.role)
			}
			if listed, err := w.store.Memberships(t.Context(), "bob"); err != nil || (c.role == "") != (len(listed) == 0) {
				t.Errorf("bob's list is %+v, %v", listed, err)
			}
		})
	}
	w.t = t
	if got := w.about("ada", team); got.Title != title {
		t.Errorf("the title is %q", got.Title)
	}
}

// TestALateEndingDoesNotReachTheLog holds up the entry of a removal until another instance has finished that removal and let the user in again.
func TestALateEndingDoesNotReachTheLog(t *testing.T) {
	w, l := newLossyWorld(t, "ada", "mod", "bob")
	w.run(conversations.Function(conversations.Config{}))
	team := w.group("ada", "mod")
	w.change("", "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: team, User: "mod", Role: wire.RoleModerator})
	bob := wire.MemberUpdate{Conversation: team, User: "bob"}
	w.change("", "ada", conversations.MethodAdd, bob)
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.hold = func(in *wire.Append) {
		if in.From == "ada" {
			once.Do(func() {
				close(held)
				<-release
			})
		}
	}
	var all sync.WaitGroup
	all.Go(func() { w.change("", "ada", conversations.MethodRemove, bob) })
	<-held
	const adds = 8 // those that come to the instance of the removal wait behind it
	added := make(chan struct{}, adds)
	for range adds {
		all.Go(func() {
			w.change("", "mod", conversations.MethodAdd, bob)
			added <- struct{}{}
		})
	}
	<-added
	close(release)
	all.Wait()
	in := false
	entries := w.memberEntries(team, "bob")
	for _, seq := range slices.Sorted(maps.Keys(entries)) {
		change := entries[seq].Change
		if change.Begins() == in || change.Ends() != in {
			t.Errorf("the log says of bob: %+v", entries)
			break
		}
		in = !in
	}
	if m, err := w.store.Member(t.Context(), team, "bob"); in != (err == nil) {
		t.Errorf("in the log bob is in: %v; the record is %+v, %v", in, m, err)
	}
}

// TestACutMembershipIsNone looks at what others see between the two steps of a change.
func TestACutMembershipIsNone(t *testing.T) {
	w, l := newLossyWorld(t, "ada", "bob", "eve")
	team := w.group("ada", "bob")
	none := func(u subjects.User) {
		t.Helper()
		w.change(wire.NotFound, u, conversations.MethodGet, wire.ConversationQuery{Conversation: team})
		if mine := w.mine(u); len(mine) != 0 {
			t.Errorf("%s's memberships are %+v", u, mine)
		}
		for _, m := range ask[wire.Members](w, "ada", conversations.MethodMembers, wire.MembersQuery{Conversation: team}).Members {
			if m.User == u {
				t.Errorf("the members have %+v", m)
			}
		}
	}
	l.before = true
	w.change(wire.Timeout, "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: team, User: "eve"})
	none("eve")
	w.change(wire.Timeout, "ada", conversations.MethodRemove, wire.MemberUpdate{Conversation: team, User: "bob"})
	none("bob")
	l.before = false
	// Somebody else's addition finishes the ending first.
	added := w.change("", "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: team, User: "bob"})
	if got := w.memberEntries(team, "bob"); !reflect.DeepEqual(got, map[wire.Seq]wire.MemberBody{
		added - 1: {User: "bob", Change: wire.ChangeRemoved, By: "ada"},
		added:     {User: "bob", Change: wire.ChangeAdded, Role: wire.RoleMember, By: "ada"},
	}) {
		t.Errorf("the log says of bob: %+v", got)
	}
}

// TestACreationCutInTwo fails a creation before its first entry: it is nobody's conversation yet, its creator may try again with other
// founders, and nobody else takes its id.
func TestACreationCutInTwo(t *testing.T) {
	w, l := newLossyWorld(t, "ada", "bob", "eve")
	create := func(by subjects.User, title string, members ...subjects.User) (wire.ConversationInfo, error) {
		return invoke[wire.ConversationInfo](w, by, "conversations", conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, ID: "team", Title: title, Members: members})
	}
	l.before = true
	if _, err := create("ada", "First", "bob"); wire.CodeOf(err) != wire.Timeout {
		t.Fatalf("create: %v", err)
	}
	l.before = false
	for _, u := range []subjects.User{"ada", "bob"} {
		for _, m := range []subjects.Method{conversations.MethodGet, conversations.MethodMembers, conversations.MethodLeave, conversations.MethodJoin} {
			w.change(wire.NotFound, u, m, wire.ConversationQuery{Conversation: "g.team"})
		}
	}
	if _, err := create("bob", "Mine"); wire.CodeOf(err) != wire.Conflict {
		t.Errorf("another's creation under the id: %v", err)
	}
	l.after = true
	if _, err := create("ada", "Second", "eve"); wire.CodeOf(err) != wire.Timeout {
		t.Fatalf("create: %v", err)
	}
	l.after = false
	if _, err := create("ada", "Third"); wire.CodeOf(err) != wire.Conflict {
		t.Errorf("a creation after the first entry: %v", err)
	}
	want := wire.ConversationInfo{Conversation: "g.team", Kind: subjects.KindGroup, Title: "Second", Role: wire.RoleOwner, Members: 2, Head: wire.Mark{Seq: 1}}
	if got := w.about("ada", "g.team"); got != want {
		t.Errorf("the conversation is %+v, want %+v", got, want)
	}
	w.change(wire.NotFound, "bob", conversations.MethodGet, wire.ConversationQuery{Conversation: "g.team"})
	if got := w.about("eve", "g.team"); got.Role != wire.RoleMember {
		t.Errorf("eve is %+v", got)
	}
}

// TestGeneralIsFinishedByWhoeverComes leaves the making of g.general to a second user after the first one's was cut short.
func TestGeneralIsFinishedByWhoeverComes(t *testing.T) {
	w, l := newLossyWorld(t, "ada", "bob")
	l.before = true
	w.change(wire.Timeout, "", conversations.MethodEnrol, wire.UserQuery{User: "ada"})
	l.before = false
	w.change("", "", conversations.MethodEnrol, wire.UserQuery{User: "bob"})
	w.change("", "", conversations.MethodEnrol, wire.UserQuery{User: "ada"})
	if got := w.about("ada", subjects.General); got.Role != wire.RoleOwner || got.Members != 2 {
		t.Errorf("for ada g.general is %+v", got)
	}
	if got := w.about("bob", subjects.General); got.Role != wire.RoleMember || got.Head.Seq != 2 {
		t.Errorf("for bob g.general is %+v", got)
	}
}

// TestAStoreThatIsAwaySaysSo asks an instance whose store does not answer: its connection stays, the streams are gone.
func TestAStoreThatIsAwaySaysSo(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	team := w.group("ada", "bob")
	js, err := w.nc.JetStream()
	if err == nil {
		err = js.DeleteStream(subjects.StreamOf(team))
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.change(wire.StorageUnavailable, "ada", conversations.MethodGet, wire.ConversationQuery{Conversation: team})
	w.post(wire.StorageUnavailable, "ada", team)
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("two answers took %v", took)
	}
}
