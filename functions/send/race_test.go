package send_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestManyWritersOfOneConversation lets several users write through two instances, each message in two copies at once.
func TestManyWritersOfOneConversation(t *testing.T) {
	w := newWorld(t)
	functionstest.Run(t, w.nc, send.Function(send.Config{Tails: 1, Decisions: 2}))
	const c, writers, each = subjects.Conversation("g.hot"), 6, 25
	founders := map[subjects.User]wire.Role{}
	for i := range writers {
		founders[subjects.User(fmt.Sprintf("u%d", i))] = wire.RoleMember
	}
	w.conversation(c, founders)
	live := w.listen(c)
	var mu sync.Mutex
	answers := map[subjects.User][]wire.Posted{}
	var all sync.WaitGroup
	for u := range founders {
		all.Go(func() {
			for i := range each {
				post := wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: functionstest.Text("%d", i)}
				var copies [2]wire.Posted
				var both sync.WaitGroup
				for n := range copies {
					both.Go(func() { copies[n] = ok(w, u, send.MethodPost, post) })
				}
				both.Wait()
				if copies[0].Seq != copies[1].Seq || copies[0].Count != copies[1].Count || copies[0].At != copies[1].At || copies[0].Duplicate == copies[1].Duplicate {
					t.Errorf("two copies of one message: %+v, %+v", copies[0], copies[1])
				}
				mu.Lock()
				answers[u] = append(answers[u], copies[0])
				mu.Unlock()
			}
		})
	}
	all.Wait()
	log := w.entries(c)
	if len(log) != 1+writers*each {
		t.Errorf("the log has %d entries, want %d", len(log), 1+writers*each)
	}
	for i, e := range log {
		if e.Seq != wire.Seq(i+1) || e.Count != uint64(i) {
			t.Fatalf("entry %d, message %d, is at place %d", e.Seq, e.Count, i+1)
		}
	}
	for u, posts := range answers {
		for i, p := range posts {
			if e := log[p.Seq-1]; e.From != u || string(e.Body) != string(functionstest.Text("%d", i)) || (i > 0 && p.Seq <= posts[i-1].Seq) {
				t.Errorf("message %d of %s was answered with %+v, where the log has %+v", i, u, p, e)
			}
		}
	}
	seen := map[wire.Seq]bool{}
	for len(seen) < writers*each {
		select {
		case seq := <-live:
			seen[seq] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d entries were told live", len(seen), writers*each)
		}
	}
}

