package edge

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Functions that sleep are left asleep while nothing is stored, and woken for what an edge may have missed: a lost live copy is found and a lost
// revocation obeyed although nobody who could tell is up.
func TestAnEdgeWakesFunctionsOnlyForWhatWasStored(t *testing.T) {
	w := newWorld(t)
	w.server.Store(t) // declares the streams, whose tails the edge looks at
	demands := w.tap(subjects.AllOf(subjects.Demand))
	looks := w.tap(subjects.StreamInfo(subjects.BucketStream(subjects.BucketSessions)))
	compares := w.tap(subjects.StreamInfo(subjects.MessagesStream(subjects.Partitions - 1)))
	r := w.edge()
	w.add("g.one", "ada")
	ada := r.connect(t, w, "ada", "web")
	if _, err := ada.call("history.heads", wire.Empty{}); err != nil {
		t.Fatal(err)
	}
	// After two of each the edge has compared everything once with the functions up.
	for range 2 {
		w.await(looks)
		w.await(compares)
	}
	for _, f := range []subjects.Function{funcHistory, funcAuth} {
		w.instances[f].Stop(t)
	}
	for range 3 {
		w.await(looks)
		w.await(compares)
	}
	if n, _, _ := demands.Pending(); n > 0 {
		t.Fatalf("%d demands while nothing was stored", n)
	}

	w.mu.Lock()
	w.drop = func(subjects.Conversation, wire.Seq) bool { return true }
	w.mu.Unlock()
	w.say("g.one", "bob", "lost")
	w.store(subjects.Message("g.one"))
	w.demanded(demands, funcHistory)
	w.start(w.history())
	ada.expect("g.one", 2)

	w.mu.Lock()
	w.revocations = append(w.revocations, wire.Revocation{User: "ada"})
	w.mu.Unlock()
	w.store(subjects.BucketSubject(subjects.BucketSessions, subjects.RevocationKey("ada", "")))
	w.demanded(demands, funcAuth)
	w.start(w.auth())
	if code := ada.closed(); code != int(wire.CloseRevoked) {
		t.Errorf("closed with %d", code)
	}
}

// tap hears what is said on a subject.
func (w *world) tap(subject string) *nats.Subscription {
	w.t.Helper()
	sub, err := w.nc.SubscribeSync(subject)
	if err == nil {
		err = w.nc.Flush()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return sub
}

func (w *world) await(sub *nats.Subscription) *nats.Msg {
	w.t.Helper()
	msg, err := sub.NextMsg(patience)
	if err != nil {
		w.t.Fatalf("%s: %v", sub.Subject, err)
	}
	return msg
}

// store moves the tail of the stream that a subject belongs to.
func (w *world) store(subject string) {
	w.t.Helper()
	if _, err := w.nc.Request(subject, []byte("{}"), patience); err != nil {
		w.t.Fatalf("store under %s: %v", subject, err)
	}
}

// demanded waits until calls to a function are held.
func (w *world) demanded(demands *nats.Subscription, f subjects.Function) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var d wire.Demand
		if err := json.Unmarshal(w.await(demands).Data, &d); err == nil && d.Function == f && d.Held > 0 {
			return
		}
	}
	w.t.Fatalf("nobody asked for %s", f)
}
