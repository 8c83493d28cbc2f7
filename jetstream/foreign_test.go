package jetstream_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestWhatIsNoEntryDoesNotStandInTheWay stores under a conversation's subject what answers of JetStream can put there.
func TestWhatIsNoEntryDoesNotStandInTheWay(t *testing.T) {
	server := jetstreamtest.Start(t)
	store, nc := server.Store(t), server.Connect(t)
	other := newWriter(t, store, "g.other")
	other.post("bob", "elsewhere")
	elsewhere, err := store.Tail(t.Context(), "g.other")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := nc.RequestWithContext(t.Context(), subjects.DirectReadLast(subjects.StreamOf("g.other"), subjects.Message("g.other")), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		before int // entries
		junk   []*nats.Msg
	}{
		"an acknowledgement":            {3, []*nats.Msg{{Data: []byte(`{"stream":"IM_MESSAGES_00","seq":7}`)}}},
		"not found":                     {3, []*nats.Msg{{Header: nats.Header{"Status": {"404"}}}}},
		"several":                       {3, []*nats.Msg{{Data: []byte(`{}`)}, {}, {Data: []byte(`[]`)}}},
		"where nobody has written yet":  {0, []*nats.Msg{{Data: []byte(`{}`)}, {}}},
		"another conversation's entry":  {3, []*nats.Msg{{Header: nats.Header{subjects.HeaderEntry: {"seq=1 count=1 epoch=0 kind=message from=bob"}}, Data: elsewhere.Payload}}},
		"a copy as the server makes it": {0, []*nats.Msg{{Header: copied.Header, Data: copied.Data}}},
		"a header that cannot be right": {3, []*nats.Msg{{Header: nats.Header{subjects.HeaderEntry: {"seq=99"}}, Data: []byte(`{"conversation":"x"}`)}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriter(t, store, subjects.Conversation("g."+nameOf(name)))
			lists := jetstream.NewLists(store, 1<<20)
			for range c.before {
				w.post("ada", "before")
			}
			for _, msg := range c.junk {
				msg.Subject = subjects.Message(w.conv)
				delete(msg.Header, nats.MsgIdHdr) // by which the server would know the copy, for two minutes
				if answer, err := nc.RequestMsgWithContext(t.Context(), msg); err != nil || len(answer.Data) == 0 {
					t.Fatalf("store junk: %v, %v", answer, err)
				}
			}
			look := func(entries int) {
				t.Helper()
				tail, err := store.Tail(t.Context(), w.conv)
				if err != nil || int(tail.Seq) != entries {
					t.Errorf("the tail is %d, %v, want %d", tail.Seq, err, entries)
				}
				for _, l := range []*jetstream.Lists{lists, jetstream.NewLists(store, 0)} {
					seqs, err := l.Seqs(t.Context(), []subjects.Conversation{w.conv})
					if err != nil || int(seqs[0]) != entries {
						t.Errorf("the head is %d, %v, want %d", seqs, err, entries)
					}
				}
				filled, err := store.Fill(t.Context(), w.conv, 0, 100)
				if err != nil || len(filled.Entries) != entries {
					t.Errorf("there are %d entries, %v, want %d", len(filled.Entries), err, entries)
				}
			}
			look(c.before)
			if seq := w.post("ada", "after"); int(seq) != c.before+1 {
				t.Errorf("the next entry is %d", seq)
			}
			w.reload()
			w.post("bob", "later")
			look(c.before + 2)
		})
	}
}

// nameOf makes an id of the name of a test.
func nameOf(name string) string {
	id := []byte(name)
	for i, b := range id {
		if b < 'a' || b > 'z' {
			id[i] = '-'
		}
	}
	return string(id)
}

func TestAnEntryIsOfItsConversation(t *testing.T) {
	data, err := json.Marshal(wire.Entry{Conversation: "g.a", Seq: 1, Count: 1, Kind: wire.KindMessage, From: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[subjects.Conversation]bool{"g.a": true, "g.b": false, "g": false, "g.ab": false} {
		if got := wire.IsEntryOf(c, data); got != want {
			t.Errorf("%s is an entry of %s: %v", data, c, got)
		}
	}
	for _, junk := range []string{"", "{}", `{"stream":"x","seq":1}`, `{"conversation":"g.a`} {
		if wire.IsEntryOf("g.a", []byte(junk)) {
			t.Errorf("%s is an entry", junk)
		}
	}
}
