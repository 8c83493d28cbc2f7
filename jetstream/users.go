package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// User is the profile of an account.
type User struct {
	User     subjects.User `json:"user"`
	Name     string        `json:"name,omitempty"` // shown to others; empty = the handle
	Created  wire.Time     `json:"created"`
	Enrolled bool          `json:"enrolled,omitempty"` // joined the conversations that everybody is in
	Disabled bool          `json:"disabled,omitempty"` // may not sign in
	Revision uint64        `json:"-"`                  // of the record that was read; UpdateUser compares it
}

// CreateUser stores the profile of a new user, or returns ErrExists: whoever creates the record owns the name.
func (s *Store) CreateUser(ctx context.Context, u User) (revision uint64, err error) {
	return s.create(ctx, subjects.BucketUsers, subjects.ProfileKey(u.User), u, 0)
}

// User returns the profile of a user from the leader, or ErrNotFound.
func (s *Store) User(ctx context.Context, user subjects.User) (User, error) {
	var u User
	revision, err := s.readKey(ctx, subjects.BucketUsers, subjects.ProfileKey(user), &u)
	u.Revision = revision
	return u, err
}

// UpdateUser stores a profile that was read and changed, and returns its new revision, or ErrConflict when it was changed since.
func (s *Store) UpdateUser(ctx context.Context, u User) (revision uint64, err error) {
	return s.update(ctx, subjects.BucketUsers, subjects.ProfileKey(u.User), u, u.Revision, 0)
}

// Users returns the profiles of those of the given users that exist. It costs one request for every 1,024 users.
func (s *Store) Users(ctx context.Context, users []subjects.User) (map[subjects.User]User, error) {
	keys := make([]string, len(users))
	for i, user := range users {
		keys[i] = subjects.ProfileKey(user)
	}
	found, err := s.fresh(ctx, subjects.BucketUsers, keys...)
	if err != nil {
		return nil, fmt.Errorf("read %d users: %w", len(users), err)
	}
	profiles := make(map[subjects.User]User, len(found))
	for _, msg := range found {
		var u User
		if err := decode(msg, &u); err != nil {
			return nil, err
		}
		u.Revision = msg.Sequence
		profiles[u.User] = u
	}
	return profiles, nil
}

// UserExists reports whether there is such a user. A yes stays true: accounts are disabled, not removed.
func (s *Store) UserExists(ctx context.Context, user subjects.User) (bool, error) {
	_, err := s.User(ctx, user)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Credential is how a user proves to be the user.
type Credential struct {
	Hash     string `json:"hash"` // a PHC string; the password is nowhere
	Revision uint64 `json:"-"`    // of the record that was read
}

// CreateCredential stores the first credential of a user, or returns ErrExists.
func (s *Store) CreateCredential(ctx context.Context, user subjects.User, c Credential) (revision uint64, err error) {
	return s.create(ctx, subjects.BucketUsers, subjects.CredentialKey(user), c, 0)
}

// Credential returns the credential of a user from the leader, or ErrNotFound for users who sign in elsewhere.
func (s *Store) Credential(ctx context.Context, user subjects.User) (Credential, error) {
	var c Credential
	revision, err := s.readKey(ctx, subjects.BucketUsers, subjects.CredentialKey(user), &c)
	c.Revision = revision
	return c, err
}

// UpdateCredential replaces a credential that was read, or returns ErrConflict when it was changed since.
func (s *Store) UpdateCredential(ctx context.Context, user subjects.User, c Credential) (revision uint64, err error) {
	return s.update(ctx, subjects.BucketUsers, subjects.CredentialKey(user), c, c.Revision, 0)
}

// Identity is the handle that somebody known to another issuer has here.
type Identity struct {
	Issuer  string        `json:"issuer"`
	Subject string        `json:"subject"`
	User    subjects.User `json:"user"`
}

// MapIdentity gives a foreign identity its handle, once and for ever. It returns the handle that counts: that of the first who mapped it.
func (s *Store) MapIdentity(ctx context.Context, i Identity) (subjects.User, error) {
	_, err := s.create(ctx, subjects.BucketUsers, identityKey(i.Issuer, i.Subject), i, 0)
	switch {
	case err == nil:
		return i.User, nil
	case errors.Is(err, ErrExists):
		return s.IdentityUser(ctx, i.Issuer, i.Subject)
	}
	return "", err
}

// IdentityUser returns the handle of a foreign identity, or ErrNotFound.
func (s *Store) IdentityUser(ctx context.Context, issuer, subject string) (subjects.User, error) {
	var i Identity
	if _, err := s.readKey(ctx, subjects.BucketUsers, identityKey(issuer, subject), &i); err != nil {
		return "", err
	}
	return i.User, nil
}

// identityKey hashes what another issuer chose, so that it can neither be a pattern nor too long. The length keeps ("a", "bc") from ("ab", "c").
func identityKey(issuer, subject string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(issuer), issuer, subject))
	return subjects.IdentityKey(hex.EncodeToString(sum[:16]))
}
