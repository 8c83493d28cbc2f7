package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/subjects/wire"
)

// TestAProofHoldsForItsTokenAndKeyAlone: a token that was found good is refused once its key is gone or another one, its time is over, or a byte of it differs.
func TestAProofHoldsForItsTokenAndKeyAlone(t *testing.T) {
	v := newTestVerifier(t)
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	keys := []jwt.VerificationKey{public}
	v.addAuthority("confab", "confab", true, []string{"EdDSA"}, func(context.Context, string, string) ([]jwt.VerificationKey, error) {
		if len(keys) == 0 {
			return nil, errUnknownKey
		}
		return keys, nil
	})
	token := sign(ownHeader(nil), v.ownClaims(nil), withEd(private))
	check := func(what string, want wire.Code) {
		t.Helper()
		if _, _, err := v.verify(t.Context(), token); wire.CodeOf(err) != want {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	check("for the first time", "")
	if !v.proofs.hold(token, keys) {
		t.Fatal("no proof is kept")
	}
	check("again", "")
	keys = []jwt.VerificationKey{other, public}
	check("beside another key", "")
	keys = []jwt.VerificationKey{other}
	check("with another key of the same name", wire.Unauthenticated)
	keys = nil
	check("without its key", wire.Unauthenticated)
	keys = []jwt.VerificationKey{public}
	good := token
	token = good[:len(good)-2] + "A" + good[len(good)-1:]
	if token == good {
		token = good[:len(good)-2] + "B" + good[len(good)-1:]
	}
	check("with another signature", wire.Unauthenticated)
	token = good
	check("as it was", "")
	v.now = v.now.Add(time.Hour)
	check("after its time", wire.TokenExpired)
}

// TestSecretsAndWrongSignaturesLeaveNoProof: nobody fills the memory with tokens that no key has signed.
func TestSecretsAndWrongSignaturesLeaveNoProof(t *testing.T) {
	v := newTestVerifier(t)
	for _, token := range []string{
		sign(ownHeader(nil), v.ownClaims(nil), withEd(v.edge)),
		sign(fields{"alg": "HS256"}, v.ownClaims(fields{"iss": sharedIss, "aud": "chat"}), withHMAC([]byte(testSecret))),
	} {
		_, _, _ = v.verify(t.Context(), token)
	}
	if len(v.proofs.young)+len(v.proofs.old) > 0 {
		t.Error("proofs are kept")
	}
}

// TestProofsAreBounded: what was shown lately stays, and what was not goes.
func TestProofsAreBounded(t *testing.T) {
	var p proofs
	key, _, _ := ed25519.GenerateKey(rand.Reader)
	keys := []jwt.VerificationKey{key}
	p.keep("shown again and again", key)
	p.keep("shown once", key)
	for i := range 3 * maxProofs {
		p.keep(fmt.Sprint(i), key)
		if i%1000 == 0 && !p.hold("shown again and again", keys) {
			t.Fatalf("the proof of a token that is in use is forgotten after %d others", i)
		}
	}
	if p.hold("shown once", keys) || len(p.young)+len(p.old) > 2*maxProofs {
		t.Errorf("%d and %d proofs are kept", len(p.young), len(p.old))
	}
}
