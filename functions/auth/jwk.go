package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxKeys    = 64 // in one set
	maxKeyID   = 256
	minRSABits = 2048
	maxRSABits = 8192 // the time to verify grows with the square of the size
)

var errNoKeys = errors.New("no usable key in the set")

// publicKey is one key of an issuer, bound to the algorithms that it may be used with.
type publicKey struct {
	id         string
	algorithms []string
	key        crypto.PublicKey
}

// keySet is what an issuer publishes.
type keySet []publicKey

// find returns the keys that a token with this kid and algorithm may be signed with. A token without kid passes only where one key alone fits.
func (s keySet) find(kid, algorithm string) ([]jwt.VerificationKey, error) {
	var found []jwt.VerificationKey
	for _, k := range s {
		if (kid == "" || k.id == kid) && slices.Contains(k.algorithms, algorithm) {
			found = append(found, k.key)
		}
	}
	if len(found) == 0 || kid == "" && len(found) > 1 {
		return nil, errUnknownKey
	}
	return found, nil
}

// jsonWebKey is what is read of a JSON Web Key (RFC 7517). Parameters that point elsewhere, such as x5u, are not even read.
type jsonWebKey struct {
	Type      string   `json:"kty"`
	ID        string   `json:"kid"`
	Algorithm string   `json:"alg"`
	Use       string   `json:"use"`
	Uses      []string `json:"key_ops"`
	Curve     string   `json:"crv"`
	X         string   `json:"x"`
	Y         string   `json:"y"`
	N         string   `json:"n"`
	E         string   `json:"e"`
}

// parseKeySet reads a JSON Web Key Set. Keys of other types, for other uses or too weak are left out, as RFC 7517 section 5 wants; a set
// without any usable key is an error.
func parseKeySet(data []byte) (keySet, error) {
	fields, err := object(data)
	if err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(fields["keys"], &raws); err != nil || len(raws) > maxKeys {
		return nil, fmt.Errorf("read key set: keys must be an array of at most %d", maxKeys)
	}
	var set keySet
	var unusable error
	for _, raw := range raws {
		var k jsonWebKey
		if err := json.Unmarshal(raw, &k); err != nil {
			unusable = fmt.Errorf("read key: %w", err)
		} else if key, err := k.publicKey(); err != nil {
			unusable = err
		} else {
			set = append(set, key)
		}
	}
	if len(set) == 0 {
		return nil, errors.Join(errNoKeys, unusable)
	}
	return set, nil
}

func (k jsonWebKey) publicKey() (publicKey, error) {
	if len(k.ID) > maxKeyID || k.Use != "" && k.Use != "sig" || len(k.Uses) > 0 && !slices.Contains(k.Uses, "verify") {
		return publicKey{}, errors.New("the key is not for verifying signatures")
	}
	key, fits, err := k.material()
	if err != nil {
		return publicKey{}, err
	}
	if k.Algorithm != "" {
		if !slices.Contains(fits, k.Algorithm) {
			return publicKey{}, errors.New("the key's alg does not fit its type")
		}
		fits = []string{k.Algorithm}
	}
	return publicKey{id: k.ID, algorithms: fits, key: key}, nil
}

// material returns the key itself and the algorithms of its type.
func (k jsonWebKey) material() (crypto.PublicKey, []string, error) {
	switch {
	case k.Type == "OKP" && k.Curve == "Ed25519":
		x, err := decode64(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, nil, errors.New("the Ed25519 key is malformed")
		}
		return ed25519.PublicKey(x), []string{"EdDSA"}, nil
	case k.Type == "EC" && k.Curve == "P-256":
		key, err := k.curvePoint(elliptic.P256(), 32)
		return key, []string{"ES256"}, err
	case k.Type == "EC" && k.Curve == "P-384":
		key, err := k.curvePoint(elliptic.P384(), 48)
		return key, []string{"ES384"}, err
	case k.Type == "RSA":
		key, err := k.rsa()
		return key, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, err
	}
	return nil, nil, errors.New("the key is of a type that is not supported")
}

func (k jsonWebKey) curvePoint(curve elliptic.Curve, size int) (*ecdsa.PublicKey, error) {
	x, errX := decode64(k.X)
	y, errY := decode64(k.Y)
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return nil, errors.New("the EC key is malformed")
	}
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
}

func (k jsonWebKey) rsa() (*rsa.PublicKey, error) {
	nBytes, errN := decode64(k.N)
	eBytes, errE := decode64(k.E)
	if errN != nil || errE != nil || len(eBytes) > 4 {
		return nil, errors.New("the RSA key is malformed")
	}
	n, e := new(big.Int).SetBytes(nBytes), new(big.Int).SetBytes(eBytes).Int64()
	if n.BitLen() < minRSABits || n.BitLen() > maxRSABits || e < 3 || e > 1<<31-1 || e%2 == 0 || n.Bit(0) == 0 {
		return nil, fmt.Errorf("the RSA key must have %d to %d bits and an odd exponent from 3", minRSABits, maxRSABits)
	}
	return &rsa.PublicKey{N: n, E: int(e)}, nil
}

func decode64(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
