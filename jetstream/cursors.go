package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Cursor is how far a user has read and received a conversation. Neither goes back.
type Cursor struct {
	Read      wire.Mark `json:"read"`
	Delivered wire.Seq  `json:"delivered,omitempty"`
}

// raise returns the higher of both marks, and whether that is more than c has.
func (c Cursor) raise(to Cursor) (Cursor, bool) {
	higher := c
	if to.Read.Seq > c.Read.Seq {
		higher.Read = to.Read
	}
	higher.Delivered = max(c.Delivered, to.Delivered)
	return higher, higher != c
}

// RaiseCursor raises the marks of a user to at least the given ones and returns what they are now. It writes both directions, each by
// compare-and-set, and may be repeated; racing devices end at the highest marks.
func (s *Store) RaiseCursor(ctx context.Context, c subjects.Conversation, u subjects.User, to Cursor) (Cursor, error) {
	seenFromUser, seenFromConversation := subjects.CursorKey(u, c), subjects.ReaderKey(c, u)
	found, err := s.matching(ctx, subjects.BucketCursors, seenFromUser, seenFromConversation)
	if err != nil {
		return Cursor{}, fmt.Errorf("read the cursor of %s in %s: %w", u, c, err)
	}
	known := map[string]*rawMsg{}
	for _, msg := range found {
		known[msg.key(subjects.BucketCursors)] = msg
	}
	// The conversation's side first: whoever learns the answer finds it in the lists of readers too.
	if _, err := s.raiseKey(ctx, seenFromConversation, known[seenFromConversation], to); err != nil {
		return Cursor{}, err
	}
	return s.raiseKey(ctx, seenFromUser, known[seenFromUser], to)
}

// raiseKey raises one record. What is known of it may be old: the marks only rise, so at worst a needless write is refused.
func (s *Store) raiseKey(ctx context.Context, key string, known *rawMsg, to Cursor) (Cursor, error) {
	var (
		have     Cursor
		revision uint64
	)
	if known != nil {
		if err := decode(known, &have); err != nil {
			return Cursor{}, err
		}
		revision = known.Sequence
	}
	for try := range raiseTries {
		higher, raised := have.raise(to)
		if !raised {
			return have, nil
		}
		_, err := s.update(ctx, subjects.BucketCursors, key, higher, revision, 0)
		if err == nil {
			return higher, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Cursor{}, err
		}
		if err := pause(ctx, try); err != nil {
			return Cursor{}, err
		}
		have = Cursor{}
		if revision, err = s.readKey(ctx, subjects.BucketCursors, key, &have); err != nil && !errors.Is(err, ErrNotFound) {
			return Cursor{}, err
		}
	}
	return Cursor{}, fmt.Errorf("raise %s: %w", key, ErrConflict)
}

// Cursor returns the marks of a user from the leader; a user without marks has the zero Cursor.
func (s *Store) Cursor(ctx context.Context, c subjects.Conversation, u subjects.User) (Cursor, error) {
	var cursor Cursor
	_, err := s.readKey(ctx, subjects.BucketCursors, subjects.CursorKey(u, c), &cursor)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return cursor, err
}

// Cursors returns the marks of a user in many conversations; those without marks are left out. It costs one request for every 1,024.
func (s *Store) Cursors(ctx context.Context, u subjects.User, conversations []subjects.Conversation) (map[subjects.Conversation]Cursor, error) {
	keys := make([]string, len(conversations))
	of := make(map[string]subjects.Conversation, len(conversations))
	for i, c := range conversations {
		keys[i] = subjects.CursorKey(u, c)
		of[keys[i]] = c
	}
	found, err := s.fresh(ctx, subjects.BucketCursors, keys...)
	if err != nil {
		return nil, fmt.Errorf("read the cursors of %s: %w", u, err)
	}
	cursors := make(map[subjects.Conversation]Cursor, len(found))
	for _, msg := range found {
		var cursor Cursor
		if err := decode(msg, &cursor); err != nil {
			return nil, err
		}
		cursors[of[msg.key(subjects.BucketCursors)]] = cursor
	}
	return cursors, nil
}

// Readers returns the marks of all users in a conversation. It costs one request for up to 1,024 of them, and one more for each further
// 1,024 and for their names.
func (s *Store) Readers(ctx context.Context, c subjects.Conversation) (map[subjects.User]Cursor, error) {
	found, err := s.fresh(ctx, subjects.BucketCursors, subjects.ReadersPattern(c))
	if err != nil {
		return nil, fmt.Errorf("read the readers of %s: %w", c, err)
	}
	readers := make(map[subjects.User]Cursor, len(found))
	for _, msg := range found {
		var cursor Cursor
		if err := decode(msg, &cursor); err != nil {
			return nil, err
		}
		readers[lastToken(msg.Subject)] = cursor
	}
	return readers, nil
}
