package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

func TestConfigValidate(t *testing.T) {
	good := Issuer{Issuer: "https://a.example", Audience: "chat", Secret: testSecret}
	change := func(f func(*Issuer)) Config {
		i := good
		f(&i)
		return Config{Issuers: []Issuer{i}}
	}
	for name, c := range map[string]struct {
		config Config
		want   string // part of the error; "" = valid
	}{
		"the zero value is valid":              {Config{}, ""},
		"an issuer with a secret":              {Config{Issuers: []Issuer{good}}, ""},
		"https keys":                           {change(func(i *Issuer) { i.Secret, i.KeysURL = "", "https://a.example/keys" }), ""},
		"http keys on loopback":                {change(func(i *Issuer) { i.Secret, i.KeysURL = "", "http://127.0.0.1:8080/keys" }), ""},
		"http keys elsewhere":                  {change(func(i *Issuer) { i.Secret, i.KeysURL = "", "http://a.example/keys" }), "https"},
		"http keys on what looks like it":      {change(func(i *Issuer) { i.Secret, i.KeysURL = "", "http://127.0.0.1.a.example/keys" }), "https"},
		"a file scheme":                        {change(func(i *Issuer) { i.Secret, i.KeysURL = "", "file:///etc/keys" }), "keys_url"},
		"a secret of 31 bytes":                 {change(func(i *Issuer) { i.Secret = Secret(testSecret[:31]) }), "31 bytes"},
		"no source of keys":                    {change(func(i *Issuer) { i.Secret = "" }), "exactly one"},
		"two sources of keys":                  {change(func(i *Issuer) { i.KeysFile = "x" }), "exactly one"},
		"no audience":                          {change(func(i *Issuer) { i.Audience = "" }), "audience"},
		"alg none":                             {change(func(i *Issuer) { i.Algorithms = []string{"none"} }), "none"},
		"an asymmetric algorithm and a secret": {change(func(i *Issuer) { i.Algorithms = []string{"HS256", "RS256"} }), "RS256"},
		"HMAC and a key set":                   {change(func(i *Issuer) { i.Secret, i.KeysFile, i.Algorithms = "", "x", []string{"HS256"} }), "HS256"},
		"confab's own name":                    {change(func(i *Issuer) { i.Issuer = "confab" }), "own"},
		"an issuer twice":                      {Config{Issuers: []Issuer{good, good}}, "twice"},
		"an unknown registration":              {Config{Registration: "maybe"}, "registration"},
		"a token that outlives its session":    {Config{TokenTTL: time.Hour, RefreshTTL: time.Minute}, "refresh-ttl"},
		"a token without end":                  {Config{MaxTokenTTL: 1000 * 24 * time.Hour}, "max-token-ttl"},
		"a negative life":                      {Config{TokenTTL: -time.Hour}, "token-ttl"},
		"too much memory":                      {Config{Password: PasswordConfig{MemoryKiB: 2 << 20}}, "password-memory-kib"},
		"too little memory for the lanes":      {Config{Password: PasswordConfig{MemoryKiB: 8, Lanes: 2}}, "password-memory-kib"},
	} {
		err := c.config.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), testSecret[:20]) {
			t.Errorf("%s: the error holds the secret", name)
		}
	}
	printed := fmt.Sprintf("%v %+v %#v", good, good, good)
	encoded, _ := json.Marshal(good)
	if strings.Contains(printed+string(encoded), testSecret) {
		t.Error("a printed configuration holds the secret")
	}
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content string
		ok      bool
	}{"long": {testSecret + "\n", true}, "short": {testSecret[:31] + "\n\n", false}, "empty": {"", false}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		find, err := Issuer{SecretFile: path}.open(nil)
		if (err == nil) != c.ok {
			t.Fatalf("%s: %v", name, err)
		}
		if c.ok {
			keys, err := find(context.Background(), "", "HS256")
			if err != nil || len(keys) != 1 || string(keys[0].([]byte)) != testSecret {
				t.Errorf("%s: %v, %v", name, keys, err)
			}
		}
	}
	if _, err := (Issuer{SecretFile: filepath.Join(dir, "none")}).open(nil); err == nil {
		t.Error("a missing file was accepted")
	}
}

