package jetstream_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// model is what a conversation should read like: the simplest thing that folds entries, to hold the log against.
type model struct {
	conv    subjects.Conversation
	entries []wire.Entry // by seq-1
}

func (m *model) add(t testing.TB, e wire.Entry) {
	t.Helper()
	if int(e.Seq) != len(m.entries)+1 {
		t.Fatalf("entry %d came after %d others", e.Seq, len(m.entries))
	}
	m.entries = append(m.entries, e)
	if e.Target == 0 {
		return
	}
	target := &m.entries[e.Target-1]
	switch e.Kind {
	case wire.KindEdit:
		target.Body, target.EditedAt = e.Body, &e.At
	case wire.KindRecall:
		for i := range m.entries {
			one := &m.entries[i]
			if one == target || (one.Kind == wire.KindEdit && one.Target == e.Target) {
				one.Recalled, one.Body, one.EditedAt, one.Reactions = true, nil, nil, nil
			}
		}
	case wire.KindReaction:
		var body wire.ReactionBody
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		users := slices.DeleteFunc(slices.Clone(target.Reactions[body.Emoji]), func(u subjects.User) bool { return u == e.From && body.Remove })
		if !body.Remove && !slices.Contains(users, e.From) {
			users = append(users, e.From)
		}
		if target.Reactions == nil {
			target.Reactions = map[string][]subjects.User{}
		}
		if target.Reactions[body.Emoji] = users; len(users) == 0 {
			delete(target.Reactions, body.Emoji)
		}
	}
}

// want returns the page from lo to hi of what is visible from a seq on.
func (m *model) want(t testing.TB, from, lo, hi wire.Seq) wire.Page {
	t.Helper()
	page := wire.Page{Entries: []json.RawMessage{}, First: lo, Last: hi, MoreBefore: lo > from, MoreAfter: int(hi) < len(m.entries)}
	for _, e := range m.entries[lo-1 : hi] {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		page.Entries = append(page.Entries, data)
	}
	return page
}

// check reads the whole conversation in every direction and holds it against the model.
func (m *model) check(t testing.TB, s *jetstream.Store, limit int) {
	t.Helper()
	head := wire.Seq(len(m.entries))
	for after := wire.Seq(0); after < head; after += wire.Seq(limit) {
		got := page(t, s, wire.PageQuery{Conversation: m.conv, After: &after, Limit: limit}, 0)
		same(t, got, m.want(t, 1, after+1, min(head, after+wire.Seq(limit))))
	}
	for before := head + 1; before > 1; before -= min(before-1, wire.Seq(limit)) {
		got := page(t, s, wire.PageQuery{Conversation: m.conv, Before: &before, Limit: limit}, 0)
		same(t, got, m.want(t, 1, max(1, before-min(before, wire.Seq(limit))), before-1))
	}
	got := page(t, s, wire.PageQuery{Conversation: m.conv, Limit: limit, AtLeast: head}, 0)
	same(t, got, m.want(t, 1, max(1, head+1-min(head, wire.Seq(limit))), head))
}

func page(t testing.TB, s *jetstream.Store, q wire.PageQuery, from wire.Seq) wire.Page {
	t.Helper()
	p, err := s.Page(t.Context(), q, from)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// same compares two pages by what their entries mean.
func same(t testing.TB, got, want wire.Page) {
	t.Helper()
	if got.First != want.First || got.Last != want.Last || got.MoreBefore != want.MoreBefore || got.MoreAfter != want.MoreAfter || len(got.Entries) != len(want.Entries) {
		t.Fatalf("page %d–%d (%v, %v) with %d entries, want %d–%d (%v, %v) with %d", got.First, got.Last, got.MoreBefore, got.MoreAfter, len(got.Entries),
			want.First, want.Last, want.MoreBefore, want.MoreAfter, len(want.Entries))
	}
	for i := range got.Entries {
		if g, w := canonical(t, got.Entries[i]), canonical(t, want.Entries[i]); g != w {
			t.Fatalf("an entry reads\n%s, want\n%s", g, w)
		}
	}
}

func canonical(t testing.TB, data json.RawMessage) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
