package jetstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Session is a signed-in device: a family of refresh tokens of which only the newest is good.
type Session struct {
	ID      string          `json:"session"`
	User    subjects.User   `json:"user"`
	Device  subjects.Device `json:"device,omitempty"`
	Created wire.Time       `json:"created"`
	Used    wire.Time       `json:"used"`    // when its newest token was given out
	Expires wire.Time       `json:"expires"` // when the record goes, unless it is refreshed
}

// sessionRecord is what is stored: hashes only. Family is that of the part that all tokens of the session share, so that a spent token of
// the session is told from a guess.
type sessionRecord struct {
	Session
	Family  string `json:"family"`
	Current string `json:"current"`
}

// OpenSession stores a session and returns it, with an ID where it had none, and its first refresh token.
func (s *Store) OpenSession(ctx context.Context, session Session) (Session, string, error) {
	if session.ID == "" {
		session.ID = randomID()
	}
	family, secret := randomSecret(), randomSecret()
	record := sessionRecord{Session: session, Family: digest(family), Current: digest(secret)}
	_, err := s.create(ctx, subjects.BucketSessions, subjects.SessionKey(session.User, session.ID), record, lifetime(session.Expires.Time))
	if err != nil {
		return Session{}, "", err
	}
	return session, refreshToken(session, family, secret), nil
}

// RefreshSession spends a refresh token and returns its session and the next token; the session then ends at expires. ErrNotFound stands for
// tokens that were never given out and for sessions that have ended. ErrSpent comes with the session whose token was used before: whoever
// holds it now may be a thief, so the caller ends the session.
func (s *Store) RefreshSession(ctx context.Context, token string, now, expires time.Time) (Session, string, error) {
	user, id, family, secret, err := parseRefreshToken(token)
	if err != nil {
		return Session{}, "", err
	}
	var record sessionRecord
	key := subjects.SessionKey(user, id)
	revision, err := s.readKey(ctx, subjects.BucketSessions, key, &record)
	if err != nil {
		return Session{}, "", err
	}
	switch {
	case !same(record.Family, digest(family)) || !now.Before(record.Expires.Time):
		return Session{}, "", fmt.Errorf("refresh: %w", ErrNotFound)
	case !same(record.Current, digest(secret)):
		return record.Session, "", fmt.Errorf("refresh: %w", ErrSpent)
	}
	next := randomSecret()
	record.Current, record.Used, record.Expires = digest(next), wire.At(now), wire.At(expires)
	_, err = s.update(ctx, subjects.BucketSessions, key, record, revision, lifetime(expires))
	if errors.Is(err, ErrConflict) {
		// Somebody else spent the same token, or ended the session, in this moment.
		return record.Session, "", fmt.Errorf("refresh: %w", ErrSpent)
	}
	if err != nil {
		return Session{}, "", err
	}
	return record.Session, refreshToken(record.Session, family, next), nil
}

// Sessions returns the sessions of a user in ascending order of ID.
func (s *Store) Sessions(ctx context.Context, user subjects.User) ([]Session, error) {
	found, err := s.fresh(ctx, subjects.BucketSessions, subjects.SessionsPattern(user))
	if err != nil {
		return nil, fmt.Errorf("read the sessions of %s: %w", user, err)
	}
	sessions := make([]Session, 0, len(found))
	for _, msg := range found {
		var session Session
		if err := decode(msg, &session); err != nil {
			return nil, err
		}
		sessions = append(sessions, session)
	}
	slices.SortFunc(sessions, func(a, b Session) int { return strings.Compare(a.ID, b.ID) })
	return sessions, nil
}

// CloseSession ends a session, so that none of its refresh tokens is good; ending one that is not there succeeds. Tokens that it gave access
// with are good until they expire unless they are revoked.
func (s *Store) CloseSession(ctx context.Context, user subjects.User, id string) error {
	if _, err := subjects.ParseDevice(id); err != nil {
		return nil // no session has such an ID
	}
	header := nats.Header{headerOperation: {operationDelete}}
	_, err := s.write(ctx, subjects.BucketSessions, subjects.SessionKey(user, id), nil, header, markerTTL)
	return err
}

// A refresh token is <user>.<session>.<family>.<secret>. The first two say which record to read; the others prove.
func refreshToken(session Session, family, secret string) string {
	return string(session.User) + "." + session.ID + "." + family + "." + secret
}

// parseRefreshToken returns the parts of a token, each checked before it can become part of a key; the error wraps ErrNotFound.
func parseRefreshToken(token string) (user subjects.User, id, family, secret string, err error) {
	parts := strings.Split(token, ".")
	if len(token) > wire.MaxToken || len(parts) != 4 {
		return "", "", "", "", fmt.Errorf("refresh: a token of another form: %w", ErrNotFound)
	}
	user, err = subjects.ParseUser(parts[0])
	if err == nil {
		_, err = subjects.ParseDevice(parts[1])
	}
	if err != nil {
		return "", "", "", "", fmt.Errorf("refresh: a token of another form: %w", ErrNotFound)
	}
	return user, parts[1], parts[2], parts[3], nil
}

// randomSecret returns 192 random bits in letters that a URL takes.
func randomSecret() string {
	var bits [24]byte
	_, _ = rand.Read(bits[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

// randomID returns 96 random bits in the form of a user, which a key takes.
func randomID() string {
	var bits [12]byte
	_, _ = rand.Read(bits[:]) // never fails
	return hex.EncodeToString(bits[:])
}

// digest hashes a random secret for storage. It needs no salt and no work factor: nobody guesses 192 bits.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
