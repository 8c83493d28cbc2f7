package jetstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// repeated fails unless a repeat answers with the first entry and stores nothing.
func (w *writer) repeated(what string, d jetstream.Draft, first wire.Entry) jetstream.Appended {
	w.t.Helper()
	w.reload()
	before := w.tail.Seq
	done, err := w.try(d)
	if err != nil {
		w.t.Errorf("%s: %v", what, err)
		return done
	}
	if e := done.Entry; !done.Duplicate || e.Seq != first.Seq || e.Count != first.Count || e.At != first.At {
		w.t.Errorf("%s: duplicate %v, seq %d, count %d, at %v; want seq %d, count %d, at %v", what, done.Duplicate, e.Seq, e.Count, e.At, first.Seq, first.Count, first.At)
	}
	if w.reload(); w.tail.Seq != before {
		w.t.Errorf("%s: the tail moved to %d", what, w.tail.Seq)
	}
	return done
}

func TestARepeatAnswersWithTheFirst(t *testing.T) {
	server := jetstreamtest.Start(t)
	w := newWriter(t, server.Store(t), talk)
	draft := jetstream.Draft{Kind: wire.KindMessage, From: "ada", ClientID: "same", ReplyTo: 0, Body: json.RawMessage(`{"text":"a","n":{"b":1,"c":2}}`)}
	first := w.append(draft)
	w.append(message("bob", "between"))
	check := func(when string) {
		t.Helper()
		again := w.repeated("the same "+when, draft, first.Entry)
		if string(again.Payload) != string(first.Payload) {
			t.Errorf("%s the payload is %s", when, again.Payload)
		}
		other := draft
		other.Body = json.RawMessage(`{ "n": {"c":2, "b":1}, "text":"\u0061" }`)
		w.repeated("the same, written otherwise "+when, other, first.Entry)
		for name, change := range map[string]func(d *jetstream.Draft){
			"body":     func(d *jetstream.Draft) { d.Body = textBody("other") },
			"reply_to": func(d *jetstream.Draft) { d.ReplyTo = 2 },
		} {
			other := draft
			change(&other)
			if _, err := w.try(other); !errors.Is(err, jetstream.ErrIDConflict) {
				t.Errorf("another %s %s: %v", name, when, err)
			}
		}
	}
	check("at once")
	server.Restart(t)
	check("after a restart")
	for name, change := range map[string]func(d *jetstream.Draft, w *writer){
		"another author":       func(d *jetstream.Draft, _ *writer) { d.From = "bob" },
		"another kind":         func(d *jetstream.Draft, _ *writer) { d.Kind, d.Target = wire.KindEdit, 1 },
		"another conversation": func(_ *jetstream.Draft, w *writer) { w.conv, w.tail = "g.elsewhere", jetstream.Tail{} },
	} {
		other, elsewhere := draft, *w
		change(&other, &elsewhere)
		if done, err := elsewhere.try(other); err != nil || done.Duplicate {
			t.Errorf("the client id of %s: %+v, %v", name, done.Entry, err)
		}
	}
}

// TestARepeatOfTheRecalledIsNotStored repeats what a recall erased. After a restart the server no longer knows its id.
func TestARepeatOfTheRecalledIsNotStored(t *testing.T) {
	server := jetstreamtest.Start(t)
	w := newWriter(t, server.Store(t), talk)
	w.post("bob", "before")
	post, edit, react, recall := message("ada", "secret"), editOf(2, "ada", "more"), reactionTo(2, "bob", "x", false), recallOf(2, "ada")
	post.ClientID, edit.ClientID, react.ClientID, recall.ClientID = "1", "1", "1", "1"
	posted, edited, reacted, recalled := w.append(post), w.append(edit), w.append(react), w.append(recall)
	check := func(when string) {
		t.Helper()
		for name, c := range map[string]struct {
			draft jetstream.Draft
			first jetstream.Appended
		}{"message": {post, posted}, "edit": {edit, edited}, "reaction": {react, reacted}, "recall": {recall, recalled}} {
			w.repeated("the "+name+" "+when, c.draft, c.first.Entry)
		}
		again := recall
		again.ClientID = "2"
		if _, err := w.try(again); !errors.Is(err, jetstream.ErrErased) {
			t.Errorf("another recall %s: %v", when, err)
		}
		if _, err := w.try(reactionTo(2, "cyd", "x", false)); !errors.Is(err, jetstream.ErrErased) {
			t.Errorf("another reaction %s: %v", when, err)
		}
	}
	check("at once")
	server.Restart(t)
	check("after a restart")
}

// TestARepeatIsFoundAmongManyRecalled recalls more than an entry carries the ids of; the server knows the others.
func TestARepeatIsFoundAmongManyRecalled(t *testing.T) {
	w := newWriter(t, jetstreamtest.Start(t).Store(t), talk)
	const posts = 100
	var drafts []jetstream.Draft
	var firsts []wire.Entry
	for i := range posts {
		d := message("ada", fmt.Sprint(i))
		d.ClientID = fmt.Sprint("m", i)
		drafts, firsts = append(drafts, d), append(firsts, w.append(d).Entry)
	}
	for _, first := range firsts {
		w.append(recallOf(first.Seq, "ada"))
	}
	for _, i := range []int{0, 1, 62, 63, 64, 67, 68, 99} {
		w.repeated(fmt.Sprint("message ", i), drafts[i], firsts[i])
	}
}

func TestAnnounceSaysTheSameAgain(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	live, err := nc.SubscribeSync(subjects.AllLive)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	s := server.Store(t)
	w := newWriter(t, s, talk)
	draft := message("ada", "once")
	draft.ClientID = "once"
	done := w.append(draft)
	var copies []*nats.Msg
	for _, say := range []func() error{
		func() error { return nil }, // the server itself
		func() error { return s.Announce(talk, done) },
		func() error { return s.Announce(talk, w.append(draft)) }, // a duplicate
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
		msg, err := live.NextMsgWithContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, msg)
	}
	for i, msg := range copies {
		if msg.Subject != subjects.Live(talk) || string(msg.Data) != string(done.Payload) || msg.Header.Get(subjects.HeaderEntry) != "seq=1 count=1 epoch=0 kind=message from=ada" ||
			msg.Header.Get(subjects.HeaderPosters) != "ada=1/1" {
			t.Errorf("copy %d on %s has %v and %s", i, msg.Subject, msg.Header, msg.Data)
		}
	}
}
