package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/subjects/wire"
)

const (
	testKid     = "k1"
	sharedIss   = "https://backend.example"
	providerIss = "https://provider.example"
	testSecret  = "0123456789abcdef0123456789abcdef"
)

// testVerifier is a verifier with one key of its own, one issuer with a secret and one with keys of every type.
type testVerifier struct {
	*verifier
	now  time.Time
	own  ed25519.PrivateKey
	ec   *ecdsa.PrivateKey
	rsa  *rsa.PrivateKey
	edge ed25519.PrivateKey
}

func newTestVerifier(t testing.TB) *testVerifier {
	t.Helper()
	v := &testVerifier{now: time.Date(2026, 11, 20, 15, 0, 0, 0, time.UTC)}
	v.verifier = newVerifier(30*24*time.Hour, func() time.Time { return v.now }, slog.New(slog.DiscardHandler))
	_, v.own, _ = ed25519.GenerateKey(rand.Reader)
	_, v.edge, _ = ed25519.GenerateKey(rand.Reader)
	v.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	v.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	static := func(set keySet) keyFinder {
		return func(_ context.Context, kid, algorithm string) ([]jwt.VerificationKey, error) {
			return set.find(kid, algorithm)
		}
	}
	v.addAuthority("confab", "confab", true, []string{"EdDSA"}, static(keySet{{testKid, []string{"EdDSA"}, v.own.Public()}}))
	shared, err := Issuer{Issuer: sharedIss, Audience: "chat", Secret: testSecret}.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	v.addAuthority(sharedIss, "chat", false, []string{"HS256"}, shared)
	v.addAuthority(providerIss, "chat", false, asymmetric, static(keySet{
		{"ed", []string{"EdDSA"}, v.edge.Public()},
		{"ec", []string{"ES256"}, &v.ec.PublicKey},
		{"rsa", []string{"RS256", "PS256"}, &v.rsa.PublicKey},
	}))
	return v
}

// fields are the claims or the header of a token under test.
type fields map[string]any

// ownClaims returns valid claims of confab's own, with changes; nil takes a claim away.
func (v *testVerifier) ownClaims(changes fields) fields {
	c := fields{"iss": "confab", "aud": "confab", "sub": "ada", "sid": "s1", "jti": "j1", "iat": v.now.Unix(), "exp": v.now.Add(15 * time.Minute).Unix()}
	return c.with(changes)
}

func (f fields) with(changes fields) fields {
	for name, value := range changes {
		if value == nil {
			delete(f, name)
		} else {
			f[name] = value
		}
	}
	return f
}

func ownHeader(changes fields) fields {
	return fields{"alg": "EdDSA", "kid": testKid, "typ": "JWT"}.with(changes)
}

func segment(v any) string {
	data, ok := v.(string)
	if !ok {
		encoded, _ := json.Marshal(v)
		data = string(encoded)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(data))
}

// sign makes a token of anything, with whatever the test wants to sign it with.
func sign(header, claims any, signer func(input []byte) []byte) string {
	input := segment(header) + "." + segment(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(signer([]byte(input)))
}

func withEd(key ed25519.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte { return ed25519.Sign(key, input) }
}

func withHMAC(secret []byte) func([]byte) []byte {
	return func(input []byte) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write(input)
		return mac.Sum(nil)
	}
}

func withNothing([]byte) []byte { return nil }

func (v *testVerifier) withRSA(input []byte) []byte {
	sum := sha256.Sum256(input)
	signature, _ := rsa.SignPKCS1v15(rand.Reader, v.rsa, crypto.SHA256, sum[:])
	return signature
}

