package edge

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestWhatHasComeWithoutAGap(t *testing.T) {
	const id = subjects.Conversation("d.ada.bob")
	p := id.Partition()
	other := subjects.MessagesStream((p + 1) % subjects.Partitions)
	var h heard
	come := func(stream string, sequences ...string) {
		h.note(id, &nats.Msg{Header: nats.Header{subjects.HeaderStream: {stream}, subjects.HeaderSequence: sequences}})
	}
	here := subjects.MessagesStream(p)
	for _, step := range []struct {
		name         string
		stream       string
		sequences    []string // of one copy; the last is the server's
		behind, upTo uint64
		all          bool
	}{
		{"nothing", other, []string{"1"}, 0, 1, false},
		{"the first", here, []string{"1"}, 0, 1, true},
		{"the next", here, []string{"2"}, 0, 2, true},
		{"one with a place of its own", here, []string{"7", "3"}, 0, 3, true},
		{"more than has come", here, []string{"4"}, 3, 5, false},
		{"no number", here, []string{"x"}, 0, 4, true},
		{"no place", here, nil, 0, 4, true},
		{"one after a gap", here, []string{"6"}, 4, 6, false},
		{"what came after it", here, []string{"7"}, 5, 7, true},
		{"one again", here, []string{"2"}, 5, 7, false},
		{"a stream that went back", here, []string{"3"}, 4, 3, false},
	} {
		come(step.stream, step.sequences...)
		if got := h.all(p, step.behind, step.upTo); got != step.all {
			t.Errorf("%s: everything behind %d up to %d has come: %v, want %v", step.name, step.behind, step.upTo, got, step.all)
		}
	}
	if h.forget(); h.all(p, 1, 2) {
		t.Error("what was forgotten counts")
	}
}

// TestOnlyWhatDidNotComeIsCompared stores messages as send does. A conversation is compared with the store where a copy of something in its partition did not come, and
// only there: a copy may be late, so that is looked for more than once.
func TestOnlyWhatDidNotComeIsCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := w.server.Store(t)
	checks := w.tap(subjects.RPC(funcHistory, "check"))
	looks := w.tap(subjects.StreamInfo(subjects.MessagesStream(subjects.Partitions - 1)))
	ada := w.edge().connect(t, w, "ada", "web")
	const direct = subjects.Conversation("d.ada.bob")
	unseen := subjects.Conversation("g.0") // of the same partition, and of nobody here
	for i := 1; unseen.Partition() != direct.Partition(); i++ {
		unseen = subjects.Conversation(fmt.Sprint("g.", i))
	}
	said := map[subjects.Conversation]jetstream.Tail{}
	say := func(c subjects.Conversation) wire.Seq {
		t.Helper()
		body, err := wire.Marshal(text{"hi"})
		if err != nil {
			t.Fatal(err)
		}
		done, err := store.Append(t.Context(), c, said[c], jetstream.Draft{Kind: wire.KindMessage, From: "bob", Body: body})
		if err != nil {
			t.Fatal(err)
		}
		said[c] = done.Tail
		return done.Entry.Seq
	}
	// compared reports whether the conversation is compared after what was said.
	compared := func() (found bool) {
		t.Helper()
		for n, _, _ := looks.Pending(); n > 0; n, _, _ = looks.Pending() {
			w.await(looks)
		}
		for range 3 { // the second comparison began after what was said, and the third after the second
			w.await(looks)
		}
		for n, _, _ := checks.Pending(); n > 0; n, _, _ = checks.Pending() {
			var check wire.HeadCheck
			if err := json.Unmarshal(w.await(checks).Data, &check); err != nil {
				t.Fatal(err)
			}
			_, there := check.Heads[direct]
			found = found || there
		}
		return found
	}
	ada.expect(string(direct), say(direct))
	rounds := 0
	eventually(t, "a message that has come is not compared", func() bool {
		compared() // what is left of the round before
		ada.expect(string(direct), say(direct))
		rounds++
		return !compared()
	})
	say(unseen)
	ada.expect(string(direct), say(direct))
	if !compared() {
		t.Errorf("after %d rounds what came behind a message that did not come is not compared", rounds)
	}
}
