package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/subjects/wire"
)

// verifier checks tokens: confab's own and those of outside issuers, by the same rules. What it holds is fixed when it is made, but for the proofs.
type verifier struct {
	proofs      proofs
	authorities map[string]*authority // by iss
	maxLife     time.Duration
	now         func() time.Time
	log         *slog.Logger
}

// authority is one issuer whose tokens are accepted.
type authority struct {
	issuer     string
	own        bool     // confab itself
	algorithms []string // accepted of this issuer; the token's alg never decides more than which of them
	validator  *jwt.Validator
	keys       keyFinder
}

// keyFinder returns the keys of an issuer that a token with this kid and algorithm may be signed with. It looks in memory; when the kid is
// unknown there, it may load the issuer's whole set again, at a bounded rate and from where the configuration says. The error is
// errUnknownKey, or a *wire.Error with Unavailable when there are no keys to judge by.
type keyFinder func(ctx context.Context, kid, algorithm string) ([]jwt.VerificationKey, error)

var errUnknownKey = errors.New("no such key")

// refusal says why a token was refused: for the log of operators, never for clients. It holds nothing of the token.
type refusal string

func refuse(reason string) error { return refusal(reason) }

func (r refusal) Error() string { return "token refused: " + string(r) }

func newVerifier(maxLife time.Duration, now func() time.Time, log *slog.Logger) *verifier {
	return &verifier{authorities: map[string]*authority{}, maxLife: maxLife, now: now, log: log}
}

// addAuthority lets tokens of an issuer pass. algorithms must not mix HMAC with others, which Issuer.Validate sees to.
func (v *verifier) addAuthority(issuer, audience string, own bool, algorithms []string, keys keyFinder) {
	v.authorities[issuer] = &authority{
		issuer: issuer, own: own, algorithms: algorithms, keys: keys,
		validator: jwt.NewValidator(
			jwt.WithIssuer(issuer),
			jwt.WithAudience(audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway),
			jwt.WithTimeFunc(v.now),
		),
	}
}

// reading is a token of the right outer form, said to be of a known issuer. Nothing in it is to be trusted yet.
type reading struct {
	token     string
	header    header
	claims    *claims
	authority *authority
}

// verify returns the claims of a valid token and who issued it. The error is a *wire.Error: Unauthenticated, TokenExpired for a token that is
// valid but for its exp, or Unavailable when the issuer's keys cannot be had at this moment.
func (v *verifier) verify(ctx context.Context, token string) (*claims, *authority, error) {
	r, err := v.read(token)
	if err == nil {
		err = v.judge(ctx, r)
	}
	if err != nil {
		return nil, nil, v.told(ctx, err)
	}
	return r.claims, r.authority, nil
}

// told returns what clients learn of a token that was refused.
func (v *verifier) told(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return err
	}
	v.log.DebugContext(ctx, "token refused", slog.Any("err", err))
	return unauthenticated()
}

func unauthenticated() *wire.Error {
	return wire.Errorf(wire.Unauthenticated, "The token is not valid here; sign in again.")
}

func tokenExpired() *wire.Error {
	return wire.Errorf(wire.TokenExpired, "The token has expired; refresh it.")
}

// read takes a token apart.
func (v *verifier) read(token string) (reading, error) {
	h, unverified, err := split(token)
	if err != nil {
		return reading{}, err
	}
	a, ok := v.authorities[unverified.Issuer]
	if !ok {
		return reading{}, refuse("unknown issuer")
	}
	if !slices.Contains(a.algorithms, h.algorithm) {
		return reading{}, refuse("algorithm is not one of the issuer's")
	}
	return reading{token, h, unverified, a}, nil
}

// judge returns nil where the claims of a token are its issuer's and hold now.
func (v *verifier) judge(ctx context.Context, r reading) error {
	keys, err := r.authority.keys(ctx, r.header.key, r.header.algorithm)
	if errors.Is(err, errUnknownKey) {
		return refuse("unknown key")
	} else if err != nil {
		return err
	}
	if !v.proofs.hold(r.token, keys) {
		signer, err := r.signer(keys)
		if err != nil {
			return err
		}
		v.proofs.keep(r.token, signer)
	}
	expired, err := onlyExpired(r.authority.validator.Validate(r.claims))
	if err != nil {
		return err
	}
	return v.checkTimes(r.claims, r.authority, expired)
}

// signer returns the one of the keys that signed the token: the very bytes that its header and claims were read of.
func (r reading) signer(keys []jwt.VerificationKey) (jwt.VerificationKey, error) {
	end := strings.LastIndexByte(r.token, '.')
	signature, err := base64.RawURLEncoding.Strict().DecodeString(r.token[end+1:])
	if err != nil {
		return nil, refuse("signature is not base64url")
	}
	method := jwt.GetSigningMethod(r.header.algorithm)
	if method == nil {
		return nil, refuse("algorithm is not known")
	}
	for _, key := range keys {
		if method.Verify(r.token[:end], signature, key) == nil {
			return key, nil
		}
	}
	return nil, refuse("signature does not match")
}

// checkTimes is what the library leaves open: that iat is there, an exp without leeway, a bound on the life, and a usable sub.
func (v *verifier) checkTimes(c *claims, a *authority, expired bool) error {
	switch {
	case c.Issued == nil:
		return refuse("no iat")
	case !c.Expires.After(c.Issued.Time):
		return refuse("exp is not after iat")
	case c.Expires.Sub(c.Issued.Time) > v.maxLife+leeway:
		return refuse("lives longer than max-token-ttl")
	case c.Subject == "" || len(c.Subject) > maxSubject || strings.ContainsRune(c.Subject, 0):
		return refuse("no usable sub")
	case a.own && c.Session == "":
		return refuse("no sid")
	case expired || !v.now().Before(c.Expires.Time):
		return tokenExpired()
	}
	return nil
}

// onlyExpired tells a token that is valid but for its exp from one that is wrong in any other way.
func onlyExpired(err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	for reason, cause := range map[string]error{
		"not valid yet (nbf)":         jwt.ErrTokenNotValidYet,
		"issued in the future (iat)":  jwt.ErrTokenUsedBeforeIssued,
		"wrong iss":                   jwt.ErrTokenInvalidIssuer,
		"wrong aud":                   jwt.ErrTokenInvalidAudience,
		"a required claim is missing": jwt.ErrTokenRequiredClaimMissing,
	} {
		if errors.Is(err, cause) {
			return false, refuse(reason)
		}
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return true, nil
	}
	return false, refuse("not acceptable")
}
