package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// pollAge is how old the knowledge behind an answer of auth.revoked may be. Edges ask every second.
const pollAge = 200 * time.Millisecond

// Beginnings of the names of sessions whose tokens may live as long as MaxTokenTTL; those of others live as long as TokenTTL. So the end of
// an ordinary session is forgotten within minutes, and what edges are told stays short.
const (
	longSession    = "long-" // a token that an operator made
	outsideSession = "x"     // of an outside issuer; the store's own names are hexadecimal
)

// tokenLife returns how long tokens of a session may live.
func (s *service) tokenLife(session string) time.Duration {
	if strings.HasPrefix(session, longSession) || strings.HasPrefix(session, outsideSession) {
		return s.config.MaxTokenTTL
	}
	return s.config.TokenTTL
}

// revocations is what this instance knows of ended sessions. It is read from the store when it is needed, so that an instance that nobody asks
// costs nothing, and one that is asked is never behind. polling is held during a read, so that calls that come meanwhile share the next.
type revocations struct {
	*jetstream.Revocations
	polling sync.Mutex
}

// upTo returns once everything is known that was revoked before a time.
func (r *revocations) upTo(ctx context.Context, at time.Time) error {
	if !r.AsOf().Before(at) {
		return nil
	}
	r.polling.Lock()
	defer r.polling.Unlock()
	if !r.AsOf().Before(at) {
		return nil
	}
	return r.Poll(ctx)
}

// begin opens a session and returns its first tokens.
func (s *service) begin(ctx context.Context, user subjects.User, device subjects.Device, ttl time.Duration) (wire.Tokens, error) {
	issued, err := s.issueTime(ctx, user)
	if err != nil {
		return wire.Tokens{}, stored(err)
	}
	session := jetstream.Session{User: user, Device: device, Created: issued, Used: issued, Expires: wire.At(issued.Add(max(ttl, s.config.RefreshTTL)))}
	if ttl > s.config.TokenTTL {
		session.ID = longSession + strings.ToLower(rand.Text())
	}
	session, refresh, err := s.store.OpenSession(ctx, session)
	if err != nil {
		return wire.Tokens{}, stored(fmt.Errorf("open a session: %w", err))
	}
	return s.tokens(ctx, session, refresh, ttl)
}

// issueTime returns the present, or a moment later where a logout of all sessions of the user would cover it: that happens when the clock of the
// instance that did it is ahead of this one's.
func (s *service) issueTime(ctx context.Context, user subjects.User) (wire.Time, error) {
	if err := s.revocations.upTo(ctx, time.Now()); err != nil {
		return wire.Time{}, err
	}
	issued := s.now()
	for step := time.Millisecond; s.revocations.Revoked(user, "", issued) && step < leeway/3; step *= 2 {
		issued = issued.Add(step)
	}
	return wire.At(issued), nil
}

// tokens signs the token that a session's newest refresh token came with.
func (s *service) tokens(ctx context.Context, session jetstream.Session, refresh string, ttl time.Duration) (wire.Tokens, error) {
	expires := wire.At(session.Used.Add(ttl))
	token, key, err := s.keys.sign(ctx, ownClaims(s.config, session, expires))
	if err != nil {
		return wire.Tokens{}, err
	}
	s.verifier.proofs.keep(token, key) // its owner shows it next
	return wire.Tokens{Token: token, ExpiresAt: expires, RefreshToken: refresh, User: session.User}, nil
}

// refresh is the method auth.refresh. There is no time of grace in which a spent token is good again: whoever lost the answer signs in again,
// and of two who hold one token, one may have stolen it.
func (s *service) refresh(ctx context.Context, _ *functions.Call, in *wire.Refresh) (wire.Tokens, error) {
	now := s.now()
	session, next, err := s.store.RefreshSession(ctx, in.RefreshToken, now, now.Add(s.config.RefreshTTL))
	switch {
	case errors.Is(err, jetstream.ErrNotFound):
		return wire.Tokens{}, signInAgain()
	case errors.Is(err, jetstream.ErrSpent):
		s.log.WarnContext(ctx, "spent refresh token used again, session ended", slog.String("user", string(session.User)), slog.String("session", session.ID))
		if err := s.end(ctx, session.User, session.ID); err != nil {
			return wire.Tokens{}, stored(err)
		}
		return wire.Tokens{}, signInAgain()
	case err != nil:
		return wire.Tokens{}, stored(fmt.Errorf("refresh a session: %w", err))
	}
	// A logout of all sessions closes those that it sees; one that was opened in that moment is known by its time.
	if err := s.mayGoOn(ctx, session.User, session.ID, session.Created.Time); err != nil {
		if wire.CodeOf(err) == wire.Unauthenticated {
			err = errors.Join(signInAgain(), s.store.CloseSession(ctx, session.User, session.ID))
		}
		return wire.Tokens{}, stored(err)
	}
	return s.tokens(ctx, session, next, s.config.TokenTTL)
}

