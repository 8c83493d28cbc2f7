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

// StoredCursor is a Cursor that was read, or the absence of one.
type StoredCursor struct {
	Cursor
	revision uint64 // 0 = there was none
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

// RaiseCursor raises the marks of a user to at least the given ones and returns what they are now. It writes by compare-and-set, and may be repeated; racing
// devices end at the highest marks.
func (s *Store) RaiseCursor(ctx context.Context, c subjects.Conversation, u subjects.User, to Cursor) (Cursor, error) {
	// From any replica: what is known may be old, since the marks only rise, and at worst a needless write is refused.
	msg, err := s.lastDirect(ctx, subjects.BucketStream(subjects.BucketCursors), subjects.BucketSubject(subjects.BucketCursors, subjects.CursorKey(u, c)))
	var known StoredCursor
	if err == nil {
		known.revision = msg.Sequence
		if !msg.gone() {
			err = decode(msg, &known.Cursor)
		}
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Cursor{}, fmt.Errorf("read the cursor of %s in %s: %w", u, c, err)
	}
	return s.RaiseFrom(ctx, c, u, known, to)
}

// RaiseFrom is RaiseCursor for who has read the marks before, which may have risen since.
func (s *Store) RaiseFrom(ctx context.Context, c subjects.Conversation, u subjects.User, known StoredCursor, to Cursor) (Cursor, error) {
	key, have := subjects.CursorKey(u, c), known
	for try := range raiseTries {
		higher, raised := have.raise(to)
		if !raised {
			return have.Cursor, nil
		}
		_, err := s.update(ctx, subjects.BucketCursors, key, higher, have.revision, 0)
		if err == nil {
			return higher, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Cursor{}, err
		}
		if err := pause(ctx, try); err != nil {
			return Cursor{}, err
		}
		if have, err = s.Cursor(ctx, c, u); err != nil {
			return Cursor{}, err
		}
	}
	return Cursor{}, fmt.Errorf("raise %s: %w", key, ErrConflict)
}

// Cursor returns the marks of a user from the leader; a user without marks has the zero Cursor.
func (s *Store) Cursor(ctx context.Context, c subjects.Conversation, u subjects.User) (StoredCursor, error) {
	var cursor StoredCursor
	revision, err := s.readKey(ctx, subjects.BucketCursors, subjects.CursorKey(u, c), &cursor.Cursor)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	cursor.revision = revision
	return cursor, err
}

// Cursors returns the marks of a user in many conversations; those without marks are left out. It costs one request for every 1,024.
func (s *Store) Cursors(ctx context.Context, u subjects.User, conversations []subjects.Conversation) (map[subjects.Conversation]Cursor, error) {
	cursors, err := cursorsOf(ctx, s, conversations, func(c subjects.Conversation) string { return subjects.CursorKey(u, c) })
	if err != nil {
		return nil, fmt.Errorf("read the cursors of %s: %w", u, err)
	}
	return cursors, nil
}

// Readers returns the marks of users in a conversation; those without marks are left out. It costs one request for every 1,024.
func (s *Store) Readers(ctx context.Context, c subjects.Conversation, users []subjects.User) (map[subjects.User]Cursor, error) {
	readers, err := cursorsOf(ctx, s, users, func(u subjects.User) string { return subjects.CursorKey(u, c) })
	if err != nil {
		return nil, fmt.Errorf("read the readers of %s: %w", c, err)
	}
	return readers, nil
}

// cursorsOf returns the marks that there are of all that have a key.
func cursorsOf[K comparable](ctx context.Context, s *Store, all []K, key func(K) string) (map[K]Cursor, error) {
	keys := make([]string, len(all))
	of := make(map[string]K, len(all))
	for i, k := range all {
		keys[i] = key(k)
		of[keys[i]] = k
	}
	found, err := s.fresh(ctx, subjects.BucketCursors, keys...)
	if err != nil {
		return nil, err
	}
	cursors := make(map[K]Cursor, len(found))
	for _, msg := range found {
		var cursor Cursor
		if err := decode(msg, &cursor); err != nil {
			return nil, err
		}
		cursors[of[msg.key(subjects.BucketCursors)]] = cursor
	}
	return cursors, nil
}
