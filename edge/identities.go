package edge

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of what is remembered of tokens and revocations.
const (
	maxIdentities = 10_000           // beyond it any is forgotten
	identityAge   = 60 * time.Second // after that a token is verified anew
	verifyWithin  = 5 * time.Second
)

// identities remembers whose a verified token is, by the token's hash, and which sessions were revoked of late, so that an answer that
// was under way during the revocation does not outlive it.
type identities struct {
	mu      sync.Mutex
	known   map[[sha256.Size]byte]identity
	revoked []revocation
}

type identity struct {
	wire.Identity
	until time.Time
}

type revocation struct {
	wire.Revocation
	at time.Time
}

// ends reports whether a revocation ends a session.
func ends(r wire.Revocation, user subjects.User, session string, issued time.Time) bool {
	switch {
	case r.User != user:
		return false
	case r.Session != "":
		return r.Session == session
	}
	return r.Before == nil || issued.Before(r.Before.Time)
}

// verify returns whose the token is: from memory, or as auth.verify says. The error is a *wire.Error.
func (e *Edge) verify(ctx context.Context, token string) (wire.Identity, error) {
	if token == "" {
		return wire.Identity{}, wire.Errorf(wire.Unauthenticated, "There is no token.")
	}
	if len(token) > wire.MaxToken {
		return wire.Identity{}, wire.Errorf(wire.Unauthenticated, "The token has more than %d bytes.", wire.MaxToken)
	}
	hash := sha256.Sum256([]byte(token))
	if id, ok := e.identities.find(hash, e.cfg.Now()); ok {
		return id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	began := e.cfg.Now()
	id, err := e.identityOf(ctx, token)
	if err != nil {
		return wire.Identity{}, err
	}
	if _, err := subjects.ParseUser(string(id.User)); err != nil {
		return wire.Identity{}, wire.Errorf(wire.Internal, "The token's user is not of the allowed form.")
	}
	if e.identities.isRevoked(id) {
		return wire.Identity{}, wire.Errorf(wire.Unauthenticated, "The session was revoked.")
	}
	e.identities.keep(hash, id, began)
	return id, nil
}

func (i *identities) find(hash [sha256.Size]byte, now time.Time) (wire.Identity, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id, ok := i.known[hash]
	if ok && !now.Before(id.until) {
		delete(i.known, hash)
		return wire.Identity{}, false
	}
	return id.Identity, ok
}

// isKnown reports whether a token needs no call to auth.
func (i *identities) isKnown(token string, now time.Time) bool {
	_, ok := i.find(sha256.Sum256([]byte(token)), now)
	return ok
}

func (i *identities) keep(hash [sha256.Size]byte, id wire.Identity, began time.Time) {
	until := began.Add(identityAge)
	if id.ExpiresAt.Before(until) {
		until = id.ExpiresAt.Time
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.known) >= maxIdentities {
		for other := range i.known {
			delete(i.known, other)
			break
		}
	}
	i.known[hash] = identity{id, until}
}

// sweep forgets what is too old, and gives the space back when nothing is left.
func (i *identities) sweep(now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.DeleteFunc(i.known, func(_ [sha256.Size]byte, id identity) bool { return !now.Before(id.until) })
	if len(i.known) == 0 {
		i.known = map[[sha256.Size]byte]identity{} // a map that is emptied keeps its space
	}
}

// isRevoked reports whether one of the latest revocations ends the session.
func (i *identities) isRevoked(id wire.Identity) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.ContainsFunc(i.revoked, func(r revocation) bool {
		return ends(r.Revocation, id.User, id.Session, id.IssuedAt.Time)
	})
}

// revoke forgets the tokens that a revocation ends, and remembers it for as long as an answer of auth from before can be under way.
func (i *identities) revoke(r wire.Revocation, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for hash, id := range i.known {
		if ends(r, id.User, id.Session, id.IssuedAt.Time) {
			delete(i.known, hash)
		}
	}
	i.revoked = slices.DeleteFunc(i.revoked, func(old revocation) bool { return now.Sub(old.at) >= identityAge })
	i.revoked = append(i.revoked, revocation{r, now})
}
