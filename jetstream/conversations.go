package jetstream

import (
	"context"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Conversation is what is known of a group or a channel beside its log and its members. Direct conversations have no record.
type Conversation struct {
	Conversation subjects.Conversation `json:"conversation"`
	Kind         subjects.Kind         `json:"kind"`
	Title        string                `json:"title,omitempty"`
	Policy       wire.Policy           `json:"policy,omitzero"`
	Created      wire.Time             `json:"created"`
	CreatedBy    subjects.User         `json:"created_by,omitempty"`
	Revision     uint64                `json:"-"` // of the record that was read; UpdateConversation compares it
}

// CreateConversation stores a new conversation, or returns ErrExists: whoever creates the record owns the id.
func (s *Store) CreateConversation(ctx context.Context, c Conversation) (revision uint64, err error) {
	return s.create(ctx, subjects.BucketConversations, subjects.ConversationKey(c.Conversation), c, 0)
}

// Conversation returns the record of a conversation from the leader, or ErrNotFound.
func (s *Store) Conversation(ctx context.Context, id subjects.Conversation) (Conversation, error) {
	var c Conversation
	revision, err := s.readKey(ctx, subjects.BucketConversations, subjects.ConversationKey(id), &c)
	c.Revision = revision
	return c, err
}

// UpdateConversation stores a record that was read and changed, and returns its new revision, or ErrConflict when it was changed since.
func (s *Store) UpdateConversation(ctx context.Context, c Conversation) (revision uint64, err error) {
	return s.update(ctx, subjects.BucketConversations, subjects.ConversationKey(c.Conversation), c, c.Revision, 0)
}

// Conversations returns the records of those of the given conversations that have one, from any replica. It costs one request for every 1,024.
func (s *Store) Conversations(ctx context.Context, ids []subjects.Conversation) (map[subjects.Conversation]Conversation, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = subjects.ConversationKey(id)
	}
	found, err := s.matching(ctx, subjects.BucketConversations, keys...)
	if err != nil {
		return nil, fmt.Errorf("read %d conversations: %w", len(ids), err)
	}
	records := make(map[subjects.Conversation]Conversation, len(found))
	for _, msg := range found {
		var c Conversation
		if err := decode(msg, &c); err != nil {
			return nil, err
		}
		c.Revision = msg.Sequence
		records[c.Conversation] = c
	}
	return records, nil
}
