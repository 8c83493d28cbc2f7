package jetstream

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// What later entries change in a page (edits, recalls, reactions) is folded into one record of IM_AMENDS for the page, so that an old page is
// read as it now stands with one more read. The log decides; the records follow from it.
//
// An entry and the record that it changes are two writes, and a crash can fall between them. What holds in spite of it:
//
//	When an entry is stored, whatever all earlier entries change has been recorded.
//
// Append sees to it: where the tail is an edit, a recall or a reaction, it settles that one before it stores the next. So at any time only the
// tail itself can be unrecorded. A reader, who has the tail in hand anyway, folds the tail in memory and writes nothing; the record says
// in Through up to where it was folded, so nothing is folded twice. Nobody has to notice a crash, and no entry carries a field for it.
const (
	// MaxEdits is how often one message can be edited; the recall that erases all of them must still fit into one entry.
	MaxEdits = 100
	// maxAmends is how large a page's record may be, in bytes, for another edit or reaction to be added. A recall always is.
	maxAmends = 256 << 10
)

// amendment is what an entry changes in earlier ones.
type amendment struct {
	seq, target wire.Seq
	kind        wire.EntryKind // edit, recall or reaction
	from        subjects.User
	at          wire.Time
	stream      uint64
	reaction    wire.ReactionBody
	erased      []remnant // by a recall: the target and its edits
}

// amends reports whether entries of a kind change earlier ones.
func amends(kind wire.EntryKind) bool {
	return kind == wire.KindEdit || kind == wire.KindRecall || kind == wire.KindReaction
}

// amendment returns what the entry changes, or nil.
func (e *logEntry) amendment(entry wire.Entry) (*amendment, error) {
	if !amends(e.Kind) {
		return nil, nil
	}
	a := &amendment{seq: e.Seq, target: entry.Target, kind: e.Kind, from: e.From, at: entry.At, stream: e.stream}
	if a.target == 0 || a.target >= a.seq {
		return nil, fmt.Errorf("entry %d: its target is %d", e.Seq, a.target)
	}
	var err error
	switch e.Kind {
	case wire.KindReaction:
		err = json.Unmarshal(entry.Body, &a.reaction)
	case wire.KindRecall:
		a.erased, err = parseRemnants(e.header.Get(subjects.HeaderErased))
	}
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	return a, nil
}

// pages returns the pages that the amendment changes; the target's comes last, so that once that one is recorded all are.
func (a *amendment) pages() []uint64 {
	target := pageOf(a.target)
	var pages []uint64
	for _, r := range a.erased {
		if page := pageOf(r.Seq); page != target && !slices.Contains(pages, page) {
			pages = append(pages, page)
		}
	}
	return append(pages, target)
}

// changes reports whether the amendment changes a page; nil changes none.
func (a *amendment) changes(page uint64) bool { return a != nil && slices.Contains(a.pages(), page) }

// pageAmends is the record of one page: what entries up to Through changed in it.
type pageAmends struct {
	Through wire.Seq              `json:"through"`
	Entries map[wire.Seq]*amended `json:"entries"`
}

// amended is what was changed in one entry.
type amended struct {
	Edits     []edit                     `json:"edits,omitempty"` // in order; the last one counts
	Reactions map[string][]subjects.User `json:"reactions,omitempty"`
	Recall    wire.Seq                   `json:"recall,omitempty"` // the recall that erased the entry
	Left      *remnant                   `json:"left,omitempty"`   // what it left
}

// edit is where a newer body of a message stands. The body itself is not copied here: a recall then erases it in one place.
type edit struct {
	Seq    wire.Seq  `json:"seq"`
	Stream uint64    `json:"stream"`
	At     wire.Time `json:"at"`
}

// fold records an amendment in one of the pages that it changes, and reports whether it was new there.
func (p *pageAmends) fold(page uint64, a *amendment) bool {
	if p.Through >= a.seq {
		return false
	}
	p.Through = a.seq
	switch a.kind {
	case wire.KindEdit:
		m := p.of(a.target)
		m.Edits = append(m.Edits, edit{a.seq, a.stream, a.at})
	case wire.KindReaction:
		p.of(a.target).react(a.reaction, a.from)
	case wire.KindRecall:
		for _, r := range a.erased {
			if pageOf(r.Seq) == page {
				*p.of(r.Seq) = amended{Recall: a.seq, Left: &r}
			}
		}
	}
	return true
}

// of returns what was changed in an entry, to change it further.
func (p *pageAmends) of(seq wire.Seq) *amended {
	if p.Entries == nil {
		p.Entries = map[wire.Seq]*amended{}
	}
	if p.Entries[seq] == nil {
		p.Entries[seq] = &amended{}
	}
	return p.Entries[seq]
}

// react adds a user's reaction or takes it away; both may be repeated.
func (m *amended) react(body wire.ReactionBody, from subjects.User) {
	users := m.Reactions[body.Emoji]
	i := slices.Index(users, from)
	switch {
	case body.Remove && i >= 0:
		users = slices.Delete(users, i, i+1)
	case !body.Remove && i < 0:
		users = append(users, from)
	}
	if len(users) == 0 {
		delete(m.Reactions, body.Emoji)
		return
	}
	if m.Reactions == nil {
		m.Reactions = map[string][]subjects.User{}
	}
	m.Reactions[body.Emoji] = users
}

// newest returns the newest edit, if there is one.
func (m *amended) newest() (edit, bool) {
	if m == nil || len(m.Edits) == 0 {
		return edit{}, false
	}
	return m.Edits[len(m.Edits)-1], true
}