func signInAgain() *wire.Error {
	return wire.Errorf(wire.Unauthenticated, "The session has ended; sign in again.")
}

// mayGoOn returns Unauthenticated when a session was ended, or its user is disabled or gone. It asks the store, so that it is right from the
// moment on in which a logout was answered, whichever instance answered it.
func (s *service) mayGoOn(ctx context.Context, user subjects.User, session string, issued time.Time) error {
	if err := s.revocations.upTo(ctx, time.Now()); err != nil {
		return err
	}
	if s.revocations.Revoked(user, session, issued) {
		return unauthenticated()
	}
	profile, err := s.store.User(ctx, user)
	if errors.Is(err, jetstream.ErrNotFound) || err == nil && profile.Disabled {
		return unauthenticated()
	}
	return err
}

// mayGoOnOf asks of several users what mayGoOn asks of one, and returns what says it of an identity of theirs.
func (s *service) mayGoOnOf(ctx context.Context, users []subjects.User) (func(*wire.Identity) bool, error) {
	if err := s.revocations.upTo(ctx, time.Now()); err != nil {
		return nil, err
	}
	profiles, err := s.store.Users(ctx, users)
	if err != nil {
		return nil, err
	}
	return func(id *wire.Identity) bool {
		profile, exists := profiles[id.User]
		return exists && !profile.Disabled && !s.revocations.Revoked(id.User, id.Session, id.IssuedAt.Time)
	}, nil
}

// logout is the method auth.logout. When it is answered, no instance takes a token of the session any more.
func (s *service) logout(ctx context.Context, call *functions.Call, in *wire.Logout) (wire.Empty, error) {
	if in.All {
		return wire.Empty{}, stored(s.endAll(ctx, call.User))
	}
	session := call.Session
	if in.Session != "" && in.Session != call.Session {
		session = in.Session
		known, err := s.hasSession(ctx, call.User, session)
		if err != nil {
			return wire.Empty{}, stored(err)
		}
		if !known {
			return wire.Empty{}, s.ended(ctx, call.User, session)
		}
	}
	if _, err := subjects.ParseDevice(session); err != nil {
		return wire.Empty{}, wire.Errorf(wire.BadData, "session is missing.")
	}
	return wire.Empty{}, stored(s.end(ctx, call.User, session))
}

func (s *service) hasSession(ctx context.Context, user subjects.User, id string) (bool, error) {
	sessions, err := s.store.Sessions(ctx, user)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(sessions, func(s jetstream.Session) bool { return s.ID == id }), nil
}

// ended answers a logout of a session that is not there: well where it was ended, so that a repeat whose first answer was lost is told so.
func (s *service) ended(ctx context.Context, user subjects.User, session string) error {
	if err := s.revocations.upTo(ctx, time.Now()); err != nil {
		return stored(err)
	}
	if !s.revocations.Revoked(user, session, s.now().Add(s.config.MaxTokenTTL)) { // later than any logout of all sessions says
		return wire.Errorf(wire.NotFound, "There is no such session.")
	}
	return nil
}

// end closes one session: first the tokens that there are, and a refresh looks for that, then what could make new ones. In this order a repeat after a
// store that did not answer finds the session and completes it; in the other its tokens would stay good until they expire.
func (s *service) end(ctx context.Context, user subjects.User, session string) error {
	if err := s.revoke(ctx, wire.Revocation{User: user, Session: session}, s.tokenLife(session)); err != nil {
		return err
	}
	if err := s.store.CloseSession(ctx, user, session); err != nil {
		return fmt.Errorf("close a session: %w", err)
	}
	return nil
}

// endAll closes every session of a user, those of outside issuers too. The time up to which tokens end is later than the newest one, whatever
// the clock of the instance said that made it.
func (s *service) endAll(ctx context.Context, user subjects.User) error {
	sessions, err := s.store.Sessions(ctx, user)
	if err != nil {
		return err
	}
	before := wire.At(s.now())
	for _, session := range sessions {
		if err := s.store.CloseSession(ctx, user, session.ID); err != nil {
			return fmt.Errorf("close a session: %w", err)
		}
		if session.Used.After(before.Time) {
			before = session.Used
		}
	}
	before = wire.At(before.Add(time.Millisecond))
	return s.revoke(ctx, wire.Revocation{User: user, Before: &before}, s.config.MaxTokenTTL)
}

