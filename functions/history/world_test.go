package history_test

import (
	"reflect"
	"testing"

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

// world is a store with the functions that fill and read conversations on it.
type world struct {
	t      testing.TB
	nc     *nats.Conn
	store  *jetstream.Store
	caller *functions.Caller
}

// newWorld runs the functions, and registers users.
func newWorld(t testing.TB, users ...subjects.User) *world {
	t.Helper()
	return newWorldWith(t, history.Config{}, users...)
}

// newWorldWith is newWorld with another configuration of the tested function.
func newWorldWith(t testing.TB, c history.Config, users ...subjects.User) *world {
	t.Helper()
	server := jetstreamtest.Start(t)
	w := &world{t: t, nc: server.Connect(t)}
	w.store = server.StoreOn(t, w.nc)
	w.caller = functionstest.Caller(t, w.nc)
	for _, f := range []functions.Function{
		send.Function(send.Config{}), history.Function(c), conversations.Function(conversations.Config{}),
	} {
		functionstest.RunEnv(t, functions.Env{NATS: w.nc, Caller: w.caller}, f)
	}
	jetstreamtest.Users(t, w.store, users...)
	return w
}

// invoke calls a method as a user.
func invoke[Out, In any](w *world, user subjects.User, f subjects.Function, m subjects.Method, in In) (Out, error) {
	return functions.Invoke[In, Out](w.t.Context(), w.caller, functionstest.As(user), f, m, in)
}

// ask is invoke where an error fails the test.
func ask[Out, In any](w *world, user subjects.User, f subjects.Function, m subjects.Method, in In) Out {
	w.t.Helper()
	out, err := invoke[Out](w, user, f, m, in)
	if err != nil {
		w.t.Fatalf("%s.%s by %s of %+v: %v", f, m, user, in, err)
	}
	return out
}

func (w *world) post(user subjects.User, c subjects.Conversation, format string, args ...any) wire.Posted {
	w.t.Helper()
	return ask[wire.Posted](w, user, "send", send.MethodPost, wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: functionstest.Text(format, args...)})
}

func (w *world) group(id string, owner subjects.User, members ...subjects.User) subjects.Conversation {
	w.t.Helper()
	made := ask[wire.ConversationInfo](w, owner, "conversations", conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, ID: id, Title: "Title of " + id, Members: members})
	return made.Conversation
}

// member adds or removes a user.
func (w *world) member(m subjects.Method, c subjects.Conversation, u subjects.User) wire.Seq {
	w.t.Helper()
	return ask[wire.Changed](w, "ada", "conversations", m, wire.MemberUpdate{Conversation: c, User: u}).Seq
}

func (w *world) page(user subjects.User, q wire.PageQuery) wire.Page {
	w.t.Helper()
	return ask[wire.Page](w, user, history.Name, history.MethodPage, q)
}

func (w *world) heads(user subjects.User) []wire.ConversationHead {
	w.t.Helper()
	return ask[wire.Heads](w, user, history.Name, history.MethodHeads, wire.HeadsQuery{}).Conversations
}

// headsTogether is heads of a user who asks with others.
func (w *world) headsTogether(user subjects.User) []wire.ConversationHead {
	w.t.Helper()
	answer := ask[wire.HeadsOf](w, "", history.Name, history.MethodHeadsOf, wire.HeadsOfQuery{Users: []subjects.User{"zoe", user, "bob", user}})
	all, ok := answer.Users[user]
	if !ok || all.Next != "" {
		w.t.Errorf("with others %s is answered %+v, %v", user, all, ok)
	}
	return all.Conversations
}

func (w *world) head(user subjects.User, c subjects.Conversation) wire.ConversationHead {
	w.t.Helper()
	alone := w.heads(user)
	if together := w.headsTogether(user); !reflect.DeepEqual(together, alone) {
		w.t.Errorf("with others %s sees %+v, and alone %+v", user, together, alone)
	}
	for _, h := range alone {
		if h.Conversation == c {
			return h
		}
	}
	w.t.Fatalf("%s does not see %s", user, c)
	return wire.ConversationHead{}
}

func seqs(t testing.TB, p wire.Page) []wire.Seq {
	t.Helper()
	all := []wire.Seq{}
	for _, raw := range p.Entries {
		all = append(all, jetstreamtest.Entry(t, raw).Seq)
	}
	return all
}

func at(seq wire.Seq) *wire.Seq { return &seq }
