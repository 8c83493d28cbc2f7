package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/confab-im/confab/subjects/wire"
)

const (
	saltBytes = 16
	hashBytes = 32

	// collectFrom is the memory of one hash in KiB from which a hash collects its garbage before the next one may begin. argon2 cannot reuse
	// its blocks, and the collector alone would let as much garbage stand as there is live memory: twice the cap.
	collectFrom = 16 << 10

	// busyRetry is what a call is told that found the queue for hashing full.
	busyRetry = time.Second
)

var errBadHash = errors.New("stored password hash is not of a known form")

// hasher hashes passwords with argon2id, a bounded number at a time. It is safe for use by many goroutines.
type hasher struct {
	config PasswordConfig
	slots  chan struct{} // one token a running hash
	queue  chan struct{} // one token a running or waiting hash
}

func newHasher(config PasswordConfig) *hasher {
	return &hasher{
		config: config,
		slots:  make(chan struct{}, config.Concurrent),
		queue:  make(chan struct{}, config.Concurrent+config.Waiting),
	}
}

// parameters are the cost of a hash, as its PHC string says.
type parameters struct {
	memory, passes uint32
	lanes          uint8
}

func (h *hasher) parameters() parameters {
	return parameters{memory: h.config.MemoryKiB, passes: h.config.Passes, lanes: h.config.Lanes}
}

// hash returns the PHC string of a password, or a *wire.Error with RateLimited when too many hashes wait already.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	p := h.parameters()
	sum, err := h.work(ctx, password, salt, p)
	if err != nil {
		return "", err
	}
	return formatPHC(p, salt, sum), nil
}

// verify reports whether the password belongs to a PHC string, and whether it should be hashed again because the parameters changed. An
// empty string stands for an account that does not exist or has no password: the same work is done, and the answer is no. The error
// is a *wire.Error with RateLimited when too many hashes wait already.
func (h *hasher) verify(ctx context.Context, phc, password string) (ok, again bool, err error) {
	p, salt, want := h.parameters(), make([]byte, saltBytes), make([]byte, hashBytes)
	if phc == "" {
		rand.Read(want) // nobody knows a password of this
	} else if p, salt, want, err = parsePHC(phc); err != nil {
		return false, false, err
	}
	sum, err := h.work(ctx, password, salt, p)
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(sum, want) == 1
	return ok && phc != "", ok && p != h.parameters(), nil
}

func (h *hasher) work(ctx context.Context, password string, salt []byte, p parameters) ([]byte, error) {
	if len(password) > wire.MaxPassword {
		return nil, wire.Errorf(wire.BadData, "password must have at most %d bytes.", wire.MaxPassword)
	}
	select {
	case h.queue <- struct{}{}:
		defer func() { <-h.queue }()
	default:
		return nil, wire.RetryAfter(wire.RateLimited, busyRetry, "Too many people sign in at this moment.")
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, wire.RetryAfter(wire.RateLimited, busyRetry, "Too many people sign in at this moment.")
	}
	sum := argon2.IDKey([]byte(password), salt, p.passes, p.memory, p.lanes, hashBytes)
	if p.memory >= collectFrom {
		runtime.GC()
	}
	return sum, nil
}

// formatPHC writes a hash in the PHC string format: $argon2id$v=19$m=65536,t=3,p=1$salt$hash.
func formatPHC(p parameters, salt, sum []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.lanes, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// parsePHC reads what formatPHC wrote. The bounds keep a damaged record from costing more than the configuration could.
func parsePHC(phc string) (p parameters, salt, sum []byte, err error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errBadHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.lanes); n != 3 || err != nil {
		return p, nil, nil, errBadHash
	}
	salt, saltErr := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	sum, sumErr := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if saltErr != nil || sumErr != nil || len(salt) < 8 || len(sum) != hashBytes || formatPHC(p, salt, sum) != phc {
		return p, nil, nil, errBadHash
	}
	if p.memory < 8 || p.memory > maxMemoryKiB || p.passes < 1 || p.passes > maxPasses || p.lanes < 1 || p.lanes > maxLanes {
		return p, nil, nil, errBadHash
	}
	return p, salt, sum, nil
}
