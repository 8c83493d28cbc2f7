package auth

import (
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
	Registration Registration    // who may register; empty = invite
	Reserved     []subjects.User // names that nobody may register, beside the built-in ones

	Issuer   string // iss of confab's own tokens; empty = "confab"
	Audience string // aud of confab's own tokens; empty = "confab"

	TokenTTL    time.Duration // life of a token, 1 s to MaxTokenTTL; 0 = 15 minutes
	MaxTokenTTL time.Duration // longest life of any token that is accepted or issued, at most 400 days; 0 = 30 days. Revocations are kept as long
	RefreshTTL  time.Duration // life of a refresh token since its last use, at least TokenTTL, at most 400 days; 0 = 30 days
	KeyTTL      time.Duration // age at which a new signing key takes over, at least 1 hour; 0 = 30 days

	Password PasswordConfig

	Failures      int           // failed sign-ins of one account from one address within FailureWindow that stop further tries; 0 = 10
	FailureWindow time.Duration // 0 = 15 minutes

	Issuers []Issuer // outside issuers whose tokens are accepted
}

// PasswordConfig is the work of hashing a password with argon2id, and how much of it goes on at once. Changing Memory, Passes or Lanes is safe:
// stored passwords are hashed again when their users sign in.
type PasswordConfig struct {
	MemoryKiB  uint32 // memory of one hash in KiB, 8 to 1,048,576; 0 = 65,536 (64 MiB). Below 19,456 is for tests only
	Passes     uint32 // passes over the memory, 1 to 16; 0 = 3
	Lanes      uint8  // degree of parallelism, 1 to 16; 0 = 1
	Concurrent int    // hashes at once, which bounds the memory to Concurrent × MemoryKiB; 0 = 2
	Waiting    int    // calls that wait for their turn; the rest is answered rate_limited; 0 = 16
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
		return fmt.Errorf("auth: Registration %q is none of open, invite, closed", c.Registration)
	case c.MaxTokenTTL < time.Second || c.MaxTokenTTL > maxLife:
		return fmt.Errorf("auth: MaxTokenTTL %v is not within 1s to %v", c.MaxTokenTTL, maxLife)
	case c.TokenTTL < time.Second || c.TokenTTL > c.MaxTokenTTL:
		return fmt.Errorf("auth: TokenTTL %v is not within 1s to MaxTokenTTL (%v)", c.TokenTTL, c.MaxTokenTTL)
	case c.RefreshTTL < c.TokenTTL || c.RefreshTTL > maxLife:
		return fmt.Errorf("auth: RefreshTTL %v is not within TokenTTL (%v) to %v", c.RefreshTTL, c.TokenTTL, maxLife)
	case c.KeyTTL < time.Hour:
		return fmt.Errorf("auth: KeyTTL %v is less than 1h", c.KeyTTL)
	case c.Failures < 1 || c.FailureWindow < time.Second:
		return errors.New("auth: Failures must be at least 1 and FailureWindow at least 1s")
	}
	if err := c.Password.validate(); err != nil {
		return err
	}
	seen := map[string]bool{c.Issuer: true}
	for i, issuer := range c.Issuers {
		if err := issuer.Validate(); err != nil {
			return fmt.Errorf("auth: Issuers[%d]: %w", i, err)
		}
		if seen[issuer.Issuer] {
			return fmt.Errorf("auth: Issuers[%d]: %q is named twice, or is confab's own Issuer", i, issuer.Issuer)
		}
		seen[issuer.Issuer] = true
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Registration = or(c.Registration, RegistrationInvite)
	c.Issuer, c.Audience = or(c.Issuer, "confab"), or(c.Audience, "confab")
	c.TokenTTL = or(c.TokenTTL, 15*time.Minute)
	c.MaxTokenTTL = or(c.MaxTokenTTL, 30*24*time.Hour)
	c.RefreshTTL = or(c.RefreshTTL, 30*24*time.Hour)
	c.KeyTTL = or(c.KeyTTL, 30*24*time.Hour)
	c.Failures, c.FailureWindow = or(c.Failures, 10), or(c.FailureWindow, 15*time.Minute)
	c.Password = c.Password.withDefaults()
	return c
}

func (p PasswordConfig) withDefaults() PasswordConfig {
	p.MemoryKiB, p.Passes, p.Lanes = or(p.MemoryKiB, 64<<10), or(p.Passes, 3), or(p.Lanes, 1)
	p.Concurrent, p.Waiting = or(p.Concurrent, 2), or(p.Waiting, 16)
	return p
}

func (p PasswordConfig) validate() error {
	switch {
	case p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > maxMemoryKiB:
		return fmt.Errorf("auth: Password.MemoryKiB %d is not within 8 a lane to %d", p.MemoryKiB, maxMemoryKiB)
	case p.Passes > maxPasses || p.Lanes > maxLanes:
		return fmt.Errorf("auth: Password.Passes and Password.Lanes must be at most %d and %d", maxPasses, maxLanes)
	case p.Concurrent < 1 || p.Waiting < 0:
		return errors.New("auth: Password.Concurrent must be at least 1 and Password.Waiting not negative")
	}
	return nil
}

// or returns v, or otherwise when v is the zero value.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
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
