package subjects

import (
	"fmt"
	"strings"
)

// Partitions is the number of streams that conversations are spread over. It is fixed when the streams are made: another
// number would look for old conversations in the wrong stream.
const Partitions = 16

// Conversation is the id of a conversation: d.<a>.<b> (direct, a < b), g.<id> (group) or c.<id> (channel).
type Conversation string

// Kind says what sort of conversation an id names.
type Kind string

// The kinds of conversation.
const (
	KindDirect  Kind = "direct"
	KindGroup   Kind = "group"
	KindChannel Kind = "channel"
)

// General is the group that everybody who registers joins.
const General Conversation = "g.general"

// ParseConversation returns s as a Conversation, or an error that wraps ErrBadID. The two users of a direct conversation must
// stand in order, so that each pair has one conversation only.
func ParseConversation(s string) (Conversation, error) {
	kind, rest, _ := strings.Cut(s, ".")
	switch kind {
	case "g", "c":
		if isID(rest) {
			return Conversation(s), nil
		}
	case "d":
		if a, b, ok := strings.Cut(rest, "."); ok && isID(a) && isID(b) && a < b {
			return Conversation(s), nil
		}
	}
	return "", fmt.Errorf("%w: a conversation of %d bytes is none of d.<a>.<b> (a < b), g.<id>, c.<id>", ErrBadID, len(s))
}

// Direct returns the conversation of two users, in whatever order they are given, or an error that wraps ErrBadID when both are the same.
func Direct(a, b User) (Conversation, error) {
	if a == b || !isID(string(a)) || !isID(string(b)) {
		return "", fmt.Errorf("%w: a direct conversation needs two users", ErrBadID)
	}
	return Conversation("d." + string(min(a, b)) + "." + string(max(a, b))), nil
}

// NewConversation returns the conversation of a kind, group or channel, with the given id, or an error that wraps ErrBadID.
func NewConversation(kind Kind, id string) (Conversation, error) {
	switch {
	case kind == KindGroup && isID(id):
		return Conversation("g." + id), nil
	case kind == KindChannel && isID(id):
		return Conversation("c." + id), nil
	}
	return "", badID("conversation", id)
}

// Kind returns the kind of the conversation.
func (c Conversation) Kind() Kind {
	switch {
	case strings.HasPrefix(string(c), "d."):
		return KindDirect
	case strings.HasPrefix(string(c), "c."):
		return KindChannel
	}
	return KindGroup
}

// Pair returns the two users of a direct conversation; ok is false for the other kinds.
func (c Conversation) Pair() (a, b User, ok bool) {
	rest, ok := strings.CutPrefix(string(c), "d.")
	if !ok {
		return "", "", false
	}
	first, second, _ := strings.Cut(rest, ".")
	return User(first), User(second), true
}

// Peer returns the other user of a direct conversation that user is part of; ok is false otherwise.
func (c Conversation) Peer(user User) (peer User, ok bool) {
	a, b, direct := c.Pair()
	switch {
	case direct && user == a:
		return b, true
	case direct && user == b:
		return a, true
	}
	return "", false
}

// Partition returns the number, 0 to Partitions-1, of the stream that holds the conversation: FNV-1a, 32 bits, modulo Partitions.
func (c Conversation) Partition() int {
	hash := uint32(2166136261)
	for i := range len(c) {
		hash = (hash ^ uint32(c[i])) * 16777619
	}
	return int(hash % Partitions)
}
