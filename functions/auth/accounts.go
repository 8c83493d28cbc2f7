package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	// enrolTimeout bounds how long a sign-in waits for the conversations that everybody is in.
	enrolTimeout = 1500 * time.Millisecond

	// Marks of credentials that are no password: they say who may finish what was begun.
	markIdentity = "identity:" // then the id of the foreign identity
	markOperator = "operator"
)

var errTaken = errors.New("the name is taken")

// createAccount makes an account, or returns errTaken. The credential comes first and is the claim on the name, the profile makes the account
// complete. When the work stops between the two, whoever makes the same claim again may resume it, which resume decides by the credential
// that is there. Accounts without a password have a credential as well, so that nobody can give them one.
func (s *service) createAccount(ctx context.Context, user subjects.User, name, credential string, resume func(found string) (bool, error)) (jetstream.User, error) {
	profile := jetstream.User{User: user, Name: name, Created: wire.At(s.now())}
	if taken, err := s.store.UserExists(ctx, user); err != nil || taken {
		return profile, cmp.Or(err, errTaken)
	}
	_, err := s.store.CreateCredential(ctx, user, jetstream.Credential{Hash: credential})
	if errors.Is(err, jetstream.ErrExists) {
		var there jetstream.Credential
		if there, err = s.store.Credential(ctx, user); err == nil {
			var ok bool
			if ok, err = resume(there.Hash); err == nil && !ok {
				err = errTaken
			}
		}
	}
	if err != nil {
		return profile, err
	}
	profile.Revision, err = s.store.CreateUser(ctx, profile)
	if errors.Is(err, jetstream.ErrExists) {
		err = errTaken // the same claim was made twice at once
	}
	return profile, err
}

// createMarked is createAccount for accounts without a password: who holds the mark gets the account, also when it is there already.
func (s *service) createMarked(ctx context.Context, user subjects.User, name, mark string) (jetstream.User, error) {
	profile, err := s.createAccount(ctx, user, name, mark, func(found string) (bool, error) { return found == mark, nil })
	if !errors.Is(err, errTaken) {
		return profile, err
	}
	there, err := s.store.Credential(ctx, user)
	if errors.Is(err, jetstream.ErrNotFound) || err == nil && there.Hash != mark {
		return profile, errTaken
	}
	if err != nil {
		return profile, err
	}
	return s.store.User(ctx, user)
}

// password returns the PHC string of a credential, "" when it is no password.
func password(c jetstream.Credential) string {
	if !strings.HasPrefix(c.Hash, "$") {
		return ""
	}
	return c.Hash
}

// enrol adds a user to the conversations that everybody is in, once. That it failed is no reason to refuse a sign-in: the profile does not say
// that it is done then, and the next sign-in tries again.
func (s *service) enrol(ctx context.Context, call *functions.Call, profile jetstream.User) {
	if profile.Enrolled {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	_, err := functions.Invoke[wire.UserQuery, wire.Empty](bounded, s.caller, call, "conversations", "enrol", wire.UserQuery{User: profile.User})
	if err == nil {
		profile.Enrolled = true
		_, err = s.store.UpdateUser(ctx, profile)
	}
	if err != nil && !errors.Is(err, jetstream.ErrConflict) {
		s.log.WarnContext(ctx, "enrolment put off to the next sign-in", slog.String("user", string(profile.User)), slog.Any("err", err))
	}
}

// register is the method auth.register.
func (s *service) register(ctx context.Context, call *functions.Call, in *wire.Register) (wire.Tokens, error) {
	if s.config.Registration == RegistrationClosed {
		return wire.Tokens{}, wire.Errorf(wire.Forbidden, "Registration is closed here.")
	}
	if s.config.Registration == RegistrationInvite {
		if err := s.checkInvite(ctx, in.Invite); err != nil {
			return wire.Tokens{}, err
		}
	}
	// Before the work of a hash: most names that are taken are found here.
	taken, err := s.store.UserExists(ctx, in.User)
	if err != nil {
		return wire.Tokens{}, stored(err)
	}
	if taken || s.isReserved(in.User) {
		return wire.Tokens{}, nameTaken()
	}
	hash, err := s.hasher.hash(ctx, in.Password)
	if err != nil {
		return wire.Tokens{}, err
	}
	giveBack := func() {}
	if s.config.Registration == RegistrationInvite {
		if giveBack, err = s.useInvite(ctx, in.Invite); err != nil {
			return wire.Tokens{}, err
		}
	}
	profile, err := s.createAccount(ctx, in.User, in.Name, hash, func(found string) (bool, error) {
		phc := password(jetstream.Credential{Hash: found})
		if phc == "" {
			return false, nil
		}
		ok, _, err := s.hasher.verify(ctx, phc, in.Password)
		return ok, err
	})
	if err != nil {
		giveBack()
		if errors.Is(err, errTaken) {
			err = nameTaken()
		}
		return wire.Tokens{}, stored(err)
	}
	s.log.InfoContext(ctx, "account registered", slog.String("user", string(in.User)))
	s.enrol(ctx, call, profile)
	return s.begin(ctx, in.User, in.Device, s.config.TokenTTL)
}

func nameTaken() *wire.Error {
	return wire.Errorf(wire.Conflict, "This name is taken; choose another.")
}

// issue is the method auth.issue.
func (s *service) issue(ctx context.Context, call *functions.Call, in *wire.Issue) (wire.Tokens, error) {
	ttl := s.config.TokenTTL
	if in.TTLMS != 0 {
		if in.TTLMS < time.Second.Milliseconds() || in.TTLMS > s.config.MaxTokenTTL.Milliseconds() {
			return wire.Tokens{}, wire.Errorf(wire.BadData, "ttl_ms must be within 1000 and %d.", s.config.MaxTokenTTL.Milliseconds())
		}
		ttl = time.Duration(in.TTLMS) * time.Millisecond
	}
	profile, err := s.store.User(ctx, in.User)
	if errors.Is(err, jetstream.ErrNotFound) && in.Create {
		profile, err = s.createMarked(ctx, in.User, in.Name, markOperator)
		if errors.Is(err, errTaken) {
			return wire.Tokens{}, nameTaken()
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrNotFound):
		return wire.Tokens{}, wire.Errorf(wire.NotFound, "There is no such user; set create to make one.")
	case err != nil:
		return wire.Tokens{}, stored(fmt.Errorf("issue tokens: %w", err))
	case profile.Disabled:
		return wire.Tokens{}, disabled()
	}
	s.enrol(ctx, call, profile)
	s.log.InfoContext(ctx, "tokens issued by an operator", slog.String("user", string(in.User)))
	return s.begin(ctx, in.User, in.Device, ttl)
}

func disabled() *wire.Error { return wire.Errorf(wire.Forbidden, "This account is disabled.") }
