package wire

import (
	"encoding/json"

	"github.com/confab-im/confab/subjects"
)

// MaxPage is the largest number of entries in a page; a larger limit counts as this one. DefaultPage is the number without a limit.
const (
	MaxPage     = 200
	DefaultPage = 50
)

// PageQuery is the data of history.page. At most one of Before, After, Around and Time is given; none means the newest entries.
type PageQuery struct {
	Conversation subjects.Conversation `json:"conversation"`
	Before       *Seq                  `json:"before,omitempty"`
	After        *Seq                  `json:"after,omitempty"`
	Around       *Seq                  `json:"around,omitempty"`
	Time         *Time                 `json:"at,omitempty"` // around the first entry at or after this time
	Limit        int                   `json:"limit,omitempty"`
	AtLeast      Seq                   `json:"at_least,omitempty"` // a seq that the answer must know of
}

// Validate returns an *Error that names the first field that is wrong, and puts Limit into its bounds.
func (q *PageQuery) Validate() error {
	given := 0
	for _, set := range []bool{q.Before != nil, q.After != nil, q.Around != nil, q.Time != nil} {
		if set {
			given++
		}
	}
	if given > 1 {
		return Errorf(BadData, "Give at most one of before, after, around and at.")
	}
	q.Limit = ClampLimit(q.Limit, DefaultPage, MaxPage)
	return validConversation(q.Conversation)
}

// ClampLimit returns limit within 1 to most, and preset where it is not positive.
func ClampLimit(limit, preset, most int) int {
	if limit <= 0 {
		return preset
	}
	return min(limit, most)
}

// Page is the answer to history.page: entries in ascending seq. First and Last are the seqs of its ends, 0 in an empty page.
type Page struct {
	Entries    []json.RawMessage `json:"entries"` // each an Entry
	First      Seq               `json:"first"`
	Last       Seq               `json:"last"`
	MoreBefore bool              `json:"more_before"`
	MoreAfter  bool              `json:"more_after"`
}

// HeadsQuery is the data of history.heads.
type HeadsQuery struct {
	After subjects.Conversation `json:"after,omitempty"` // the next of an earlier answer
	Limit int                   `json:"limit,omitempty"`
}

// MaxHeads is the largest number of conversations in one answer of history.heads; DefaultHeads is the number without a limit.
const (
	MaxHeads     = 1000
	DefaultHeads = 200
)

// Validate puts Limit into its bounds.
func (q *HeadsQuery) Validate() error {
	q.Limit = ClampLimit(q.Limit, DefaultHeads, MaxHeads)
	return nil
}

// Heads is the answer to history.heads, in ascending order of conversation.
type Heads struct {
	Conversations []ConversationHead    `json:"conversations"`
	Next          subjects.Conversation `json:"next,omitempty"` // ask again with this as after; empty = all seen
}

// HeadsOfQuery is the data of history.heads-of, by which an edge asks for the lists of users who asked at the same moment. Clients cannot call it.
type HeadsOfQuery struct {
	Users []subjects.User `json:"users"` // at most MaxTogether
}

// Validate returns an *Error when there are no or too many users.
func (q *HeadsOfQuery) Validate() error {
	if len(q.Users) == 0 || len(q.Users) > MaxTogether {
		return Errorf(BadData, "Give 1 to %d users.", MaxTogether)
	}
	return nil
}

// MaxHeadsTogether is the largest number of conversations in the list of a user whose heads history.heads-of answers with.
const MaxHeadsTogether = 64

// HeadsOf is the answer to history.heads-of: what history.heads answers each user who has listed at most MaxHeadsTogether conversations, all of them. Who is left out is to ask history.heads.
type HeadsOf struct {
	Users map[subjects.User]Heads `json:"users"`
}

// ConversationHead is one conversation of a user: its newest entry, and how far the user has read.
type ConversationHead struct {
	Conversation subjects.Conversation `json:"conversation"`
	Kind         subjects.Kind         `json:"kind"`
	Title        string                `json:"title"` // "" for a direct conversation
	Head         Head                  `json:"head"`
	Read         Mark                  `json:"read"`
	Unread       uint64                `json:"unread"`
	Role         Role                  `json:"role,omitempty"`
}

// Head is the newest entry of a conversation.
type Head struct {
	Seq   Seq             `json:"seq"`
	Count uint64          `json:"count"`
	Entry json.RawMessage `json:"entry,omitempty"` // an Entry, folded
}

// Mark is a place in a conversation: an entry and how many messages there are up to it.
type Mark struct {
	Seq   Seq    `json:"seq"`
	Count uint64 `json:"count"`
}

// HeadCheck is the data of history.check, by which an edge finds live copies that never reached it. Clients cannot call it.
type HeadCheck struct {
	Heads map[subjects.Conversation]Seq `json:"heads,omitempty"` // the newest seq that the edge saw, at most MaxChecked
}

// MaxChecked is the largest number of conversations in one HeadCheck.
const MaxChecked = 1024

// MaxBytes bounds the encoded check: MaxChecked of the longest conversations with their seqs.
func (h *HeadCheck) MaxBytes() int { return MaxChecked * 192 }

// Validate returns an *Error when there are too many conversations.
func (h *HeadCheck) Validate() error {
	if len(h.Heads) > MaxChecked {
		return Errorf(BadData, "At most %d conversations can be checked at once.", MaxChecked)
	}
	return nil
}

// HeadsChecked is the answer to history.check.
type HeadsChecked struct {
	Heads map[subjects.Conversation]Seq `json:"heads"` // what the store has, only where it differs from what was asked
	Tails []uint64                      `json:"tails"` // the last stream sequence of each partition, read before the heads: while one stays the same, nothing new was stored there
}

// FillQuery is the data of history.fill: entries without a check of membership, for edges, which check for themselves. Clients cannot call it.
type FillQuery struct {
	Conversation subjects.Conversation `json:"conversation"`
	After        Seq                   `json:"after"`
	Limit        int                   `json:"limit,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong, and puts Limit into its bounds.
func (q *FillQuery) Validate() error {
	q.Limit = ClampLimit(q.Limit, MaxPage, MaxPage)
	return validConversation(q.Conversation)
}

// Filled is the answer to history.fill: entries as stored, not folded, ascending; those that were erased are left out, so To and not the
// number of entries says how far the answer reaches.
type Filled struct {
	Entries []json.RawMessage `json:"entries"`
	To      Seq               `json:"to"` // the answer covers every seq after the asked one up to here
	Head    Seq               `json:"head"`
}

// MarkQuery is the data of receipts.mark: seqs beyond the head count as the head, and marks never go back.
type MarkQuery struct {
	Conversation subjects.Conversation `json:"conversation"`
	Read         Seq                   `json:"read,omitempty"`
	Delivered    Seq                   `json:"delivered,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (q *MarkQuery) Validate() error { return validConversation(q.Conversation) }

// Marked is the answer to receipts.mark: the marks as they now stand.
type Marked struct {
	Read      Mark `json:"read"`
	Delivered struct {
		Seq Seq `json:"seq"`
	} `json:"delivered"`
}

// ReadersQuery is the data of receipts.who.
type ReadersQuery struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
}

// Validate returns an *Error that names the first field that is wrong.
func (q *ReadersQuery) Validate() error { return validConversation(q.Conversation) }

// Readers is the answer to receipts.who: who has read and who has received the entry, in ascending order.
type Readers struct {
	Read      []subjects.User `json:"read"`
	Delivered []subjects.User `json:"delivered"`
}
