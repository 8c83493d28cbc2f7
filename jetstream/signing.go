package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// SigningKey is a key that signs tokens. It stands in IM_SESSIONS, which only the function that verifies tokens may read, and not in
// IM_CONFIG, which is everybody's.
type SigningKey struct {
	ID        string     `json:"id"` // of the form of a user; the kid of its tokens
	Algorithm string     `json:"algorithm"`
	Private   []byte     `json:"private"`
	Created   wire.Time  `json:"created"`
	Retired   *wire.Time `json:"retired,omitempty"` // signs nothing since then, and still verifies
	Revision  uint64     `json:"-"`                 // of the record that was read
}

// CreateSigningKey stores a new key, or returns ErrExists, as for the second of two processes that make the first one.
func (s *Store) CreateSigningKey(ctx context.Context, k SigningKey) (revision uint64, err error) {
	if _, err := subjects.ParseUser(k.ID); err != nil {
		return 0, fmt.Errorf("create a signing key: %w", err)
	}
	return s.create(ctx, subjects.BucketSessions, subjects.SigningKey(k.ID), k, 0)
}

// UpdateSigningKey stores a key that was read and changed, as to retire it, or returns ErrConflict when it was changed since.
func (s *Store) UpdateSigningKey(ctx context.Context, k SigningKey) (revision uint64, err error) {
	return s.update(ctx, subjects.BucketSessions, subjects.SigningKey(k.ID), k, k.Revision, 0)
}

// SigningKeys returns all keys, the oldest first.
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	found, err := s.fresh(ctx, subjects.BucketSessions, subjects.SigningKey("*"))
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	keys := make([]SigningKey, 0, len(found))
	for _, msg := range found {
		k := SigningKey{Revision: msg.Sequence}
		if err := decode(msg, &k); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.SortStableFunc(keys, func(a, b SigningKey) int {
		return cmp.Or(a.Created.Compare(b.Created.Time), cmp.Compare(a.ID, b.ID))
	})
	return keys, nil
}