// listen returns the seqs of the live copies of a conversation.
func (w *world) listen(c subjects.Conversation) <-chan wire.Seq {
	w.t.Helper()
	live := make(chan wire.Seq, 4096)
	sub, err := w.nc.Subscribe(subjects.Live(c), func(m *nats.Msg) {
		var e wire.Entry
		if err := json.Unmarshal(m.Data, &e); err != nil {
			w.t.Errorf("live copy %s: %v", m.Data, err)
		}
		live <- e.Seq
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return live
}

// TestADecisionEndsWithItsEpoch removes a member between two sends through an instance that remembers a yes.
func TestADecisionEndsWithItsEpoch(t *testing.T) {
	w := newWorld(t)
	const c = subjects.Conversation("g.team")
	w.conversation(c, map[subjects.User]wire.Role{"ada": wire.RoleOwner, "bob": wire.RoleMember})
	post := func() wire.Post {
		return wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")}
	}
	for range 5 {
		ok(w, "bob", send.MethodPost, post())
		w.remove(c, "bob")
		refused(w, "bob", wire.NotFound, send.MethodPost, post())
		refused(w, "bob", wire.NotFound, send.MethodReact, wire.React{Conversation: c, Seq: 2, ClientID: functionstest.ClientID(), Emoji: "👍"})
		w.add(c, "bob", wire.RoleMember)
	}
	// The bucket alone, without the entry that ends what was decided: nothing new is decided for bob any more.
	m, err := w.store.Member(t.Context(), c, "bob")
	if err != nil {
		t.Fatal(err)
	}
	m.Role = ""
	if _, err := w.store.PutMember(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	refused(w, "bob", wire.NotFound, send.MethodPost, post())
}

func TestARepeatIsToldLiveAgain(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	sub, err := w.nc.SubscribeSync(subjects.Live("d.ada.bob"))
	if err != nil {
		t.Fatal(err)
	}
	once := wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("once")}
	ok(w, "ada", send.MethodPost, once)
	ok(w, "ada", send.MethodPost, once)
	var copies [2]*nats.Msg
	for i := range copies {
		if copies[i], err = sub.NextMsg(10 * time.Second); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
	}
	first, second := copies[0], copies[1]
	if string(first.Data) != string(second.Data) || first.Header.Get(subjects.HeaderEntry) != second.Header.Get(subjects.HeaderEntry) || first.Header.Get(subjects.HeaderEntry) == "" {
		t.Errorf("the copies differ: %v %s, %v %s", first.Header, first.Data, second.Header, second.Data)
	}
}

func TestTheFirstEntryIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	first := wire.Append{Conversation: "g.team", Kind: wire.KindPolicy, From: "ada", ClientID: "founding", Body: json.RawMessage(`{"title":"T"}`), First: true}
	stored := w.append(first)
	if stored.Seq != 1 || stored.Duplicate {
		t.Errorf("the first entry is %+v", stored)
	}
	w.append(memberEntry("g.team", "bob", wire.ChangeAdded))
	stored.Duplicate = true
	if again := w.append(first); again != stored {
		t.Errorf("the repeat answers %+v, want %+v", again, stored)
	}
	other := first
	other.ClientID = "founding-2"
	if _, err := functions.Invoke[wire.Append, wire.Posted](t.Context(), w.caller, nil, send.Name, send.MethodAppend, other); wire.CodeOf(err) != wire.Conflict {
		t.Errorf("another first entry: %v", err)
	}
	old := memberEntry("g.team", "bob", wire.ChangeRemoved)
	for _, c := range []struct {
		epoch wire.Seq
		code  wire.Code
	}{{1, wire.Conflict}, {3, wire.Conflict}, {2, ""}, {2, wire.Conflict}, {3, ""}} { // the last one repeats the one that was stored
		old.Epoch = c.epoch
		if _, err := functions.Invoke[wire.Append, wire.Posted](t.Context(), w.caller, nil, send.Name, send.MethodAppend, old); wire.CodeOf(err) != c.code {
			t.Errorf("append at epoch %d: %v, want code %q", c.epoch, err, c.code)
		}
	}
	if m, known := w.caller.Method(send.Name, send.MethodAppend); !known || m.Public {
		t.Errorf("append is %+v, %v: clients must not call it", m, known)
	}
}

// TestAFullStoreSaysSo fills a store: the answer comes at once, with the code that operators look for, and what was refused is not there.
func TestAFullStoreSaysSo(t *testing.T) {
	w := newWorldIn(t, jetstream.Profile{MaxBytes: 128 << 10})
	w.users("ada", "bob")
	big := json.RawMessage(fmt.Sprintf(`{"text":"%01000d"}`, 0))
	stored := wire.Posted{}
	for range 200 {
		began := time.Now()
		posted, err := call(w, "ada", send.MethodPost, wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: big})
		if err == nil {
			stored = posted
			continue
		}
		if wire.CodeOf(err) != wire.StorageUnavailable || time.Since(began) > 2*time.Second {
			t.Errorf("a full store answers %v after %v", err, time.Since(began))
		}
		if head := w.head("d.ada.bob"); head.Seq != stored.Seq || stored.Seq == 0 {
			t.Errorf("the log is at %d, the last message that was stored at %d", head.Seq, stored.Seq)
		}
		return
	}
	t.Error("the store never was full")
}
