package conversations_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestNoSendIsAcceptedAfterARemoval removes a member, or takes the right to post away, again and again while the member posts through two
// instances of send as fast as it can.
func TestNoSendIsAcceptedAfterARemoval(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	w.run(send.Function(send.Config{}))
	w.run(conversations.Function(conversations.Config{}))
	team := w.group("ada")
	member := wire.MemberUpdate{Conversation: team, User: "bob"}
	reader := member
	reader.Role = wire.RoleReader
	for round := range 12 {
		w.change("", "ada", conversations.MethodAdd, member)
		// stopped is set once the change's ok was seen; a post that begins after that must be refused.
		var stopped atomic.Bool
		var accepted, refused atomic.Int64
		enough := make(chan struct{})
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for {
					after := stopped.Load()
					posted, err := invoke[wire.Posted](w, "bob", "send", "post", wire.Post{
						Conversation: team, ClientID: functionstest.ClientID(), Body: json.RawMessage(fmt.Sprintf(`{"round":%d}`, round)),
					})
					switch code := wire.CodeOf(err); {
					case err == nil && after:
						t.Errorf("round %d: accepted at %d after the ok", round, posted.Seq)
						return
					case err == nil:
						if accepted.Add(1) == 8 {
							close(enough)
						}
					case code != wire.NotFound && code != wire.Forbidden:
						t.Errorf("round %d: %v", round, err)
						return
					default:
						refused.Add(1)
						if after {
							return
						}
					}
				}
			})
		}
		<-enough
		if round%3 == 2 {
			w.change("", "ada", conversations.MethodRole, reader)
		} else {
			w.change("", "ada", conversations.MethodRemove, member)
		}
		stopped.Store(true)
		writers.Wait()
		if round%3 == 2 {
			w.change("", "ada", conversations.MethodRemove, member)
		}
	}
	w.nothingBehindAnEnding(team)
}

// nothingBehindAnEnding checks a dense log in which the messages are all by one user, who is in and out.
func (w *world) nothingBehindAnEnding(c subjects.Conversation) {
	w.t.Helper()
	postsNow := false
	for i, e := range w.entries(c) {
		if e.Seq != wire.Seq(i+1) {
			w.t.Fatalf("entry %d is at place %d", e.Seq, i+1)
		}
		switch e.Kind {
		case wire.KindMember:
			var body wire.MemberBody
			if err := json.Unmarshal(e.Body, &body); err != nil {
				w.t.Fatal(err)
			}
			postsNow = body.Change.Begins()
		case wire.KindMessage:
			if !postsNow {
				w.t.Errorf("entry %d by %s is behind the removal", e.Seq, e.From)
			}
		}
	}
}

// TestManyChangesOfOneMember adds, removes, and gives roles to the same user through two instances at once. Whatever wins, record, list
// and log agree in the end.
func TestManyChangesOfOneMember(t *testing.T) {
	w := newWorld(t, "ada", "mod", "bob")
	w.run(conversations.Function(conversations.Config{}))
	team := w.group("ada", "mod")
	w.change("", "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: team, User: "mod", Role: wire.RoleModerator})
	bob := wire.MemberUpdate{Conversation: team, User: "bob"}
	promoted := bob
	promoted.Role = wire.RoleModerator
	var all sync.WaitGroup
	for _, by := range []subjects.User{"ada", "mod"} {
		for _, c := range []struct {
			method subjects.Method
			in     wire.MemberUpdate
		}{{conversations.MethodAdd, bob}, {conversations.MethodRemove, bob}, {conversations.MethodRole, promoted}} {
			all.Go(func() {
				for range 8 {
					_, err := invoke[wire.Changed](w, by, "conversations", c.method, c.in)
					switch code := wire.CodeOf(err); code {
					case "", wire.NotFound, wire.Forbidden, wire.Unavailable:
					default:
						t.Errorf("%s by %s: %v", c.method, by, err)
					}
				}
			})
		}
	}
	all.Wait()
	w.change("", "ada", conversations.MethodAdd, bob)
	in, joined := false, wire.Seq(0)
	for i, e := range w.entries(team) {
		var body wire.MemberBody
		if e.Seq != wire.Seq(i+1) {
			t.Fatalf("entry %d is at place %d", e.Seq, i+1)
		}
		if e.Kind != wire.KindMember {
			continue
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		switch {
		case body.User != "bob":
		case body.Change.Begins():
			in, joined = true, e.Seq
		case body.Change.Ends():
			in = false
		}
	}
	m, err := w.store.Member(t.Context(), team, "bob")
	if err != nil || !in || m.Role == "" || m.JoinedSeq > joined {
		t.Errorf("the record is %+v, %v; in the log bob is in: %v, since %d", m, err, in, joined)
	}
	listed, err := w.store.Memberships(t.Context(), "bob")
	if err != nil || len(listed) != 1 || listed[0].JoinedSeq != m.JoinedSeq {
		t.Errorf("bob's list is %+v, %v", listed, err)
	}
	w.post("", "bob", team)
	w.change("", "ada", conversations.MethodRemove, bob)
	w.post(wire.NotFound, "bob", team)
}
