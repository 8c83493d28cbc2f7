package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/confab-im/confab/subjects"
)

// MaxTitle is the largest length of a title or a name, in bytes. MaxFounders is the largest number of members in conversations.create.
const (
	MaxTitle    = 200
	MaxFounders = 1000
)

// Create is the data of conversations.create.
type Create struct {
	Kind    subjects.Kind   `json:"kind"`                   // group or channel
	ID      string          `json:"id,omitempty" wire:"id"` // without the kind's prefix; absent = the server chooses
	Title   string          `json:"title"`
	Members []subjects.User `json:"members,omitempty"`
	Policy  Policy          `json:"policy,omitzero"`
}

// Validate returns an *Error that names the first field that is wrong.
func (c *Create) Validate() error {
	if c.Kind != subjects.KindGroup && c.Kind != subjects.KindChannel {
		return Errorf(BadData, "kind must be group or channel.")
	}
	if c.ID != "" {
		if _, err := subjects.NewConversation(c.Kind, c.ID); err != nil {
			return decodeError(err)
		}
	}
	if len(c.Members) > MaxFounders {
		return Errorf(BadData, "At most %d members can be given at once; add the others afterwards.", MaxFounders)
	}
	if err := validTitle("title", c.Title); err != nil {
		return err
	}
	return c.Policy.Validate()
}

// ConversationQuery is the data of conversations.get, join and leave.
type ConversationQuery struct {
	Conversation subjects.Conversation `json:"conversation"`
}

// Validate returns an *Error that names the first field that is wrong.
func (q *ConversationQuery) Validate() error { return validConversation(q.Conversation) }

// ConversationInfo is the answer to conversations.create and conversations.get.
type ConversationInfo struct {
	Conversation subjects.Conversation `json:"conversation"`
	Kind         subjects.Kind         `json:"kind"`
	Title        string                `json:"title"` // "" for a direct conversation
	Policy       Policy                `json:"policy"`
	Role         Role                  `json:"role,omitempty"` // of the asking user
	Members      int                   `json:"members"`        // how many
	Head         Mark                  `json:"head"`
}

// Update is the data of conversations.update; what is absent stays.
type Update struct {
	Conversation subjects.Conversation `json:"conversation"`
	Title        *string               `json:"title,omitempty"`
	Policy       *Policy               `json:"policy,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (u *Update) Validate() error {
	if u.Title == nil && u.Policy == nil {
		return Errorf(BadData, "Give title or policy.")
	}
	if u.Title != nil {
		if err := validTitle("title", *u.Title); err != nil {
			return err
		}
	}
	if u.Policy != nil {
		if err := u.Policy.Validate(); err != nil {
			return err
		}
	}
	return validConversation(u.Conversation)
}

// MembersQuery is the data of conversations.members.
type MembersQuery struct {
	Conversation subjects.Conversation `json:"conversation"`
	After        subjects.User         `json:"after,omitempty"`
	Limit        int                   `json:"limit,omitempty"`
}

// MaxMembers is the largest number of members in one answer; DefaultMembers is the number without a limit.
const (
	MaxMembers     = 1000
	DefaultMembers = 200
)

// Validate returns an *Error that names the first field that is wrong, and puts Limit into its bounds.
func (q *MembersQuery) Validate() error {
	q.Limit = ClampLimit(q.Limit, DefaultMembers, MaxMembers)
	return validConversation(q.Conversation)
}

// Members is the answer to conversations.members, in ascending order of user.
type Members struct {
	Members []Member      `json:"members"`
	Next    subjects.User `json:"next,omitempty"`
}

// Member is one member of a conversation.
type Member struct {
	User      subjects.User `json:"user"`
	Role      Role          `json:"role"`
	JoinedSeq Seq           `json:"joined_seq"` // the first seq that the member sees unless the policy shows all
}

// MemberUpdate is the data of conversations.add, remove and role.
type MemberUpdate struct {
	Conversation subjects.Conversation `json:"conversation"`
	User         subjects.User         `json:"user"`
	Role         Role                  `json:"role,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (m *MemberUpdate) Validate() error {
	if m.User == "" {
		return Errorf(BadData, "user is missing.")
	}
	if m.Role != "" && !m.Role.Known() {
		return Errorf(BadData, "role must be owner, moderator, member or reader.")
	}
	return validConversation(m.Conversation)
}

// Changed is the answer to calls that change a conversation: the seq of the change's entry.
type Changed struct {
	Seq Seq `json:"seq"`
}

// UserQuery names one user, in calls between programs.
type UserQuery struct {
	User subjects.User `json:"user"`
}

// Validate returns an *Error when the user is missing.
func (q *UserQuery) Validate() error {
	if q.User == "" {
		return Errorf(BadData, "user is missing.")
	}
	return nil
}

// Memberships is the answer to conversations.mine, by which an edge learns what to deliver to a user. Clients cannot call it. Direct
// conversations are left out: their ids say who takes part.
type Memberships struct {
	Memberships []Membership `json:"memberships"`
}

// Membership is one conversation of a user.
type Membership struct {
	Conversation subjects.Conversation `json:"conversation"`
	From         Seq                   `json:"from"`            // the first seq that the user sees
	Small        bool                  `json:"small,omitempty"` // at most SmallConversation members; only conversations.mine says it
}

// MembershipsQuery is the data of conversations.memberships, by which an edge learns what to deliver to users who came at the same moment. Clients cannot call it.
type MembershipsQuery struct {
	Users []subjects.User `json:"users"` // at most MaxTogether
}

// Validate returns an *Error when there are no or too many users.
func (q *MembershipsQuery) Validate() error {
	if len(q.Users) == 0 || len(q.Users) > MaxTogether {
		return Errorf(BadData, "Give 1 to %d users.", MaxTogether)
	}
	return nil
}

// MembershipsOf is the answer to conversations.memberships, without direct conversations. A user who has too many is left out, and conversations.mine says them.
type MembershipsOf struct {
	Users map[subjects.User][]Membership `json:"users"`
}

// SmallConversation is the largest number of members of a conversation in which receipts are sent to all of them.
const SmallConversation = 100

func validTitle(field, title string) error { return validLine(field, title, MaxTitle) }

// validLine checks a short text that others are shown in one line, in lists and on terminals. Unlike a body it has no use for control
// characters.
func validLine(field, text string, most int) error {
	if len(text) > most || !IsLine(text) {
		return Errorf(BadData, "%s must have at most %d bytes, without control characters and line breaks.", field, most)
	}
	return nil
}

// IsLine reports whether text is valid UTF-8 without control characters and line breaks, as names, titles and statuses must be.
func IsLine(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })
}
