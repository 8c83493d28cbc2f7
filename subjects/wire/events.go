package wire

import (
	"encoding/json"

	"github.com/confab-im/confab/subjects"
)

// Event is the name of an event that a server sends to clients.
type Event string

// The events.
const (
	EventEntry        Event = "entry"        // Entry
	EventReceipt      Event = "receipt"      // Receipt
	EventPresence     Event = "presence"     // PresenceChange
	EventSignal       Event = "signal"       // Signal
	EventConversation Event = "conversation" // ConversationChange
	EventHead         Event = "head"         // HeadMoved
	EventResync       Event = "resync"       // Resync
	EventSession      Event = "session"      // SessionChange
	EventDraining     Event = "draining"     // Draining
)

// Receipt tells the members of a small conversation how far one of them has read and received.
type Receipt struct {
	Conversation subjects.Conversation `json:"conversation"`
	User         subjects.User         `json:"user"`
	Read         Seq                   `json:"read"`
	Delivered    Seq                   `json:"delivered"`
}

// PresenceChange tells watchers that a user's state changed.
type PresenceChange struct {
	User     subjects.User `json:"user"`
	State    State         `json:"state"`
	Status   string        `json:"status,omitempty"`
	LastSeen *Time         `json:"last_seen,omitempty"`
}

// Signal is what the call signal sends to the other members, and what they get. It is never stored.
type Signal struct {
	Conversation subjects.Conversation `json:"conversation"`
	User         subjects.User         `json:"user,omitempty"` // set by the server
	Kind         string                `json:"kind"`           // "typing" by convention
}

// Validate returns an *Error that names the first field that is wrong.
func (s *Signal) Validate() error {
	if s.Kind == "" {
		return Errorf(BadData, "kind is missing.")
	}
	if err := validLine("kind", s.Kind, subjects.MaxIDLength); err != nil {
		return err
	}
	return validConversation(s.Conversation)
}

// Signalled is what travels on a conversation's signal subject: one event for its members.
type Signalled struct {
	Event Event           `json:"event"` // EventSignal or EventReceipt
	User  subjects.User   `json:"user"`  // who it is about
	Data  json.RawMessage `json:"data"`
}

// ConversationChange tells a user that a conversation came, went or changed its title or policy.
type ConversationChange struct {
	Conversation subjects.Conversation `json:"conversation"`
	Change       string                `json:"change"` // added, removed or updated
}

// The changes of ConversationChange and UserEvent.
const (
	ChangeConversationAdded   = "added"
	ChangeConversationRemoved = "removed"
	ChangeConversationUpdated = "updated"
	ChangeRevoked             = "revoked"
	ChangeMarks               = "marks"
)

// HeadMoved tells a client that it may have missed entries up to Seq.
type HeadMoved struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
}

// Resync tells a client to ask history.heads again.
type Resync struct {
	Reason string `json:"reason"`
}

// SessionChange tells a client that its session was revoked or when its token expires.
type SessionChange struct {
	Revoked   bool  `json:"revoked,omitempty"`
	ExpiresAt *Time `json:"expires_at,omitempty"`
}

// Draining tells a client that its edge is about to close the connection.
type Draining struct {
	ReconnectAfterMS int64 `json:"reconnect_after_ms"`
}

// UserEvent is what functions tell the edges that hold a user.
type UserEvent struct {
	Change       string                `json:"change"` // added, removed, updated, revoked or marks
	Conversation subjects.Conversation `json:"conversation,omitempty"`
	From         Seq                   `json:"from,omitempty"`       // added: the first seq that the user sees
	Small        bool                  `json:"small,omitempty"`      // added: at most SmallConversation members
	Revocation   *Revocation           `json:"revocation,omitempty"` // revoked
	Receipt      *Receipt              `json:"receipt,omitempty"`    // marks: the user's own, for the other devices
}
