package auth

import (
	"context"
	"errors"
	"log/slog"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

// login is the method auth.login. A wrong password, an unknown user and an account without a password get the same answer after the same work.
func (s *service) login(ctx context.Context, call *functions.Call, in *wire.Login) (wire.Tokens, error) {
	done, err := s.failures.begin(in.User, call.Address)
	if err != nil {
		return wire.Tokens{}, err
	}
	result := undecided
	defer func() { done(result) }()

	credential, err := s.store.Credential(ctx, in.User)
	if err != nil && !errors.Is(err, jetstream.ErrNotFound) {
		return wire.Tokens{}, stored(err)
	}
	ok, again, err := s.hasher.verify(ctx, password(credential), in.Password)
	if err != nil {
		return wire.Tokens{}, err
	}
	if !ok {
		result = failed
		return wire.Tokens{}, wrongPassword()
	}
	profile, err := s.store.User(ctx, in.User)
	switch {
	case errors.Is(err, jetstream.ErrNotFound):
		return wire.Tokens{}, wrongPassword() // the registration stopped half-way; repeating it finishes it
	case err != nil:
		return wire.Tokens{}, stored(err)
	}
	result = succeeded
	if profile.Disabled {
		return wire.Tokens{}, disabled()
	}
	if again {
		s.rehash(ctx, in, credential)
	}
	s.enrol(ctx, call, profile)
	return s.begin(ctx, in.User, in.Device, s.config.TokenTTL)
}

func wrongPassword() *wire.Error {
	return wire.Errorf(wire.Unauthenticated, "The user or the password is wrong.")
}

// rehash stores the password with the parameters of today. That it failed is no reason to refuse the sign-in; the next one tries again.
func (s *service) rehash(ctx context.Context, in *wire.Login, credential jetstream.Credential) {
	hash, err := s.hasher.hash(ctx, in.Password)
	if err == nil {
		credential.Hash = hash
		_, err = s.store.UpdateCredential(ctx, in.User, credential)
	}
	if err != nil && !errors.Is(err, jetstream.ErrConflict) {
		s.log.WarnContext(ctx, "password not hashed again", slog.String("user", string(in.User)), slog.Any("err", err))
	}
}