func (v *testVerifier) withEC(input []byte) []byte {
	sum := sha256.Sum256(input)
	r, s, _ := ecdsa.Sign(rand.Reader, v.ec, sum[:])
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func TestVerifyAccepts(t *testing.T) {
	v := newTestVerifier(t)
	outside := func(iss string, changes fields) fields {
		return v.ownClaims(fields{"iss": iss, "aud": "chat", "sid": nil, "sub": "auth0|Ada"}).with(changes)
	}
	for name, token := range map[string]string{
		"a token of its own":                   sign(ownHeader(nil), v.ownClaims(nil), withEd(v.own)),
		"an audience in a list":                sign(ownHeader(nil), v.ownClaims(fields{"aud": []string{"x", "confab"}}), withEd(v.own)),
		"fractions of seconds":                 sign(ownHeader(nil), v.ownClaims(fields{"iat": float64(v.now.UnixMilli()) / 1000}), withEd(v.own)),
		"claims and headers that are not read": sign(ownHeader(fields{"x5t": "…", "nonce": 1}), v.ownClaims(fields{"Sub": "bob", "EXP": 1, "deep": fields{"a": 1}}), withEd(v.own)),
		"an issuer's clock that is ahead":      sign(ownHeader(nil), v.ownClaims(fields{"iat": v.now.Unix() + 29, "nbf": v.now.Unix() + 29}), withEd(v.own)),
		"a shared secret":                      sign(fields{"alg": "HS256"}, outside(sharedIss, nil), withHMAC([]byte(testSecret))),
		"a shared secret with a kid":           sign(fields{"alg": "HS256", "kid": "any"}, outside(sharedIss, nil), withHMAC([]byte(testSecret))),
		"an issuer's Ed25519 key":              sign(fields{"alg": "EdDSA", "kid": "ed"}, outside(providerIss, nil), withEd(v.edge)),
		"an issuer's only key of an algorithm": sign(fields{"alg": "ES256"}, outside(providerIss, nil), v.withEC),
		"an issuer's RSA key":                  sign(fields{"alg": "RS256", "kid": "rsa"}, outside(providerIss, nil), v.withRSA),
	} {
		t.Run(name, func(t *testing.T) {
			c, a, err := v.verify(context.Background(), token)
			if err != nil {
				t.Fatal(err)
			}
			if a.own && c.Subject != "ada" || !a.own && c.Subject != "auth0|Ada" {
				t.Errorf("sub is %q", c.Subject)
			}
		})
	}
}

// TestVerifyRefuses is long because it is the list of what a token may not be. Where a case changes one thing, that thing alone is wrong: the signature is good.
func TestVerifyRefuses(t *testing.T) {
	v := newTestVerifier(t)
	now := v.now.Unix()
	publicKey := v.own.Public().(ed25519.PublicKey)
	own := func(changes fields) string { return sign(ownHeader(nil), v.ownClaims(changes), withEd(v.own)) }
	headed := func(changes fields) string { return sign(ownHeader(changes), v.ownClaims(nil), withEd(v.own)) }
	raw := func(claims string) string { return sign(ownHeader(nil), claims, withEd(v.own)) }
	good := own(nil)
	parts := strings.Split(good, ".")
	from := func(iss string) fields { return v.ownClaims(fields{"iss": iss, "aud": "chat"}) }
	spki := `{"alg":"HS256","kid":"ed"}`
	cases := map[string]string{
		"empty": "", "two parts": parts[0] + "." + parts[1], "four parts": good + ".", "five parts": good + ".x.y", "dots": "....",
		"spaces around": " " + good, "a line break inside": good[:10] + "\n" + good[10:], "padding": good + "=", "no signature": parts[0] + "." + parts[1] + ".",
		"another signature":   parts[0] + "." + parts[1] + "." + segment("x"),
		"signature bit flip":  flipLast(good),
		"claims not signed":   parts[0] + "." + segment(v.ownClaims(fields{"sub": "bob"})) + "." + parts[2],
		"header is no JSON":   sign("{", v.ownClaims(nil), withEd(v.own)),
		"header is null":      sign("null", v.ownClaims(nil), withEd(v.own)),
		"claims are null":     raw("null"),
		"claims are a list":   raw("[]"),
		"claims are no JSON":  raw("{"),
		"alg none":            sign(ownHeader(fields{"alg": "none"}), v.ownClaims(nil), withNothing),
		"alg None":            sign(ownHeader(fields{"alg": "None"}), v.ownClaims(nil), withNothing),
		"alg nOnE":            sign(ownHeader(fields{"alg": "nOnE"}), v.ownClaims(nil), withNothing),
		"alg none but signed": headed(fields{"alg": "none"}),
		"no alg":              headed(fields{"alg": nil}),
		"alg is a number":     headed(fields{"alg": 1}),
		"alg in other case":   headed(fields{"alg": "eddsa"}),
		"alg twice":           sign(`{"alg":"EdDSA","alg":"none","kid":"k1"}`, v.ownClaims(nil), withEd(v.own)),

		"HS256 with the public key as secret":        sign(ownHeader(fields{"alg": "HS256"}), v.ownClaims(nil), withHMAC(publicKey)),
		"HS256 with an issuer's public key":          sign(spki, from(providerIss), withHMAC(v.edge.Public().(ed25519.PublicKey))),
		"HS256 with an empty secret":                 sign(ownHeader(fields{"alg": "HS256"}), v.ownClaims(nil), withHMAC(nil)),
		"HS256 of the shared issuer, empty secret":   sign(fields{"alg": "HS256"}, from(sharedIss), withHMAC(nil)),
		"HS512 where HS256 is agreed":                sign(fields{"alg": "HS512"}, from(sharedIss), withHMAC([]byte(testSecret))),
		"EdDSA of confab in another issuer's name":   sign(ownHeader(nil), from(providerIss), withEd(v.own)),
		"an issuer's key in confab's name":           sign(fields{"alg": "EdDSA", "kid": "ed"}, v.ownClaims(nil), withEd(v.edge)),
		"a shared secret in confab's name":           sign(fields{"alg": "HS256", "kid": testKid}, v.ownClaims(nil), withHMAC([]byte(testSecret))),
		"RS256 with the kid of another type of key":  sign(fields{"alg": "RS256", "kid": "ed"}, from(providerIss), v.withRSA),
		"an algorithm that the key is not bound to":  sign(fields{"alg": "RS512", "kid": "rsa"}, from(providerIss), v.withRSA),
		"exp of an issuer farther than MaxTokenTTL":  sign(fields{"alg": "HS256"}, from(sharedIss).with(fields{"exp": now + 31*86400}), withHMAC([]byte(testSecret))),
		"an issuer's token for another audience":     sign(fields{"alg": "HS256"}, from(sharedIss).with(fields{"aud": "mail"}), withHMAC([]byte(testSecret))),
		"an issuer's token without a sub":            sign(fields{"alg": "HS256"}, from(sharedIss).with(fields{"sub": nil}), withHMAC([]byte(testSecret))),
		"an issuer's token with an endless sub":      sign(fields{"alg": "HS256"}, from(sharedIss).with(fields{"sub": strings.Repeat("a", 256)}), withHMAC([]byte(testSecret))),
		"an issuer's token with sub of another type": sign(fields{"alg": "HS256"}, from(sharedIss).with(fields{"sub": 7}), withHMAC([]byte(testSecret))),

		"no exp": own(fields{"exp": nil}), "exp null": raw(`{"iss":"confab","aud":"confab","sub":"ada","sid":"s","iat":` + fmt.Sprint(now) + `,"exp":null}`),
		"exp as string": own(fields{"exp": fmt.Sprint(now + 60)}), "exp 1e300": own(fields{"exp": 1e300}), "exp beyond all years": own(fields{"exp": 1e12}),
		"exp negative": own(fields{"exp": -1}), "exp true": own(fields{"exp": true}), "exp in a list": own(fields{"exp": []int64{now + 60}}),
		"exp before iat": own(fields{"exp": now + 5, "iat": now + 10}), "exp 31 days ahead": own(fields{"exp": now + 31*86400}),
		"no iat": own(fields{"iat": nil}), "iat as string": own(fields{"iat": "1"}), "iat in the future": own(fields{"iat": now + 31, "exp": now + 60}),
		"nbf in the future": own(fields{"nbf": now + 31}), "nbf as string": own(fields{"nbf": "0"}), "nbf 1e300": own(fields{"nbf": 1e300}),
		"no aud": own(fields{"aud": nil}), "wrong aud": own(fields{"aud": "confab2"}), "empty aud": own(fields{"aud": ""}), "aud {}": own(fields{"aud": fields{}}),
		"aud with a number": own(fields{"aud": []any{"confab", 1}}), "no iss": own(fields{"iss": nil}), "wrong iss": own(fields{"iss": "confab2"}),
		"iss in other case": own(fields{"iss": "Confab"}), "iss with a slash": own(fields{"iss": providerIss + "/"}), "iss a list": own(fields{"iss": []string{"confab"}}),
		"no sub": own(fields{"sub": nil}), "no sid": own(fields{"sid": nil}), "sub a number": own(fields{"sub": 1}),
		"doubled sub":            raw(fmt.Sprintf(`{"iss":"confab","aud":"confab","sub":"ada","sid":"s","iat":%d,"exp":%d,"sub":"bob"}`, now, now+60)),
		"doubled sub by escapes": raw(fmt.Sprintf(`{"iss":"confab","aud":"confab","sub":"ada","sid":"s","iat":%d,"exp":%d,"s\u0075b":"bob"}`, now, now+60)),
		"data after the claims":  raw(fmt.Sprintf(`{"iss":"confab","aud":"confab","sub":"ada","sid":"s","iat":%d,"exp":%d}{}`, now, now+60)),
		"claims nested deep":     raw(fmt.Sprintf(`{"iss":"confab","aud":"confab","sub":"ada","sid":"s","iat":%d,"exp":%d,"x":%s}`, now, now+60, strings.Repeat("[", 300)+strings.Repeat("]", 300))),
		"longer than 4 KiB":      own(fields{"x": strings.Repeat("a", wire.MaxToken)}),

		"no kid": headed(fields{"kid": nil, "alg": "EdDSA", "typ": nil, "jku": "https://evil.example"}), "unknown kid": headed(fields{"kid": "k2"}),
		"kid a path": headed(fields{"kid": "../../../../dev/null"}), "kid a query": headed(fields{"kid": "' OR 1=1 --"}), "kid a subject": headed(fields{"kid": "$KV.IM_CONFIG.>"}),
		"kid a number": headed(fields{"kid": 1}), "kid null": headed(fields{"kid": json.RawMessage("null")}), "kid with NUL": headed(fields{"kid": "k1\x00"}),
		"jku": headed(fields{"jku": "https://evil.example/keys"}), "x5u": headed(fields{"x5u": "https://evil.example/cert"}),
		"x5c": headed(fields{"x5c": []string{"MII"}}), "crit": headed(fields{"crit": []string{"exp"}}), "b64": headed(fields{"b64": false}), "zip": headed(fields{"zip": "DEF"}),
		"jwk": headed(fields{"jwk": fields{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(publicKey)}}),
	}
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, err := v.verify(context.Background(), token)
			if wire.CodeOf(err) != wire.Unauthenticated || err.Error() != unauthenticated().Error() {
				t.Errorf("%v", err)
			}
		})
	}
}

