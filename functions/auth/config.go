package auth

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/confab-im/confab/subjects"
)

// Registration says who may make an account with auth.register. Operators make accounts with auth.issue whatever it says.
type Registration string

// The ways of registration; the zero value counts as RegistrationInvite, so that nothing is open by oversight.
const (
	RegistrationOpen   Registration = "open"   // anybody
	RegistrationInvite Registration = "invite" // who holds an invite from auth.invite
	RegistrationClosed Registration = "closed" // nobody
)

// Config is the configuration of the function. The zero value works: registration by invite, argon2id with 64 MiB, tokens of 15 minutes.
type Config struct {
	Registration Registration    `conf:"registration" help:"who may register: open, invite or closed; empty = invite"`
	Reserved     []subjects.User `conf:"reserved-users" help:"names that nobody may register, beside the built-in ones"`

	Issuer   string `conf:"token-issuer" help:"iss of confab's own tokens; empty = confab"`
	Audience string `conf:"token-audience" help:"aud of confab's own tokens; empty = confab"`

	// Revocations are kept as long as MaxTokenTTL, which bounds the tokens of outside issuers, too. Each bound is at most 400 days.
	TokenTTL    time.Duration `conf:"token-ttl" help:"life of a token, from 1s to max-token-ttl; 0 = 15m"`
	MaxTokenTTL time.Duration `conf:"max-token-ttl" help:"longest life of a token that is accepted or issued, at most 9600h; 0 = 720h"`
	RefreshTTL  time.Duration `conf:"refresh-ttl" help:"life of a session since its last refresh, at least token-ttl, at most 9600h; 0 = 720h"`
	KeyTTL      time.Duration `conf:"signing-key-ttl" help:"age at which the next signing key takes over, at least 1h; 0 = 720h"`

	Password PasswordConfig

	Failures      int           `conf:"login-failures" help:"failed sign-ins of one account from one address that stop further tries; 0 = 10"`
	FailureWindow time.Duration `conf:"login-failure-window" help:"the time within which failed sign-ins count; 0 = 15m"`

	Issuers []Issuer `conf:"issuers" help:"outside issuers whose tokens are accepted, a list of {issuer, audience, algorithms, keys_url | keys_file | secret_file}"`
}

// PasswordConfig is the work of hashing a password with argon2id, and how much of it goes on at once. Changing MemoryKiB, Passes or Lanes is
// safe: stored passwords are hashed again when their users sign in. Concurrent and Waiting together stay well below the number of
// calls that an instance works on at once, so that sign-ins never keep it from verifying tokens.
type PasswordConfig struct {
	MemoryKiB  uint32 `conf:"password-memory-kib" help:"memory of one hash in KiB, from 8 to 1048576; less than 19456 is for tests; 0 = 65536"`
	Passes     uint32 `conf:"password-passes" help:"passes over the memory, from 1 to 16; 0 = 3"`
	Lanes      uint8  `conf:"password-lanes" help:"parallelism of one hash, from 1 to 16; 0 = 1"`
	Concurrent int    `conf:"password-concurrent" help:"hashes at once, which bounds their memory; 0 = 2"`
	Waiting    int    `conf:"password-waiting" help:"calls that wait for their hash, beyond which rate_limited is answered; 0 = 16"`
}

// Bounds of the configuration.
const (
	maxLife      = 400 * 24 * time.Hour
	minSecret    = 32      // bytes of an HMAC key: the output of SHA-256, as RFC 7518 section 3.2 demands
	maxMemoryKiB = 1 << 20 // 1 GiB
	maxPasses    = 16
	maxLanes     = 16
)

// Validate returns an error that names the first field that is wrong; the zero value is valid. It does not read files or reach out.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Registration != RegistrationOpen && c.Registration != RegistrationInvite && c.Registration != RegistrationClosed:
		return fmt.Errorf("auth: registration %q is none of open, invite, closed", c.Registration)
	case c.MaxTokenTTL < time.Second || c.MaxTokenTTL > maxLife:
		return fmt.Errorf("auth: max-token-ttl %v is not within 1s to %v", c.MaxTokenTTL, maxLife)
	case c.TokenTTL < time.Second || c.TokenTTL > c.MaxTokenTTL:
		return fmt.Errorf("auth: token-ttl %v is not within 1s to max-token-ttl (%v)", c.TokenTTL, c.MaxTokenTTL)
	case c.RefreshTTL < c.TokenTTL || c.RefreshTTL > maxLife:
		return fmt.Errorf("auth: refresh-ttl %v is not within token-ttl (%v) to %v", c.RefreshTTL, c.TokenTTL, maxLife)
	case c.KeyTTL < time.Hour:
		return fmt.Errorf("auth: signing-key-ttl %v is less than 1h", c.KeyTTL)
	case c.Failures < 1 || c.FailureWindow < time.Second:
		return errors.New("auth: login-failures must be at least 1 and login-failure-window at least 1s")
	}
	if err := c.Password.validate(); err != nil {
		return err
	}
	seen := map[string]bool{c.Issuer: true}
	for i, issuer := range c.Issuers {
		if err := issuer.Validate(); err != nil {
			return fmt.Errorf("auth: issuers, number %d: %w", i+1, err)
		}
		if seen[issuer.Issuer] {
			return fmt.Errorf("auth: issuers, number %d: %q is named twice, or is confab's own token-issuer", i+1, issuer.Issuer)
		}
		seen[issuer.Issuer] = true
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Registration = cmp.Or(c.Registration, RegistrationInvite)
	c.Issuer, c.Audience = cmp.Or(c.Issuer, "confab"), cmp.Or(c.Audience, "confab")
	c.TokenTTL = cmp.Or(c.TokenTTL, 15*time.Minute)
	c.MaxTokenTTL = cmp.Or(c.MaxTokenTTL, 30*24*time.Hour)
	c.RefreshTTL = cmp.Or(c.RefreshTTL, 30*24*time.Hour)
	c.KeyTTL = cmp.Or(c.KeyTTL, 30*24*time.Hour)
	c.Failures, c.FailureWindow = cmp.Or(c.Failures, 10), cmp.Or(c.FailureWindow, 15*time.Minute)
	c.Password = c.Password.withDefaults()
	return c
}

func (p PasswordConfig) withDefaults() PasswordConfig {
	p.MemoryKiB, p.Passes, p.Lanes = cmp.Or(p.MemoryKiB, 64<<10), cmp.Or(p.Passes, 3), cmp.Or(p.Lanes, 1)
	p.Concurrent, p.Waiting = cmp.Or(p.Concurrent, 2), cmp.Or(p.Waiting, 16)
	return p
}

func (p PasswordConfig) validate() error {
	switch {
	case p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > maxMemoryKiB:
		return fmt.Errorf("auth: password-memory-kib %d is not within 8 a lane to %d", p.MemoryKiB, maxMemoryKiB)
	case p.Passes > maxPasses || p.Lanes > maxLanes:
		return fmt.Errorf("auth: password-passes and password-lanes must be at most %d and %d", maxPasses, maxLanes)
	case p.Concurrent < 1 || p.Waiting < 0:
		return errors.New("auth: password-concurrent must be at least 1 and password-waiting not negative")
	}
	return nil
}

// Secret is a value that must not appear in logs or printed configurations; only a conversion to string reveals it.
type Secret string

const hidden = "[hidden]"

// String returns a placeholder, so that printing a configuration reveals nothing.
func (s Secret) String() string { return hidden }

// GoString returns a placeholder, also for %#v.
func (s Secret) GoString() string { return hidden }

// LogValue returns a placeholder for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns a placeholder, so that no encoder writes the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
