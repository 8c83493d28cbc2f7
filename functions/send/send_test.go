package send_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with function send on it.
type world struct {
	t      testing.TB
	server *jetstreamtest.Server
	nc     *nats.Conn
	store  *jetstream.Store
	caller *functions.Caller
}

func newWorld(t testing.TB, options ...jetstreamtest.Option) *world {
	t.Helper()
	return newWorldIn(t, jetstream.Profile{}, options...)
}

func newWorldIn(t testing.TB, p jetstream.Profile, options ...jetstreamtest.Option) *world {
	t.Helper()
	w := &world{t: t, server: jetstreamtest.Start(t, options...)}
	w.nc = w.server.Connect(t)
	if err := jetstream.Declare(t.Context(), w.nc, p); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.store, err = jetstream.Open(t.Context(), w.nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	functionstest.Run(t, w.nc, send.Function(send.Config{}))
	w.caller = functionstest.Caller(t, w.nc)
	return w
}

func (w *world) users(names ...subjects.User) {
	w.t.Helper()
	jetstreamtest.Users(w.t, w.store, names...)
}

// conversation makes a group or channel whose founders have the given roles, with its first entry.
func (w *world) conversation(c subjects.Conversation, founders map[subjects.User]wire.Role) {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.store.CreateConversation(ctx, jetstream.Conversation{Conversation: c, Kind: c.Kind(), Created: wire.At(time.Now())}); err != nil {
		w.t.Fatal(err)
	}
	var members []jetstream.Member
	for u, role := range founders {
		members = append(members, jetstream.Member{Conversation: c, User: u, Role: role, JoinedSeq: 1})
	}
	if err := w.store.PutMembers(ctx, members); err != nil {
		w.t.Fatal(err)
	}
	w.append(wire.Append{Conversation: c, Kind: wire.KindPolicy, From: "ada", ClientID: "founding", Body: json.RawMessage(`{"title":"T"}`), First: true})
}

// add makes a user a member by an entry, as function conversations does.
func (w *world) add(c subjects.Conversation, u subjects.User, role wire.Role) wire.Seq {
	w.t.Helper()
	entry := w.append(memberEntry(c, u, wire.ChangeAdded))
	if _, err := w.store.PutMember(w.t.Context(), jetstream.Member{Conversation: c, User: u, Role: role, JoinedSeq: entry.Seq}); err != nil {
		w.t.Fatal(err)
	}
	return entry.Seq
}

// remove ends a membership: the bucket first, then the log.
func (w *world) remove(c subjects.Conversation, u subjects.User) wire.Seq {
	w.t.Helper()
	m, err := w.store.Member(w.t.Context(), c, u)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.RemoveMember(w.t.Context(), m); err != nil {
		w.t.Fatal(err)
	}
	return w.append(memberEntry(c, u, wire.ChangeRemoved)).Seq
}

func memberEntry(c subjects.Conversation, u subjects.User, change wire.MemberChange) wire.Append {
	body, err := json.Marshal(wire.MemberBody{User: u, Change: change, By: "ada"})
	if err != nil {
		panic(err)
	}
	return wire.Append{Conversation: c, Kind: wire.KindMember, From: "ada", ClientID: functionstest.ClientID(), Body: body}
}

func (w *world) append(in wire.Append) wire.Posted {
	w.t.Helper()
	out, err := functions.Invoke[wire.Append, wire.Posted](w.t.Context(), w.caller, nil, send.Name, send.MethodAppend, in)
	if err != nil {
		w.t.Fatalf("append %+v: %v", in, err)
	}
	return out
}

// call calls a method as a user.
func call[In any](w *world, user subjects.User, method subjects.Method, in In) (wire.Posted, error) {
	return functions.Invoke[In, wire.Posted](w.t.Context(), w.caller, functionstest.As(user), send.Name, method, in)
}

// ok is call where an error fails the test.
func ok[In any](w *world, user subjects.User, method subjects.Method, in In) wire.Posted {
	w.t.Helper()
	out, err := call(w, user, method, in)
	if err != nil {
		w.t.Fatalf("%s by %s of %+v: %v", method, user, in, err)
	}
	return out
}

// refused is call where anything but the code fails the test.
func refused[In any](w *world, user subjects.User, code wire.Code, method subjects.Method, in In) {
	w.t.Helper()
	if out, err := call(w, user, method, in); wire.CodeOf(err) != code {
		w.t.Errorf("%s by %s of %+v = %+v, %v; want %s", method, user, in, out, err, code)
	}
}

// headerOf returns the headers of a call as an edge writes them for a user.
func headerOf(u subjects.User) nats.Header { return functionstest.As(u).Header() }

func (w *world) head(c subjects.Conversation) jetstream.Tail {
	w.t.Helper()
	tail, err := w.store.Tail(context.WithoutCancel(w.t.Context()), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return tail
}

func (w *world) entries(c subjects.Conversation) []wire.Entry {
	w.t.Helper()
	return jetstreamtest.Entries(w.t, w.store, c)
}
