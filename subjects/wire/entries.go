package wire

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/confab-im/confab/subjects"
)

// EntryKind says what an entry of a conversation's log is.
type EntryKind string

// The kinds of entry.
const (
	KindMessage  EntryKind = "message"
	KindEdit     EntryKind = "edit"
	KindRecall   EntryKind = "recall"
	KindReaction EntryKind = "reaction"
	KindPin      EntryKind = "pin"
	KindMember   EntryKind = "member"
	KindPolicy   EntryKind = "policy"
)

// Known reports whether the kind belongs to those above.
func (k EntryKind) Known() bool {
	switch k {
	case KindMessage, KindEdit, KindRecall, KindReaction, KindPin, KindMember, KindPolicy:
		return true
	}
	return false
}

// Entry is one entry of a conversation's log, as it is stored, as it travels live and as clients read it. What later entries changed in
// it is folded in on reading only: EditedAt, Recalled and Reactions are never stored.
type Entry struct {
	Conversation subjects.Conversation      `json:"conversation"`
	Seq          Seq                        `json:"seq"`
	Count        uint64                     `json:"count"` // messages up to here
	Kind         EntryKind                  `json:"kind"`
	From         subjects.User              `json:"from"`
	At           Time                       `json:"at"`
	ClientID     string                     `json:"client_id,omitempty"`
	Target       Seq                        `json:"target,omitempty"` // what an edit, recall, reaction or pin speaks of
	ReplyTo      Seq                        `json:"reply_to,omitempty"`
	Body         json.RawMessage            `json:"body,omitempty"` // an object
	EditedAt     *Time                      `json:"edited_at,omitempty"`
	Recalled     bool                       `json:"recalled,omitempty"`
	Reactions    map[string][]subjects.User `json:"reactions,omitempty"` // emoji → who, in order of reacting
}

// MemberChange says what happened to a member.
type MemberChange string

// The changes of membership.
const (
	ChangeJoined   MemberChange = "joined"
	ChangeAdded    MemberChange = "added"
	ChangeLeft     MemberChange = "left"
	ChangeRemoved  MemberChange = "removed"
	ChangeBanned   MemberChange = "banned"
	ChangeUnbanned MemberChange = "unbanned"
	ChangeRole     MemberChange = "role"
)

// Ends reports whether the change ends a membership.
func (c MemberChange) Ends() bool {
	return c == ChangeLeft || c == ChangeRemoved || c == ChangeBanned
}

// Begins reports whether the change begins a membership.
func (c MemberChange) Begins() bool { return c == ChangeJoined || c == ChangeAdded }

// MemberBody is the body of a member entry.
type MemberBody struct {
	User   subjects.User `json:"user"`
	Change MemberChange  `json:"change"`
	Role   Role          `json:"role,omitempty"`
	By     subjects.User `json:"by"`
}

// ReactionBody is the body of a reaction entry.
type ReactionBody struct {
	Emoji  string `json:"emoji"`
	Remove bool   `json:"remove,omitempty"`
}

// Role is what a member may do in a conversation.
type Role string

// The roles.
const (
	RoleOwner     Role = "owner"
	RoleModerator Role = "moderator"
	RoleMember    Role = "member"
	RoleReader    Role = "reader"
)

// Known reports whether the role belongs to the closed set.
func (r Role) Known() bool {
	return r == RoleOwner || r == RoleModerator || r == RoleMember || r == RoleReader
}

// Moderates reports whether the role may add and remove members, recall others' messages and change the policy.
func (r Role) Moderates() bool { return r == RoleOwner || r == RoleModerator }

// Below reports whether the role allows less than another; what is no role allows nothing.
func (r Role) Below(other Role) bool { return r.rank() < other.rank() }

func (r Role) rank() int {
	return slices.Index([]Role{RoleReader, RoleMember, RoleModerator, RoleOwner}, r)
}

// Posts reports whether the role may post.
func (r Role) Posts() bool { return r != RoleReader && r.Known() }

// Policy is what a conversation lets its members do. The zero value is the default.
type Policy struct {
	History string `json:"history,omitempty"` // "start": later members see all; "" = from their own entry on
}

// Validate returns an *Error with BadData for values outside the documented ones.
func (p *Policy) Validate() error {
	if p.History != "" && p.History != HistoryStart && p.History != HistoryJoined {
		return Errorf(BadData, "policy.history must be %q or %q.", HistoryStart, HistoryJoined)
	}
	return nil
}

// The values of Policy.History; empty means HistoryJoined.
const (
	HistoryStart  = "start"
	HistoryJoined = "joined"
)

// IsEntryOf reports whether data, as it is stored, begins as an entry of the conversation does. A copy of another one's entry has the header of an entry, too.
func IsEntryOf(c subjects.Conversation, data []byte) bool {
	rest, ok := bytes.CutPrefix(data, []byte(`{"conversation":"`))
	return ok && bytes.HasPrefix(rest, []byte(c)) && bytes.HasPrefix(rest[len(c):], []byte(`"`))
}
