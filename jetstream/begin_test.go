package jetstream_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// outcome is what Begin calls done with.
type outcome struct {
	jetstream.Appended
	err error
}

// begin begins an append behind a tail and waits for its outcome.
func begin(t *testing.T, s *jetstream.Store, c subjects.Conversation, tail jetstream.Tail, d jetstream.Draft, most time.Duration) (o outcome, begun bool) {
	t.Helper()
	done := make(chan outcome, 2)
	if !s.Begin(c, tail, d, most, func(a jetstream.Appended, err error) { done <- outcome{a, err} }) {
		return o, false
	}
	select {
	case o = <-done:
		return o, true
	case <-time.After(30 * time.Second):
		t.Fatal("there is no outcome")
		return o, true
	}
}

func TestWhatIsBegunIsAppended(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	w := newWriter(t, s, talk)
	if _, begun := begin(t, s, talk, w.tail, message("ada", "first"), time.Minute); begun {
		t.Error("the first entry of a conversation was begun")
	}
	w.post("ada", "first")
	before := w.tail
	for i := range 20 { // alternating with Append, which must find what it needs
		d := message("bob", fmt.Sprintf("begun %d", i))
		d.ClientID = fmt.Sprintf("begun-%d", i)
		o, begun := begin(t, s, talk, w.tail, d, time.Minute)
		if !begun || o.err != nil || o.Entry.Seq != w.tail.Seq+1 || o.Entry.Count != w.tail.Count+1 || o.Duplicate {
			t.Fatalf("entry %d: %+v, begun %v", w.tail.Seq+1, o, begun)
		}
		w.tail = o.Tail
		w.append(message("ada", "in between"))
	}
	fresh, err := s.Tail(t.Context(), talk)
	if err != nil || fresh.Seq != 41 || fresh.Count != 41 || fresh.Seq != w.tail.Seq || fresh.Mark() != w.tail.Mark() {
		t.Errorf("the tail is %+v, %v", fresh, err)
	}
	if entry, err := s.Entry(t.Context(), talk, 2); err != nil || string(entry.Body) != `{"text":"begun 0"}` || entry.From != "bob" {
		t.Errorf("an entry that was begun is %+v, %v", entry, err)
	}
	again := message("bob", "begun 19")
	again.ClientID = "begun-19"
	if o, begun := begin(t, s, talk, w.tail, again, time.Minute); !begun || !errors.Is(o.err, jetstream.ErrTailMoved) {
		t.Errorf("a repeat: %+v, begun %v", o, begun)
	}
	if done, err := s.Append(t.Context(), talk, w.tail, again); err != nil || !done.Duplicate || done.Entry.Seq != 40 {
		t.Errorf("the repeat by Append: %+v, %v", done, err)
	}
	if o, begun := begin(t, s, talk, before, message("ada", "late"), time.Minute); !begun || !errors.Is(o.err, jetstream.ErrTailMoved) {
		t.Errorf("behind a tail that has moved: %+v, begun %v", o, begun)
	}
	if _, begun := begin(t, s, talk, w.tail, editOf(1, "ada", "x"), time.Minute); begun {
		t.Error("an edit was begun")
	}
	for i := range 14 {
		w.post(subjects.User(fmt.Sprintf("u%d", i)), "x")
	}
	if _, begun := begin(t, s, talk, w.tail, message("late", "x"), time.Minute); begun {
		t.Error("a post of one author too many was begun")
	}
	if got := w.post("late", "x"); got != wire.Seq(56) {
		t.Errorf("the post of one author too many has seq %d", got)
	}
}

func TestWhatIsBegunEndsInTime(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	s := server.StoreOn(t, nc)
	w := newWriter(t, s, talk)
	w.post("ada", "first")
	// A time that is over before the answer can be there.
	if o, begun := begin(t, s, talk, w.tail, message("ada", "second"), time.Nanosecond); !begun || o.err != nil && !errors.Is(o.err, jetstream.ErrUnavailable) {
		t.Errorf("after its time: %+v, begun %v", o, begun)
	}
	if _, err := nc.Request(subjects.DeleteStream(subjects.StreamOf(talk)), nil, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if o, begun := begin(t, s, talk, w.tail, message("ada", "third"), time.Minute); !begun || !errors.Is(o.err, jetstream.ErrUnavailable) {
		t.Errorf("where nobody listens: %+v, begun %v", o, begun)
	}
	nc.Close()
	if _, begun := begin(t, s, talk, w.tail, message("ada", "fourth"), time.Minute); begun {
		t.Error("an append was begun without a connection")
	}
}
