package send_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestInstancesKnowWhatOthersAppend lets two users take turns through two instances. Each append that comes too late reads the tail anew, which would be every other
// one if an instance remembered its own appends alone.
func TestInstancesKnowWhatOthersAppend(t *testing.T) {
	for name, topology := range topologies {
		t.Run(name, func(t *testing.T) { turns(t, topology) })
	}
}

// topology is a kind of server, with the subject on which send asks it for the tail of a conversation.
type topology struct {
	options  []jetstreamtest.Option
	tailRead func(subjects.Conversation) string
}

var topologies = map[string]topology{
	"a server alone": {nil, func(c subjects.Conversation) string {
		return subjects.DirectReadLast(subjects.StreamOf(c), subjects.Message(c))
	}},
	"one of a cluster": {[]jetstreamtest.Option{jetstreamtest.OfCluster()}, func(c subjects.Conversation) string {
		return subjects.LeaderRead(subjects.StreamOf(c))
	}},
}

func turns(t *testing.T, topology topology) {
	w := newWorld(t, topology.options...)
	functionstest.Run(t, w.server.Connect(t), send.Function(send.Config{}))
	for w.caller.Instances(send.Name) < 2 {
		<-w.caller.Changed()
	}
	w.users("ada", "bob")
	const c, posts = subjects.Conversation("d.ada.bob"), 200
	var reads atomic.Int64
	if _, err := w.nc.Subscribe(topology.tailRead(c), func(*nats.Msg) { reads.Add(1) }); err != nil {
		t.Fatal(err)
	}
	live := w.listen(c)
	for i := range posts {
		from, to := subjects.User("ada"), subjects.User("bob")
		if i%2 == 1 {
			from, to = to, from
		}
		posted := ok(w, from, send.MethodPost, wire.Post{To: to, ClientID: functionstest.ClientID(), Body: functionstest.Text("%d", i)})
		if posted.Seq != wire.Seq(i+1) {
			t.Fatalf("post %d has seq %d", i, posted.Seq)
		}
		for heard := wire.Seq(0); heard < posted.Seq; {
			select {
			case heard = <-live:
			case <-time.After(30 * time.Second):
				t.Fatalf("no live copy of entry %d", posted.Seq)
			}
		}
	}
	t.Logf("%d reads of the tail for %d posts", reads.Load(), posts)
	if n := reads.Load(); n == 0 || n > posts/3 {
		t.Errorf("the tail was read %d times for %d posts", n, posts)
	}
}

// TestLiveCopiesThatAreNoTail are of other conversations, or do not say where the entry is.
func TestLiveCopiesThatAreNoTail(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	const c = subjects.Conversation("d.ada.bob")
	copies := make(chan *nats.Msg, 8)
	if _, err := w.nc.ChanSubscribe(subjects.Live(c), copies); err != nil {
		t.Fatal(err)
	}
	post := wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("hello")}
	ok(w, "ada", send.MethodPost, post)
	stored := <-copies
	ok(w, "ada", send.MethodPost, post) // a duplicate, which is said again
	again := <-copies
	tail, good := w.store.LiveTail(c, stored)
	want, err := w.store.Tail(t.Context(), c)
	if err != nil || !good || tail.Seq != 1 || tail.Mark() != want.Mark() || tail.Epoch != want.Epoch || tail.At != want.At {
		t.Fatalf("the live copy shows %+v, %v; read is %+v, %v", tail, good, want, err)
	}
	draft := jetstream.Draft{Kind: wire.KindMessage, From: "ada", Body: functionstest.Text("more")}
	if appended, err := w.store.Append(t.Context(), c, tail.Lean(), draft); err != nil || appended.Entry.Seq != 2 {
		t.Errorf("appending to the tail of a live copy: %+v, %v", appended.Entry, err)
	}
	for name, bad := range map[string]func() (jetstream.Tail, bool){
		"said again":     func() (jetstream.Tail, bool) { return w.store.LiveTail(c, again) },
		"of another":     func() (jetstream.Tail, bool) { return w.store.LiveTail("d.ada.cyd", stored) },
		"without fields": func() (jetstream.Tail, bool) { return w.store.LiveTail(c, &nats.Msg{Subject: subjects.Live(c)}) },
		"with another's entry": func() (jetstream.Tail, bool) {
			return w.store.LiveTail(c, &nats.Msg{Header: stored.Header, Data: []byte(`{}`)})
		},
		"with a broken pointer": func() (jetstream.Tail, bool) {
			header := nats.Header{}
			for k, v := range stored.Header {
				header[k] = v
			}
			header[subjects.HeaderBack] = []string{"page=x"}
			return w.store.LiveTail(c, &nats.Msg{Header: header, Data: stored.Data})
		},
	} {
		if tail, good := bad(); good {
			t.Errorf("a live copy %s is taken for %+v", name, tail)
		}
	}
}
