package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Issuer is an outside issuer whose tokens are accepted beside confab's own: an OpenID provider with a key set, or a backend that shares a
// secret. Exactly one of KeysFile, KeysURL, Secret and SecretFile is set. The names in a configuration file are those of the tags.
type Issuer struct {
	Issuer     string   `yaml:"issuer" json:"issuer"`         // iss, compared byte for byte
	Audience   string   `yaml:"audience" json:"audience"`     // aud that its tokens must name
	Algorithms []string `yaml:"algorithms" json:"algorithms"` // accepted of it; empty = HS256 with a secret; EdDSA, ES256, ES384, RS256 with keys

	KeysFile string `yaml:"keys_file" json:"keys_file"` // a JSON Web Key Set, read when the instance starts
	KeysURL  string `yaml:"keys_url" json:"keys_url"`   // a JSON Web Key Set behind https, or http on loopback

	Secret     Secret `yaml:"secret" json:"secret"`           // HMAC key of at least 32 bytes
	SecretFile string `yaml:"secret_file" json:"secret_file"` // a file with it; white space at its end does not count
}

var (
	symmetric  = []string{"HS256", "HS384", "HS512"}
	asymmetric = []string{"EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
)

// Validate returns an error that names the first field that is wrong. It reads no file; the function does when it starts, and does not
// start when a secret in a file is too short.
func (i Issuer) Validate() error {
	if i.Issuer == "" || i.Audience == "" {
		return errors.New("issuer and audience are both needed")
	}
	sources := 0
	for _, s := range []string{i.KeysFile, i.KeysURL, string(i.Secret), i.SecretFile} {
		if s != "" {
			sources++
		}
	}
	if sources != 1 {
		return errors.New("exactly one of keys_file, keys_url, secret and secret_file is needed")
	}
	if i.Secret != "" && len(i.Secret) < minSecret {
		return shortSecret(len(i.Secret))
	}
	known := asymmetric
	if i.shared() {
		known = symmetric
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(known, a) {
			return fmt.Errorf("algorithm %q is none of %s", a, strings.Join(known, ", "))
		}
	}
	if i.KeysURL != "" {
		return validKeysURL(i.KeysURL)
	}
	return nil
}

func shortSecret(n int) error {
	return fmt.Errorf("an HMAC secret of %d bytes is shorter than %d", n, minSecret)
}

// shared reports whether tokens are signed with a secret that both sides hold.
func (i Issuer) shared() bool { return i.Secret != "" || i.SecretFile != "" }

// algorithms returns what the issuer's tokens may be signed with. It never mixes secrets and keys: a public key is no HMAC secret.
func (i Issuer) algorithms() []string {
	switch {
	case len(i.Algorithms) > 0:
		return slices.Clone(i.Algorithms)
	case i.shared():
		return []string{"HS256"}
	}
	return []string{"EdDSA", "ES256", "ES384", "RS256"}
}

// validKeysURL accepts https, and http where it does not leave the machine.
func validKeysURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("keys_url is not an absolute URL without user and password")
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return errors.New("keys_url must begin with https://, or with http:// on loopback")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// open reads the issuer's files and returns what finds its keys.
func (i Issuer) open(fetch *fetcher) (keyFinder, error) {
	if i.shared() {
		return i.openSecret()
	}
	if i.KeysURL != "" {
		return newRemoteKeys(i.KeysURL, fetch).find, nil
	}
	data, err := os.ReadFile(i.KeysFile)
	if err != nil {
		return nil, fmt.Errorf("read the keys of an issuer: %w", err)
	}
	set, err := parseKeySet(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", i.KeysFile, err)
	}
	return func(_ context.Context, kid, algorithm string) ([]jwt.VerificationKey, error) {
		return set.find(kid, algorithm)
	}, nil
}

func (i Issuer) openSecret() (keyFinder, error) {
	secret := []byte(i.Secret)
	if i.SecretFile != "" {
		data, err := os.ReadFile(i.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("read the secret of an issuer: %w", err)
		}
		if secret = []byte(strings.TrimRight(string(data), " \t\r\n")); len(secret) < minSecret {
			return nil, fmt.Errorf("read %s: %w", i.SecretFile, shortSecret(len(secret)))
		}
	}
	// There is one secret, so kid says nothing.
	return func(context.Context, string, string) ([]jwt.VerificationKey, error) {
		return []jwt.VerificationKey{secret}, nil
	}, nil
}
