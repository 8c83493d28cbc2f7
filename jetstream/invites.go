package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// inviteRecord is what is left of an invite. Its code is nowhere, only the hash that its key is made of.
type inviteRecord struct {
	Uses    int       `json:"uses"` // left
	Expires wire.Time `json:"expires"`
}

// CreateInvite stores an invite with which uses people may register until expires, and returns its code.
func (s *Store) CreateInvite(ctx context.Context, uses int, expires time.Time) (code string, err error) {
	code = randomSecret()
	_, err = s.create(ctx, subjects.BucketSessions, inviteKey(code), inviteRecord{uses, wire.At(expires)}, lifetime(expires))
	return code, err
}

// CheckInvite returns nil for an invite that UseInvite would take a use of at this moment, and otherwise the error that it would return.
func (s *Store) CheckInvite(ctx context.Context, code string, now time.Time) error {
	_, _, err := s.readInvite(ctx, inviteKey(code), now, -1)
	return err
}

// UseInvite takes one use of an invite, or returns ErrNotFound for one that never was or has expired, and ErrSpent for one without uses.
func (s *Store) UseInvite(ctx context.Context, code string, now time.Time) error {
	return s.changeInvite(ctx, code, now, -1)
}

// ReturnInvite gives back one use, after a registration that came to nothing. A code that has expired stays so.
func (s *Store) ReturnInvite(ctx context.Context, code string, now time.Time) error {
	err := s.changeInvite(ctx, code, now, 1)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (s *Store) changeInvite(ctx context.Context, code string, now time.Time, by int) error {
	key := inviteKey(code)
	for try := range raiseTries {
		invite, revision, err := s.readInvite(ctx, key, now, by)
		if err != nil {
			return err
		}
		_, err = s.update(ctx, subjects.BucketSessions, key, invite, revision, lifetime(invite.Expires.Time))
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
	return fmt.Errorf("use an invite: %w", ErrConflict)
}

// readInvite returns an invite as it would be after a change of its uses.
func (s *Store) readInvite(ctx context.Context, key string, now time.Time, by int) (invite inviteRecord, revision uint64, err error) {
	revision, err = s.readKey(ctx, subjects.BucketSessions, key, &invite)
	switch {
	case err != nil:
		return invite, 0, err
	case !now.Before(invite.Expires.Time):
		return invite, 0, fmt.Errorf("use an invite: %w", ErrNotFound)
	}
	if invite.Uses += by; invite.Uses < 0 {
		return invite, 0, fmt.Errorf("use an invite: %w", ErrSpent)
	}
	return invite, revision, nil
}

// inviteKey hashes a code, whatever somebody typed, into a key.
func inviteKey(code string) string {
	sum := sha256.Sum256([]byte(code))
	return subjects.InviteKey(hex.EncodeToString(sum[:16]))
}