func flipLast(token string) string {
	i := strings.LastIndexByte(token, '.') + 1
	flipped := byte('A')
	if token[i] == flipped {
		flipped = 'B'
	}
	return token[:i] + string(flipped) + token[i+1:]
}

func TestVerifyTellsExpiredFromWrong(t *testing.T) {
	v := newTestVerifier(t)
	expired := fields{"iat": v.now.Unix() - 900, "exp": v.now.Unix()}
	for name, c := range map[string]struct {
		token string
		code  wire.Code
	}{
		"at its exp":            {sign(ownHeader(nil), v.ownClaims(expired), withEd(v.own)), wire.TokenExpired},
		"long after":            {sign(ownHeader(nil), v.ownClaims(fields{"iat": 1, "exp": 901}), withEd(v.own)), wire.TokenExpired},
		"expired and forged":    {flipLast(sign(ownHeader(nil), v.ownClaims(expired), withEd(v.own))), wire.Unauthenticated},
		"expired, other aud":    {sign(ownHeader(nil), v.ownClaims(expired).with(fields{"aud": "x"}), withEd(v.own)), wire.Unauthenticated},
		"expired and not yet":   {sign(ownHeader(nil), v.ownClaims(expired).with(fields{"nbf": v.now.Unix() + 60}), withEd(v.own)), wire.Unauthenticated},
		"a second before exp":   {sign(ownHeader(nil), v.ownClaims(fields{"exp": v.now.Unix() + 1}), withEd(v.own)), ""},
		"expired, of an issuer": {sign(fields{"alg": "HS256"}, v.ownClaims(expired).with(fields{"iss": sharedIss, "aud": "chat"}), withHMAC([]byte(testSecret))), wire.TokenExpired},
	} {
		if _, _, err := v.verify(context.Background(), c.token); wire.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerifyIsQuickWithLongTokens takes the best of several tries, so that a busy machine does not decide.
func TestVerifyIsQuickWithLongTokens(t *testing.T) {
	v := newTestVerifier(t)
	for name, token := range map[string]string{
		"dots":    strings.Repeat(".", 1<<20),
		"letters": strings.Repeat("A", 1<<20),
		"braces":  segment(strings.Repeat("[", 3000)) + "." + segment(strings.Repeat("{", 1000)) + ".",
		"keys":    segment(`{"alg":"EdDSA"}`) + "." + segment(`{"`+strings.Repeat(`":1,"`, 500)) + ".",
	} {
		best := time.Hour
		for range 5 {
			began := time.Now()
			if _, _, err := v.verify(context.Background(), token); wire.CodeOf(err) != wire.Unauthenticated {
				t.Fatal(err)
			}
			best = min(best, time.Since(began))
		}
		if best > 5*time.Millisecond {
			t.Errorf("%s: %v", name, best)
		}
	}
}

func FuzzVerify(f *testing.F) {
	v := newTestVerifier(f)
	good := sign(ownHeader(nil), v.ownClaims(nil), withEd(v.own))
	f.Add(good)
	f.Add(sign(fields{"alg": "none"}, v.ownClaims(nil), withNothing))
	f.Add(sign(ownHeader(nil), `{"iss":"confab","sub":"ada","sub":"bob","exp":1e300,"iat":0,"aud":["confab"]}`, withEd(v.own)))
	f.Add(strings.Repeat(".", 5000))
	f.Fuzz(func(t *testing.T, token string) {
		c, _, err := v.verify(context.Background(), token)
		switch code := wire.CodeOf(err); {
		case err == nil && token != good:
			t.Fatalf("a token that nobody signed passed as %q", c.Subject)
		case err != nil && code != wire.Unauthenticated && code != wire.TokenExpired:
			t.Fatalf("code %q", code)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"iss":"a","sub":"b","aud":["c"],"exp":1.5,"iat":1e9,"nbf":0,"email":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := new(claims)
		if c.UnmarshalJSON(data) != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("claims that are no JSON were read")
		}
		for _, d := range []*jwt.NumericDate{c.Expires, c.Issued, c.NotBefore} {
			if d != nil && (d.Unix() < 0 || d.Unix() > maxNumericDate) {
				t.Fatalf("a date of %v", d)
			}
		}
	})
}

// FuzzUsualClaims compares both ways to read: what is read by hand would have been read, as the same.
func FuzzUsualClaims(f *testing.F) {
	usual := `{"iss":"confab","aud":"confab","sub":"ada","sid":"s","jti":"j","iat":1700000000.123,"exp":1700000900}`
	for _, text := range []string{
		usual, strings.Replace(usual, "1700000900", "1700000900.1", 1), strings.Replace(usual, ".123", ".1234", 1), strings.Replace(usual, "17", "017", 1), strings.Replace(usual, "ada", `\u0061da`, 1),
		strings.Replace(usual, "1700000900", "253402300800", 1), strings.Replace(usual, "1700000900", "0.05", 1), strings.Replace(usual, "1700000900", "1e9", 1), strings.Replace(usual, "1700000900", "1700000900.", 1),
		usual + " ", strings.Replace(usual, "}", `,"sub":"bob"}`, 1), strings.Replace(usual, `"sub":"ada"`, `"sub":"ada","sub":"bob"`, 1), `{"alg":"EdDSA","kid":"k1","typ":"JWT"}`, `{"alg":"EdDSA","kid":"k1","typ":"JWT","jku":"x"}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data string) {
		if quick, usual := usualClaims(data); usual {
			slow := new(claims)
			if err := slow.UnmarshalJSON([]byte(data)); err != nil || !reflect.DeepEqual(quick, slow) {
				t.Fatalf("%q is read as %+v, by reflection as %+v, %v", data, quick, slow, err)
			}
		}
		if quick, usual := usualHeader(data); usual {
			slow, err := anyHeader([]byte(data))
			if err != nil || quick != slow {
				t.Fatalf("%q is read as %+v, by reflection as %+v, %v", data, quick, slow, err)
			}
		}
	})
}

// TestOwnTokensAreReadByHand signs as the function does.
func TestOwnTokensAreReadByHand(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	for _, at := range []time.Time{now, now.Truncate(time.Second), now.Add(77 * time.Millisecond)} {
		data, err := json.Marshal(&claims{Issuer: "https://chat.example/", Subject: "ada", Session: "s", ID: "j", Audience: []string{"confab"}, Issued: &jwt.NumericDate{Time: at}, Expires: &jwt.NumericDate{Time: at.Add(time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		if c, usual := usualClaims(string(data)); !usual || !c.Issued.Equal(at) || !c.Expires.Equal(at.Add(time.Hour)) {
			t.Errorf("%s is read as %+v, %v", data, c, usual)
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &claims{Audience: []string{"a"}, Issued: &jwt.NumericDate{}, Expires: &jwt.NumericDate{}})
	token.Header["kid"] = keyID(1)
	data, err := json.Marshal(token.Header)
	if h, usual := usualHeader(string(data)); err != nil || !usual || h != (header{"EdDSA", "k1"}) {
		t.Errorf("%s is read as %+v, %v, %v", data, h, usual, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	v := newTestVerifier(b)
	for name, token := range map[string]string{
		"own":   sign(ownHeader(nil), &claims{Issuer: "confab", Audience: []string{"confab"}, Subject: "ada", Session: "s1", ID: "j1", Issued: &jwt.NumericDate{Time: v.now}, Expires: &jwt.NumericDate{Time: v.now.Add(time.Minute)}}, withEd(v.own)),
		"EdDSA": sign(ownHeader(nil), v.ownClaims(nil), withEd(v.own)),
		"HS256": sign(fields{"alg": "HS256"}, v.ownClaims(fields{"iss": sharedIss, "aud": "chat"}), withHMAC([]byte(testSecret))),
		"RS256": sign(fields{"alg": "RS256", "kid": "rsa"}, v.ownClaims(fields{"iss": providerIss, "aud": "chat"}), v.withRSA),
	} {
		for when, before := range map[string]func(){"first": func() { v.proofs = proofs{} }, "again": func() {}} {
			b.Run(name+"/"+when, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					before()
					if _, _, err := v.verify(context.Background(), token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
