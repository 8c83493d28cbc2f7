package auth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	// leeway is how far the clock of an issuer may be ahead of this machine's. An exp is judged without it: whoever accepted a token past its
	// exp would have to close the connection in the same breath.
	leeway = 30 * time.Second

	// maxNumericDate is the end of the year 9999: no sane exp, iat or nbf is beyond it.
	maxNumericDate = 253402300799

	// maxSubject bounds sub in bytes, as OpenID Connect does.
	maxSubject = 255
)

var errClaims = errors.New("claims are not of the expected form")

// header is what is read of a token's first part. Parameters that name keys or change how a token is read are refused by forbiddenHeaders.
type header struct {
	algorithm string
	key       string // kid: compared with keys in memory, never used to find one elsewhere
}

// forbiddenHeaders are parameters by which a token would bring or point to its own key (jku, jwk, x5c, x5u), or ask for rules of reading that
// are not known here (b64, crit, enc, zip).
var forbiddenHeaders = []string{"jku", "jwk", "x5c", "x5u", "b64", "crit", "enc", "zip"}

// claims are the claims that confab reads of a token. Names count exactly as written, so that no other spelling of sub is taken for it.
type claims struct {
	Issuer, Subject, Session, ID string
	Audience                     []string
	Expires, Issued, NotBefore   *jwt.NumericDate
	Username, Email              string // hints for the handle of a foreign identity
}

// split checks the outer form of a token and reads its header and claims. Nothing in them is to be trusted yet. It runs in time linear in
// MaxToken, however long the token is.
func split(token string) (header, *claims, error) {
	if len(token) > wire.MaxToken {
		return header{}, nil, refuse("longer than allowed")
	}
	// The decoder of base64 skips line breaks even when it is strict: a second form of the same token would pass.
	for i := range len(token) {
		if c := token[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return header{}, nil, refuse("bytes outside of base64url")
		}
	}
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return header{}, nil, refuse("not three parts")
	}
	h, err := parseHeader(parts[0])
	if err != nil {
		return header{}, nil, err
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		return header{}, nil, refuse("claims are not base64url")
	}
	if c, usual := usualClaims(string(data)); usual {
		return h, c, nil
	}
	c := new(claims)
	if err := c.UnmarshalJSON(data); err != nil {
		return header{}, nil, refuse("claims are malformed")
	}
	return h, c, nil
}

func parseHeader(part string) (h header, err error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return h, refuse("header is not base64url")
	}
	if h, usual := usualHeader(string(data)); usual {
		return h, nil
	}
	return anyHeader(data)
}

// anyHeader reads a header in whatever form.
func anyHeader(data []byte) (h header, err error) {
	fields, err := object(data)
	if err != nil {
		return h, refuse("header is malformed")
	}
	for _, name := range forbiddenHeaders {
		if _, ok := fields[name]; ok {
			return h, refuse("header names a parameter that is not accepted")
		}
	}
	if text(fields, "alg", &h.algorithm) != nil || h.algorithm == "" || text(fields, "kid", &h.key) != nil {
		return h, refuse("header has no usable alg or kid")
	}
	return h, nil
}

// UnmarshalJSON reads claims strictly: one object without doubled names, and every claim that is read of its proper type.
func (c *claims) UnmarshalJSON(data []byte) error {
	fields, err := object(data)
	if err != nil {
		return err
	}
	read := claims{}
	for name, to := range map[string]*string{"iss": &read.Issuer, "sub": &read.Subject, "sid": &read.Session, "jti": &read.ID} {
		if err := text(fields, name, to); err != nil {
			return err
		}
	}
	// Hints may be of any form: an issuer that says something else there is no reason to refuse its user.
	_ = text(fields, "preferred_username", &read.Username)
	_ = text(fields, "email", &read.Email)
	for name, to := range map[string]**jwt.NumericDate{"exp": &read.Expires, "iat": &read.Issued, "nbf": &read.NotBefore} {
		if err := date(fields, name, to); err != nil {
			return err
		}
	}
	if raw, ok := fields["aud"]; ok {
		var one string
		if json.Unmarshal(raw, &one) == nil {
			read.Audience = []string{one}
		} else if json.Unmarshal(raw, &read.Audience) != nil {
			return errClaims
		}
	}
	*c = read
	return nil
}

// object reads one strict JSON object by exact names.
func object(data []byte) (map[string]json.RawMessage, error) {
	if err := wire.CheckJSON(data); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return nil, errClaims
	}
	return fields, nil
}

// text reads a field that must be a string where it is present.
func text(fields map[string]json.RawMessage, name string, to *string) error {
	raw, ok := fields[name]
	if !ok {
		return nil
	}
	if raw[0] != '"' {
		return errClaims
	}
	return json.Unmarshal(raw, to)
}

// date reads a field that must be a number of seconds since 1970 up to the year 9999 where it is present. A fraction counts to the millisecond.
func date(fields map[string]json.RawMessage, name string, to **jwt.NumericDate) error {
	raw, ok := fields[name]
	if !ok {
		return nil
	}
	var seconds float64
	if raw[0] == 'n' || json.Unmarshal(raw, &seconds) != nil || !(seconds >= 0 && seconds <= maxNumericDate) {
		return errClaims
	}
	*to = &jwt.NumericDate{Time: time.UnixMilli(int64(math.Round(seconds * 1000)))}
	return nil
}

// MarshalJSON writes the claims of confab's own tokens; iat has milliseconds, so that a sign-in right after a logout of all sessions is newer.
func (c *claims) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Issuer   string  `json:"iss"`
		Audience string  `json:"aud"`
		Subject  string  `json:"sub"`
		Session  string  `json:"sid"`
		ID       string  `json:"jti"`
		Issued   float64 `json:"iat"`
		Expires  float64 `json:"exp"`
	}{c.Issuer, c.Audience[0], c.Subject, c.Session, c.ID, seconds(c.Issued.Time), seconds(c.Expires.Time)})
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// The methods of jwt.Claims, which the library's validator reads.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.Issued, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.Audience, nil }

// ownClaims returns the claims of a token of confab itself, issued when the session was last used.
func ownClaims(config Config, session jetstream.Session, expires wire.Time) *claims {
	return &claims{
		Issuer: config.Issuer, Audience: []string{config.Audience},
		Subject: string(session.User), Session: session.ID, ID: strings.ToLower(rand.Text()),
		Issued: &jwt.NumericDate{Time: session.Used.Time}, Expires: &jwt.NumericDate{Time: expires.Time},
	}
}
