package auth

import (
	"crypto"
	"crypto/sha256"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// maxProofs is how many tokens a generation of proofs holds; two of them take some 6 MB.
const maxProofs = 32_768

// proofs remembers which tokens were signed with which key, since the check of a signature costs more than all else about a token and a client shows the same one whenever it
// comes back. Only that is remembered: whether the key is still accepted, the claims hold and the session goes on is looked at each time. What was remembered longest ago is forgotten first.
type proofs struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]publicHalf // by the hash of the whole token
}

// publicHalf is what all public keys of the standard library are. A secret is none: what it signs is checked as fast as it is found.
type publicHalf interface {
	Equal(other crypto.PublicKey) bool
}

// hold reports whether a token is known to be signed with one of the keys.
func (p *proofs) hold(token string, keys []jwt.VerificationKey) bool {
	sum := sha256.Sum256([]byte(token))
	p.mu.Lock()
	defer p.mu.Unlock()
	signer, ok := p.young[sum]
	if !ok {
		if signer, ok = p.old[sum]; !ok {
			return false
		}
		p.keepLocked(sum, signer)
	}
	for _, key := range keys {
		if signer.Equal(key) {
			return true
		}
	}
	return false
}

// keep remembers that a key has signed a token.
func (p *proofs) keep(token string, key jwt.VerificationKey) {
	signer, ok := key.(publicHalf)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keepLocked(sha256.Sum256([]byte(token)), signer)
}

func (p *proofs) keepLocked(sum [sha256.Size]byte, signer publicHalf) {
	if p.young == nil || len(p.young) >= maxProofs {
		p.young, p.old = map[[sha256.Size]byte]publicHalf{}, p.young
	}
	p.young[sum] = signer
}
