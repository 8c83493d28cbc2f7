package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const talk subjects.Conversation = "g.talk"

// writer appends to one conversation and keeps its tail, as the function send does with the entries it handles one after another.
type writer struct {
	t     testing.TB
	store *jetstream.Store
	conv  subjects.Conversation
	tail  jetstream.Tail
	ids   int
}

func newWriter(t testing.TB, s *jetstream.Store, c subjects.Conversation) *writer {
	t.Helper()
	return &writer{t: t, store: s, conv: c}
}

// append appends a draft, with a client id of its own if it has none.
func (w *writer) append(d jetstream.Draft) jetstream.Appended {
	w.t.Helper()
	done, err := w.try(d)
	if err != nil {
		w.t.Fatalf("append %s by %s: %v", d.Kind, d.From, err)
	}
	return done
}

// try is append for what may fail; a tail that moved is read again.
func (w *writer) try(d jetstream.Draft) (jetstream.Appended, error) {
	w.t.Helper()
	if d.ClientID == "" {
		w.ids++
		d.ClientID = fmt.Sprintf("id-%d", w.ids)
	}
	for {
		done, err := w.store.Append(w.t.Context(), w.conv, w.tail, d)
		if err == nil {
			w.tail = done.Tail
		}
		if !errors.Is(err, jetstream.ErrTailMoved) {
			return done, err
		}
		w.reload()
	}
}

func (w *writer) reload() {
	w.t.Helper()
	tail, err := w.store.Tail(w.t.Context(), w.conv)
	if err != nil {
		w.t.Fatalf("read the tail: %v", err)
	}
	w.tail = tail
}

func (w *writer) post(from subjects.User, text string) wire.Seq {
	w.t.Helper()
	return w.append(message(from, text)).Entry.Seq
}

func message(from subjects.User, text string) jetstream.Draft {
	return jetstream.Draft{Kind: wire.KindMessage, From: from, Body: textBody(text)}
}

func textBody(text string) json.RawMessage {
	data, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		panic(err)
	}
	return data
}

func editOf(target wire.Seq, from subjects.User, text string) jetstream.Draft {
	return jetstream.Draft{Kind: wire.KindEdit, From: from, Target: target, Body: textBody(text)}
}

func recallOf(target wire.Seq, from subjects.User) jetstream.Draft {
	return jetstream.Draft{Kind: wire.KindRecall, From: from, Target: target}
}

func reactionTo(target wire.Seq, from subjects.User, emoji string, remove bool) jetstream.Draft {
	body, err := json.Marshal(wire.ReactionBody{Emoji: emoji, Remove: remove})
	if err != nil {
		panic(err)
	}
	return jetstream.Draft{Kind: wire.KindReaction, From: from, Target: target, Body: body}
}

func TestEntriesAreDerivedFromTheTail(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	w := newWriter(t, s, talk)
	empty, err := s.Tail(t.Context(), talk)
	if err != nil || empty.Seq != 0 {
		t.Fatalf("the tail of a new conversation is %+v, %v", empty, err)
	}
	late := wire.At(time.Now().Add(time.Hour))
	w.append(jetstream.Draft{Kind: wire.KindMember, From: "ada", Body: json.RawMessage(`{"user":"ada","change":"added","role":"owner","by":"ada"}`)})
	w.append(jetstream.Draft{Kind: wire.KindMessage, From: "ada", Body: json.RawMessage(`{ "text" : "<b>&\u00e9 é</b>" }`), At: late})
	done := w.append(jetstream.Draft{Kind: wire.KindMessage, From: "bob", ReplyTo: 2, Body: textBody("hi")})
	if e := done.Entry; e.Seq != 3 || e.Count != 2 || e.At != late || e.ReplyTo != 2 {
		t.Errorf("the third entry is %+v", e)
	}
	tail, err := s.Tail(t.Context(), talk)
	if err != nil {
		t.Fatal(err)
	}
	if tail.Seq != 3 || tail.Count != 2 || tail.Epoch != 1 || tail.At != late || string(tail.Payload) != string(done.Payload) {
		t.Errorf("the tail is %+v", tail)
	}
	for user, want := range map[subjects.User]wire.Mark{"ada": {Seq: 2, Count: 1}, "bob": {Seq: 3, Count: 2}} {
		if mark, ok := tail.Poster(user); !ok || mark != want {
			t.Errorf("%s has read up to %+v, want %+v", user, mark, want)
		}
	}
	page, err := s.Page(t.Context(), wire.PageQuery{Conversation: talk}, 0)
	if err != nil || len(page.Entries) != 3 {
		t.Fatalf("page: %+v, %v", page, err)
	}
	want := `{"conversation":"g.talk","seq":2,"count":1,"kind":"message","from":"ada","at":"` + late.String() + `","client_id":"id-2","body":{"text":"<b>&\u00e9 é</b>"}}`
	if string(page.Entries[1]) != want {
		t.Errorf("stored\n%s, want\n%s", page.Entries[1], want)
	}
}

func TestOnlyTheNewestTailIsAppendedTo(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	w := newWriter(t, s, talk)
	w.post("ada", "one")
	for name, tail := range map[string]jetstream.Tail{"no tail": {}, "an older tail": w.tail} {
		if name == "an older tail" {
			w.post("ada", "two")
		}
		_, err := s.Append(t.Context(), talk, tail, jetstream.Draft{Kind: wire.KindMessage, From: "bob", ClientID: "b", Body: textBody("x")})
		if !errors.Is(err, jetstream.ErrTailMoved) || errors.Is(err, jetstream.ErrUnavailable) {
			t.Errorf("with %s: %v", name, err)
		}
	}
}

func TestWithoutAServerTheOutcomeIsUnknown(t *testing.T) {
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	w := newWriter(t, s, talk)
	w.post("ada", "one")
	server.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Append(ctx, talk, w.tail, message("ada", "two"))
	if !errors.Is(err, jetstream.ErrUnavailable) || errors.Is(err, jetstream.ErrTailMoved) {
		t.Errorf("append without a server: %v", err)
	}
}

// TestWhatCannotBeReadBackIsNotStored tries entries after which nothing could be appended any more.
func TestWhatCannotBeReadBackIsNotStored(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	w := newWriter(t, s, talk)
	w.post("ada", "one")
	for name, d := range map[string]jetstream.Draft{
		"no author":                 message("", "x"),
		"an author that is no id":   message("a b", "x"),
		"no kind":                   {From: "ada", Body: textBody("x")},
		"a body that is not JSON":   {Kind: wire.KindMessage, From: "ada", Body: json.RawMessage(`{"text":`)},
		"a reaction without emoji":  {Kind: wire.KindReaction, From: "ada", Target: 1, Body: json.RawMessage(`{"emoji":7}`)},
		"a body that does not fit":  message("ada", strings.Repeat("x", jetstream.MaxEntry)),
		"a body beyond max_payload": message("ada", strings.Repeat("x", 2<<20)),
	} {
		_, err := w.try(d)
		if err == nil || errors.Is(err, jetstream.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.reload(); w.tail.Seq != 1 {
		t.Errorf("the tail is %d", w.tail.Seq)
	}
}