func b64(b []byte) string { return strings.TrimRight(segment(string(b)), "=") }

// rsaModulus makes one key for all cases of a size: a new one takes a good part of a second.
var rsaModulus = map[int]func() []byte{2048: sync.OnceValue(func() []byte { return newModulus(2048) }), 1024: func() []byte { return newModulus(1024) }}

func newModulus(bits int) []byte {
	key, _ := rsa.GenerateKey(rand.Reader, bits)
	return key.N.Bytes()
}

func rsaKey(bits int, changes fields) fields {
	return fields{"kty": "RSA", "kid": "r", "n": b64(rsaModulus[bits]()), "e": "AQAB"}.with(changes)
}

func edKey(kid string) (fields, ed25519.PrivateKey) {
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	return fields{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(public)}, private
}

func TestParseKeySet(t *testing.T) {
	ec := func(curve elliptic.Curve, name string, changes fields) fields {
		key, _ := ecdsa.GenerateKey(curve, rand.Reader)
		point, _ := key.PublicKey.Bytes()
		size := (len(point) - 1) / 2
		return fields{"kty": "EC", "crv": name, "kid": "e", "x": b64(point[1 : 1+size]), "y": b64(point[1+size:])}.with(changes)
	}
	ed, _ := edKey("o")
	one := big.NewInt(1)
	for name, c := range map[string]struct {
		key  fields
		want string // its algorithms; "" = refused
	}{
		"Ed25519":                       {ed, "EdDSA"},
		"P-256":                         {ec(elliptic.P256(), "P-256", nil), "ES256"},
		"P-384":                         {ec(elliptic.P384(), "P-384", fields{"use": "sig", "key_ops": []string{"verify"}}), "ES384"},
		"RSA 2048":                      {rsaKey(2048, nil), "RS256 RS384 RS512 PS256 PS384 PS512"},
		"RSA bound by alg":              {rsaKey(2048, fields{"alg": "PS256"}), "PS256"},
		"RSA 1024":                      {rsaKey(1024, nil), ""},
		"RSA with exponent 1":           {rsaKey(2048, fields{"e": "AQ"}), ""},
		"RSA with an even exponent":     {rsaKey(2048, fields{"e": "AQAA"}), ""},
		"RSA with an endless exponent":  {rsaKey(2048, fields{"e": "AQABAQABAQAB"}), ""},
		"RSA with a huge modulus":       {rsaKey(2048, fields{"n": b64(new(big.Int).Add(new(big.Int).Lsh(one, 9000), one).Bytes())}), ""},
		"alg of another type":           {rsaKey(2048, fields{"alg": "HS256"}), ""},
		"a key for encryption":          {rsaKey(2048, fields{"use": "enc"}), ""},
		"a point off the curve":         {ec(elliptic.P256(), "P-256", fields{"y": b64(make([]byte, 32))}), ""},
		"a point of another curve":      {ec(elliptic.P384(), "P-256", nil), ""},
		"a short coordinate":            {ec(elliptic.P256(), "P-256", fields{"x": b64(make([]byte, 31))}), ""},
		"P-521":                         {ec(elliptic.P521(), "P-521", nil), ""},
		"a secret":                      {fields{"kty": "oct", "k": segment(testSecret), "alg": "HS256"}, ""},
		"a short Ed25519 key":           {fields{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, ""},
		"an X25519 key":                 {fields{"kty": "OKP", "crv": "X25519", "x": ed["x"]}, ""},
		"only a pointer to certificate": {fields{"kty": "RSA", "x5u": "https://evil.example"}, ""},
	} {
		data, _ := json.Marshal(fields{"keys": []fields{c.key}})
		set, err := parseKeySet(data)
		got := ""
		if err == nil {
			got = strings.Join(set[0].algorithms, " ")
		}
		if got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		both, _ := json.Marshal(fields{"keys": []fields{c.key, ed}})
		if set, err := parseKeySet(both); err != nil || len(set) == 0 {
			t.Errorf("%s beside a good key: %v", name, err)
		}
	}
	for _, bad := range []string{"", "null", "[]", "{}", `{"keys":{}}`, `{"keys":[1]}`, `{"keys":[],"keys":[]}`, `{"keys":[` + strings.Repeat("{},", 64) + `{}]}`} {
		if _, err := parseKeySet([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseKeySet(f *testing.F) {
	ed, _ := edKey("o")
	data, _ := json.Marshal(fields{"keys": []fields{ed, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}})
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := parseKeySet(data)
		if err == nil && (len(set) == 0 || len(set) > maxKeys) {
			t.Fatalf("a set of %d keys", len(set))
		}
	})
}

// keyServer serves a key set that a test changes, and counts who asks.
type keyServer struct {
	*httptest.Server
	mu     sync.Mutex
	keys   []fields
	status int
	asked  atomic.Int32
}

func startKeyServer(t *testing.T) *keyServer {
	k := &keyServer{status: http.StatusOK}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.asked.Add(1)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.status == http.StatusFound {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			k.status = http.StatusOK
			return
		}
		w.WriteHeader(k.status)
		_ = json.NewEncoder(w).Encode(fields{"keys": k.keys})
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) serve(status int, keys ...fields) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status, k.keys = status, keys
}

func TestRemoteKeys(t *testing.T) {
	ctx := context.Background()
	server := startKeyServer(t)
	now := time.Now()
	keys := newRemoteKeys(server.URL, newFetcher(func() time.Time { return now }, slog.New(slog.DiscardHandler)))
	step := func(name string, wait time.Duration, kid string, code wire.Code, asked int32) {
		t.Helper()
		now = now.Add(wait)
		_, err := keys.find(ctx, kid, "EdDSA")
		if err == errUnknownKey {
			err = wire.Errorf(wire.Unauthenticated, "unknown key")
		}
		if wire.CodeOf(err) != code || server.asked.Load() != asked {
			t.Errorf("%s: %v after %d fetches, want %q after %d", name, err, server.asked.Load(), code, asked)
		}
	}
	a, _ := edKey("a")
	b, _ := edKey("b")
	server.serve(http.StatusInternalServerError)
	step("while the issuer is broken", 0, "a", wire.Unavailable, 1)
	step("again at once", 0, "a", wire.Unavailable, 1)
	server.serve(http.StatusOK, a)
	step("when it is well", refetchPause, "a", "", 2)
	step("from memory", refetchPause, "a", "", 2)
	server.serve(http.StatusOK, a, b)
	step("a new key is fetched", refetchPause, "b", "", 3)
	for i := range 50 {
		step("hostile kids cause no traffic", 0, fmt.Sprint("x", i), wire.Unauthenticated, 3)
	}
	step("beyond one in a while", refetchPause, "x", wire.Unauthenticated, 4)
	server.serve(http.StatusOK, b)
	step("an old set serves while it is fetched again", refreshKeys, "a", "", 5)
	step("a key that was withdrawn", refetchPause, "a", wire.Unauthenticated, 6)
	server.serve(http.StatusFound)
	step("a redirect is not followed", refreshKeys, "b", "", 7)
	server.serve(http.StatusInternalServerError)
	step("an old set outlives failures", staleKeys-refreshKeys, "b", "", 8)
	step("for a day", time.Minute+refreshKeys, "b", wire.Unavailable, 9)
}

func TestRemoteKeysAreFetchedOnceByMany(t *testing.T) {
	server := startKeyServer(t)
	a, _ := edKey("a")
	server.serve(http.StatusOK, a)
	keys := newRemoteKeys(server.URL, newFetcher(time.Now, slog.New(slog.DiscardHandler)))
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := keys.find(context.Background(), "a", "EdDSA"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := server.asked.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestRemoteKeysAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(" ", maxKeySet)))
	}))
	t.Cleanup(server.Close)
	f := newFetcher(time.Now, slog.New(slog.DiscardHandler))
	if _, err := f.fetch(context.Background(), server.URL); err == nil || !strings.Contains(err.Error(), "256 KiB") {
		t.Errorf("a set of more than 256 KiB: %v", err)
	}
}
