package auth

import (
	"context"
	"errors"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// verifyMany is the method auth.verify-many: the tokens are judged one by one, as auth.verify judges them, and what the store has to say of those that pass is asked once for all. A token that may
// need more than that, as an outside issuer's may, is left open, so that nobody waits for another's.
func (s *service) verifyMany(ctx context.Context, _ *functions.Call, in *wire.Verifications) (wire.Verified, error) {
	answer := wire.Verified{Tokens: make([]wire.VerifiedToken, len(in.Tokens))}
	var users []subjects.User
	for i, token := range in.Tokens {
		identity, err := s.ownAtOnce(ctx, token)
		refusal, refused := errors.AsType[*wire.Error](err)
		switch {
		case refused:
			answer.Tokens[i].Error = refusal
		case err == nil:
			answer.Tokens[i].Identity = &identity
			users = append(users, identity.User)
		}
	}
	if len(users) == 0 {
		return answer, nil
	}
	goOn, err := s.mayGoOnOf(ctx, users)
	if err != nil {
		return wire.Verified{}, stored(err)
	}
	for i, one := range answer.Tokens {
		if one.Identity != nil && !goOn(one.Identity) {
			answer.Tokens[i] = wire.VerifiedToken{Error: unauthenticated()}
		}
	}
	return answer, nil
}

var errLater = errors.New("the token takes more than a look")

// ownAtOnce returns whose one of confab's own tokens is, by keys in memory. The error is a *wire.Error, or errLater.
func (s *service) ownAtOnce(ctx context.Context, token string) (wire.Identity, error) {
	r, err := s.verifier.read(token)
	if err != nil {
		return wire.Identity{}, s.verifier.told(ctx, err)
	}
	if !r.authority.own || !s.keys.has(r.header.key) {
		return wire.Identity{}, errLater
	}
	if err := s.verifier.judge(ctx, r); err != nil {
		return wire.Identity{}, s.verifier.told(ctx, err)
	}
	identity, err := s.ownIdentity(r.claims)
	if _, coded := errors.AsType[*wire.Error](err); err != nil && !coded {
		return wire.Identity{}, errLater // auth.verify says what is wrong with it
	}
	return identity, err
}
