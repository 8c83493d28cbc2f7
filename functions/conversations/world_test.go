package conversations_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with the functions that change and read conversations on it.
type world struct {
	t      testing.TB
	server *jetstreamtest.Server
	nc     *nats.Conn
	store  *jetstream.Store
	caller *functions.Caller
}

// newWorld runs the functions, and registers users.
func newWorld(t testing.TB, users ...subjects.User) *world {
	t.Helper()
	w := &world{t: t, server: jetstreamtest.Start(t)}
	w.nc = w.server.Connect(t)
	w.store = w.server.StoreOn(t, w.nc)
	w.caller = functionstest.Caller(t, w.nc)
	w.run(send.Function(send.Config{}))
	w.run(history.Function(history.Config{}))
	w.run(conversations.Function(conversations.Config{}))
	jetstreamtest.Users(t, w.store, users...)
	return w
}

func (w *world) run(f functions.Function) *functionstest.Instance {
	w.t.Helper()
	return functionstest.RunEnv(w.t, functions.Env{NATS: w.nc, Caller: w.caller}, f)
}

// invoke calls a method as a user.
func invoke[Out, In any](w *world, user subjects.User, f subjects.Function, m subjects.Method, in In) (Out, error) {
	return functions.Invoke[In, Out](w.t.Context(), w.caller, functionstest.As(user), f, m, in)
}

// ask calls a method of this function as a user; an error fails the test.
func ask[Out, In any](w *world, user subjects.User, m subjects.Method, in In) Out {
	w.t.Helper()
	out, err := invoke[Out](w, user, "conversations", m, in)
	if err != nil {
		w.t.Fatalf("%s by %s of %+v: %v", m, user, in, err)
	}
	return out
}

// mine returns what an edge delivers to a user, who may be asked for alone or with others.
func (w *world) mine(u subjects.User) []wire.Membership {
	w.t.Helper()
	mine := ask[wire.Memberships](w, "", conversations.MethodMine, wire.UserQuery{User: u}).Memberships
	with := ask[wire.MembershipsOf](w, "", conversations.MethodMemberships, wire.MembershipsQuery{Users: []subjects.User{"nobody", u}}).Users
	same := func(a, b wire.Membership) bool { return a.Conversation == b.Conversation && a.From == b.From }
	if len(with) != 2 || len(with["nobody"]) != 0 || !slices.EqualFunc(with[u], mine, same) {
		w.t.Errorf("alone %s is in %+v, with others %+v", u, mine, with)
	}
	return mine
}

// change calls a method that answers with a seq, and wants a code; "" for none.
func (w *world) change(code wire.Code, user subjects.User, m subjects.Method, in any) wire.Seq {
	w.t.Helper()
	out, err := invoke[wire.Changed](w, user, "conversations", m, in)
	if wire.CodeOf(err) != code {
		w.t.Errorf("%s by %s of %+v = %+v, %v; want code %q", m, user, in, out, err, code)
	}
	return out.Seq
}

// post posts and wants a code.
func (w *world) post(code wire.Code, user subjects.User, c subjects.Conversation) wire.Posted {
	w.t.Helper()
	out, err := invoke[wire.Posted](w, user, "send", "post", wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
	if wire.CodeOf(err) != code {
		w.t.Errorf("post by %s to %s = %+v, %v; want code %q", user, c, out, err, code)
	}
	return out
}

// group makes a group and returns its id.
func (w *world) group(owner subjects.User, members ...subjects.User) subjects.Conversation {
	w.t.Helper()
	return ask[wire.ConversationInfo](w, owner, conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, Title: "Team", Members: members}).Conversation
}

func (w *world) about(user subjects.User, c subjects.Conversation) wire.ConversationInfo {
	w.t.Helper()
	return ask[wire.ConversationInfo](w, user, conversations.MethodGet, wire.ConversationQuery{Conversation: c})
}

func (w *world) entries(c subjects.Conversation) []wire.Entry {
	w.t.Helper()
	return jetstreamtest.Entries(w.t, w.store, c)
}

// memberEntries returns the bodies of the member entries about a user.
func (w *world) memberEntries(c subjects.Conversation, u subjects.User) map[wire.Seq]wire.MemberBody {
	w.t.Helper()
	found := map[wire.Seq]wire.MemberBody{}
	for _, e := range w.entries(c) {
		var body wire.MemberBody
		if e.Kind == wire.KindMember {
			if err := json.Unmarshal(e.Body, &body); err != nil {
				w.t.Fatal(err)
			}
		}
		if body.User == u {
			found[e.Seq] = body
		}
	}
	return found
}

// events collects what the edges of a user are told.
func (w *world) events(u subjects.User) <-chan wire.UserEvent {
	w.t.Helper()
	told := make(chan wire.UserEvent, 64)
	sub, err := w.nc.Subscribe(subjects.UserEvents(u), func(m *nats.Msg) {
		var event wire.UserEvent
		if err := json.Unmarshal(m.Data, &event); err != nil {
			w.t.Errorf("event %s: %v", m.Data, err)
		}
		told <- event
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return told
}

func (w *world) event(told <-chan wire.UserEvent) wire.UserEvent {
	w.t.Helper()
	select {
	case event := <-told:
		return event
	case <-time.After(10 * time.Second):
		w.t.Fatal("no event for the edges")
		return wire.UserEvent{}
	}
}