// revoke stores the end of sessions, for as long as their tokens may live, and tells the edges that hold the user. The event may be lost; edges
// ask auth.revoked as well.
func (s *service) revoke(ctx context.Context, r wire.Revocation, life time.Duration) error {
	if err := s.revocations.Revoke(ctx, r, s.now().Add(life+2*leeway)); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	event, err := json.Marshal(wire.UserEvent{Change: wire.ChangeRevoked, Revocation: &r})
	if err == nil {
		err = s.nats.Publish(subjects.UserEvents(r.User), event)
	}
	if err != nil {
		s.log.WarnContext(ctx, "revocation not announced", slog.String("user", string(r.User)), slog.Any("err", err))
	}
	return nil
}

// revoked is the method auth.revoked.
func (s *service) revoked(ctx context.Context, _ *functions.Call, in *wire.RevocationsQuery) (wire.Revocations, error) {
	if err := s.revocations.upTo(ctx, time.Now().Add(-pollAge)); err != nil {
		return wire.Revocations{}, stored(err)
	}
	return s.revocations.After(in.After), nil
}

// maxVerify bounds the data of auth.verify before it is decoded.
const maxVerify = wire.MaxToken + 256

// verify is the method auth.verify.
func (s *service) verify(ctx context.Context, call *functions.Call) (any, error) {
	if len(call.Data) > maxVerify {
		return nil, unauthenticated()
	}
	var in wire.Verify
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	c, issuer, err := s.verifier.verify(ctx, in.Token)
	if err != nil {
		return nil, err
	}
	var identity wire.Identity
	if issuer.own {
		identity, err = s.ownIdentity(c)
	} else {
		identity = identityOf(c, foreignSession(c))
		identity.User, err = s.foreignUser(ctx, call, c)
	}
	if err == nil {
		err = s.mayGoOn(ctx, identity.User, identity.Session, identity.IssuedAt.Time)
	}
	if err != nil {
		return nil, stored(err)
	}
	return identity, nil
}

// ownIdentity returns whose one of confab's own tokens is, by claims that hold.
func (s *service) ownIdentity(c *claims) (identity wire.Identity, err error) {
	// A token from before TokenTTL was lowered could outlive its revocation.
	if c.Expires.Sub(c.Issued.Time) > s.tokenLife(c.Session)+leeway {
		return wire.Identity{}, tokenExpired()
	}
	identity = identityOf(c, c.Session)
	identity.User, err = subjects.ParseUser(c.Subject)
	return identity, err
}

// identityOf returns what claims say beside the user.
func identityOf(c *claims, session string) wire.Identity {
	return wire.Identity{Session: session, ExpiresAt: wire.At(c.Expires.Time), IssuedAt: wire.At(c.Issued.Time)}
}

// invite is the method auth.invite.
func (s *service) invite(ctx context.Context, _ *functions.Call, in *wire.Invite) (wire.Invited, error) {
	uses, ttl := cmp.Or(in.Uses, 1), time.Duration(cmp.Or(in.TTLMS, defaultInvite.Milliseconds()))*time.Millisecond
	if uses < 1 || uses > maxInviteUses || in.TTLMS < 0 || in.TTLMS > maxLife.Milliseconds() {
		return wire.Invited{}, wire.Errorf(wire.BadData, "uses must be within 1 and %d, ttl_ms at most %d.", maxInviteUses, maxLife.Milliseconds())
	}
	expires := s.now().Add(ttl)
	code, err := s.store.CreateInvite(ctx, uses, expires)
	if err != nil {
		return wire.Invited{}, stored(fmt.Errorf("store an invite: %w", err))
	}
	return wire.Invited{Invite: code, ExpiresAt: wire.At(expires)}, nil
}

const (
	defaultInvite = 7 * 24 * time.Hour
	maxInviteUses = 100_000
)

// checkInvite refuses who has no invite that is good, before any work is done for them and before they are told which names are taken.
func (s *service) checkInvite(ctx context.Context, code string) error {
	if code == "" {
		return wire.Errorf(wire.Forbidden, "Registration needs an invite here.")
	}
	return inviteError(s.store.CheckInvite(ctx, code, s.now()))
}

func inviteError(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrNotFound), errors.Is(err, jetstream.ErrSpent):
		return wire.Errorf(wire.Forbidden, "The invite is not valid, or used up.")
	case err != nil:
		return stored(fmt.Errorf("use an invite: %w", err))
	}
	return nil
}

// useInvite takes one use of an invite; giveBack undoes that when the registration comes to nothing.
func (s *service) useInvite(ctx context.Context, code string) (giveBack func(), err error) {
	if err := inviteError(s.store.UseInvite(ctx, code, s.now())); err != nil {
		return nil, err
	}
	return func() {
		if err := s.store.ReturnInvite(ctx, code, s.now()); err != nil {
			s.log.WarnContext(ctx, "use of an invite not given back", slog.Any("err", err))
		}
	}, nil
}
