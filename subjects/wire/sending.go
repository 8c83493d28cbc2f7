package wire

import (
	"encoding/json"

	"github.com/confab-im/confab/subjects"
)

// MaxClientID and MaxEmoji bound, in bytes, a client id and the emoji of a reaction.
const (
	MaxClientID = 64
	MaxEmoji    = 64
)

// Post is the data of send.post.
type Post struct {
	Conversation subjects.Conversation `json:"conversation,omitempty"` // this or To
	To           subjects.User         `json:"to,omitempty"`           // the direct conversation with this user
	ClientID     string                `json:"client_id" wire:"id"`
	Body         json.RawMessage       `json:"body"`
	ReplyTo      Seq                   `json:"reply_to,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (p *Post) Validate() error {
	if (p.Conversation == "") == (p.To == "") {
		return Errorf(BadData, "Give either conversation or to.")
	}
	if err := validClientID(p.ClientID); err != nil {
		return err
	}
	return validBody(p.Body)
}

// Edit is the data of send.edit.
type Edit struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
	ClientID     string                `json:"client_id" wire:"id"`
	Body         json.RawMessage       `json:"body"`
}

// Validate returns an *Error that names the first field that is wrong.
func (e *Edit) Validate() error {
	if err := validTarget(e.Conversation, e.ClientID); err != nil {
		return err
	}
	return validBody(e.Body)
}

// Recall is the data of send.recall.
type Recall struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
	ClientID     string                `json:"client_id" wire:"id"`
}

// Validate returns an *Error that names the first field that is wrong.
func (r *Recall) Validate() error { return validTarget(r.Conversation, r.ClientID) }

// React is the data of send.react.
type React struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
	ClientID     string                `json:"client_id" wire:"id"`
	Emoji        string                `json:"emoji"`
	Remove       bool                  `json:"remove,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (r *React) Validate() error {
	if r.Emoji == "" {
		return Errorf(BadData, "emoji is missing.")
	}
	if err := validLine("emoji", r.Emoji, MaxEmoji); err != nil {
		return err
	}
	return validTarget(r.Conversation, r.ClientID)
}

// Posted is the answer to every call that appends for a client.
type Posted struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
	Count        uint64                `json:"count"`
	At           Time                  `json:"at"`
	Duplicate    bool                  `json:"duplicate,omitempty"` // an earlier try with the same client_id was stored
}

// Append is the data of send.append, by which other functions put changes of membership and policy into the log. Clients cannot call it.
type Append struct {
	Conversation subjects.Conversation `json:"conversation"`
	Kind         EntryKind             `json:"kind"` // member or policy
	From         subjects.User         `json:"from"`
	ClientID     string                `json:"client_id" wire:"id"` // makes the call repeatable
	Body         json.RawMessage       `json:"body"`
	First        bool                  `json:"first,omitempty"` // only if the conversation has no entry yet, else Conflict
	Epoch        Seq                   `json:"epoch,omitempty"` // only if this still is the newest change of membership or policy, else Conflict; 0 = whatever it is
}

// Validate returns an *Error that names the first field that is wrong.
func (a *Append) Validate() error {
	if a.Kind != KindMember && a.Kind != KindPolicy {
		return Errorf(BadData, "kind must be member or policy.")
	}
	if a.From == "" {
		return Errorf(BadData, "from is missing.")
	}
	if err := validTarget(a.Conversation, a.ClientID); err != nil {
		return err
	}
	return validBody(a.Body)
}

func validTarget(c subjects.Conversation, clientID string) error {
	if err := validConversation(c); err != nil {
		return err
	}
	return validClientID(clientID)
}

func validConversation(c subjects.Conversation) error {
	if c == "" {
		return Errorf(BadData, "conversation is missing.")
	}
	return nil
}

func validClientID(id string) error {
	if id == "" {
		return Errorf(BadData, "client_id is missing; a UUIDv7 is best.")
	}
	if len(id) > MaxClientID {
		return Errorf(BadID, "client_id has more than %d characters.", MaxClientID)
	}
	for i := range len(id) {
		c := id[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return Errorf(BadID, "client_id may hold letters, digits, '-' and '_' only.")
		}
	}
	return nil
}

func validBody(body json.RawMessage) error {
	if len(body) > MaxBody {
		return Errorf(TooLarge, "The body has %d bytes; at most %d are allowed.", len(body), MaxBody)
	}
	if !isObject(body) {
		return Errorf(BadData, "body must be a JSON object, such as {\"text\":\"hi\"}.")
	}
	return nil
}
