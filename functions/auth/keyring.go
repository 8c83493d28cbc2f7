package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	keyLead    = 10 * time.Minute // between the writing of a new key and its first use: by then every instance has read it
	keyReload  = time.Minute      // age at which an instance reads the keys again
	keyPause   = time.Second      // shortest time between two reads that unknown kids cause
	keyTimeout = 2 * time.Second  // of a read while calls wait; they go on with what is in memory
)

const algorithm = "EdDSA"

var errNoSigningKey = errors.New("there is no signing key")

// keyID names the keys by numbers, so that instances that find at once that a new one is due make the same one, and the store takes the first.
func keyID(n int) string { return "k" + strconv.Itoa(n) }

// successor returns the key that is to be made at a time: the first one, or the next once the newest is keyTTL old. Created is when it begins to
// sign, until the next one does; it verifies until the last token that it signed has expired.
func successor(keys []jetstream.SigningKey, now time.Time, keyTTL time.Duration) (jetstream.SigningKey, bool) {
	from, last := now, 0
	for _, key := range keys {
		// The newest by time may not be the last by number where clocks differ; a number that is taken would be refused for ever.
		n, _ := strconv.Atoi(strings.TrimPrefix(key.ID, "k"))
		last = max(last, n)
		from = now.Add(keyLead)
	}
	if len(keys) > 0 && now.Sub(keys[len(keys)-1].Created.Time) < keyTTL {
		return jetstream.SigningKey{}, false
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return jetstream.SigningKey{ID: keyID(last + 1), Algorithm: algorithm, Private: seed, Created: wire.At(from)}, true
}

// outlived returns how many of the oldest keys have no token left that has not expired.
func outlived(keys []jetstream.SigningKey, now time.Time, maxLife time.Duration) int {
	n := 0
	for n+1 < len(keys) && now.Sub(keys[n+1].Created.Time) > maxLife+leeway {
		n++
	}
	return n
}

// keyring holds confab's own keys. All instances read the same records. mu guards the fields below it and is never held while reading.
type keyring struct {
	store           *jetstream.Store
	keyTTL, maxLife time.Duration
	now             func() time.Time
	log             *slog.Logger

	mu      sync.Mutex
	keys    []ringKey // ascending by from
	asked   time.Time // when a read last began
	reading bool
}

// ringKey is a signing key made ready.
type ringKey struct {
	id      string
	from    time.Time
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// refresh reads the keys into memory, after making the one that is due.
func (k *keyring) refresh(ctx context.Context) error {
	for {
		keys, err := k.store.SigningKeys(ctx)
		if err != nil {
			return err
		}
		next, due := successor(keys, k.now(), k.keyTTL)
		if !due {
			old := outlived(keys, k.now(), k.maxLife)
			k.keep(keys[old:])
			return k.erase(ctx, keys[:old])
		}
		_, err = k.store.CreateSigningKey(ctx, next)
		if err != nil && !errors.Is(err, jetstream.ErrExists) {
			return err
		}
		if err == nil {
			k.log.InfoContext(ctx, "signing key made", slog.String("kid", next.ID), slog.Time("from", next.Created.Time))
		}
	}
}

// erase takes the private halves of outlived keys out of the store; what remains keeps their names from being used twice.
func (k *keyring) erase(ctx context.Context, keys []jetstream.SigningKey) error {
	for _, key := range keys {
		if key.Private == nil {
			continue
		}
		retired := wire.At(k.now())
		key.Private, key.Retired = nil, &retired
		if _, err := k.store.UpdateSigningKey(ctx, key); err != nil && !errors.Is(err, jetstream.ErrConflict) {
			return err
		}
	}
	return nil
}

func (k *keyring) keep(keys []jetstream.SigningKey) {
	var ready []ringKey
	for _, key := range keys {
		if key.Algorithm != algorithm || len(key.Private) != ed25519.SeedSize {
			continue
		}
		private := ed25519.NewKeyFromSeed(key.Private)
		ready = append(ready, ringKey{key.ID, key.Created.Time, private, private.Public().(ed25519.PublicKey)})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.asked = ready, k.now()
}

// again refreshes when the last read is older than age. One call at a time does so; it and all others go on with what there is when it fails.
func (k *keyring) again(ctx context.Context, age time.Duration) {
	k.mu.Lock()
	if k.reading || k.now().Sub(k.asked) < age {
		k.mu.Unlock()
		return
	}
	k.reading, k.asked = true, k.now()
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	if err := k.refresh(ctx); err != nil {
		k.log.WarnContext(ctx, "signing keys not read again", slog.Any("err", err))
	}
	k.mu.Lock()
	k.reading = false
	k.mu.Unlock()
}

// find is the keyFinder of confab's own tokens. The kid is compared with what is in memory; an unknown one makes the whole record be read again,
// at most once a second.
func (k *keyring) find(ctx context.Context, kid, _ string) ([]jwt.VerificationKey, error) {
	k.again(ctx, keyReload)
	if key, ok := k.byID(kid); ok {
		return []jwt.VerificationKey{key.public}, nil
	}
	k.again(ctx, keyPause)
	if key, ok := k.byID(kid); ok {
		return []jwt.VerificationKey{key.public}, nil
	}
	return nil, errUnknownKey
}

// has reports whether a key is in memory.
func (k *keyring) has(kid string) bool {
	_, ok := k.byID(kid)
	return ok
}

func (k *keyring) byID(kid string) (ringKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		if key.id == kid {
			return key, true
		}
	}
	return ringKey{}, false
}

// sign returns the token of claims, signed with the newest key whose time has come, and that key's public half.
func (k *keyring) sign(ctx context.Context, c *claims) (string, ed25519.PublicKey, error) {
	k.again(ctx, keyReload)
	key, ok := k.current()
	if !ok {
		return "", nil, errNoSigningKey
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	token.Header["kid"] = key.id
	signed, err := token.SignedString(key.private)
	if err != nil {
		return "", nil, fmt.Errorf("sign a token: %w", err)
	}
	return signed, key.public, nil
}

func (k *keyring) current() (ringKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range slices.Backward(k.keys) {
		if !key.from.After(k.now()) {
			return key, true
		}
	}
	// The clock of whoever wrote the first key is ahead of this one's.
	if len(k.keys) > 0 {
		return k.keys[0], true
	}
	return ringKey{}, false
}

// published returns the public halves of all keys as a JSON Web Key Set.
func (k *keyring) published(ctx context.Context) (json.RawMessage, error) {
	k.again(ctx, keyReload)
	k.mu.Lock()
	defer k.mu.Unlock()
	type published struct {
		Type      string `json:"kty"`
		Curve     string `json:"crv"`
		Algorithm string `json:"alg"`
		Use       string `json:"use"`
		ID        string `json:"kid"`
		X         string `json:"x"`
	}
	set := make([]published, len(k.keys))
	for i, key := range k.keys {
		set[i] = published{"OKP", "Ed25519", algorithm, "sig", key.id, encode64(key.public)}
	}
	return json.Marshal(map[string]any{"keys": set})
}
