package auth_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	backend  = "https://backend.example"
	provider = "https://provider.example"
	shared   = "0123456789abcdef0123456789abcdef"
)

// backendToken is a token of the issuer that shares a secret.
func backendToken(t testing.TB, sub string, more jwt.MapClaims) string {
	t.Helper()
	c := jwt.MapClaims{"iss": backend, "aud": "chat", "sub": sub, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range more {
		c[name] = value
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(shared))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func withBackend() auth.Config {
	return auth.Config{Issuers: []auth.Issuer{{Issuer: backend, Audience: "chat", Secret: shared}}}
}

func TestForeignIdentitiesGetHandles(t *testing.T) {
	w := newWorld(t)
	enrolled := w.conversations()
	w.start(withBackend())
	w.mustRegister("ada")
	token := backendToken(t, "auth0|17", jwt.MapClaims{"preferred_username": "Ada", "email": "x@example.org"})
	first := w.identity(token)
	if first.User == "ada" || !strings.HasPrefix(string(first.User), "ada-") || first.Session == "" {
		t.Errorf("the handle of somebody else's name: %+v", first)
	}
	if profile, err := w.store.User(t.Context(), first.User); err != nil || profile.Name != "Ada" || !profile.Enrolled || enrolled.Load() != 2 {
		t.Errorf("%+v, %v, %d enrolments", profile, err, enrolled.Load())
	}
	for name, c := range map[string]struct {
		token string
		want  subjects.User
	}{
		"the same token":                        {token, first.User},
		"the same sub under another name":       {backendToken(t, "auth0|17", jwt.MapClaims{"preferred_username": "Countess"}), first.User},
		"another sub under a free name":         {backendToken(t, "auth0|18", jwt.MapClaims{"preferred_username": "bob"}), "bob"},
		"a sub alone":                           {backendToken(t, "auth0|19af", nil), "19af"},
		"a sub that is a pattern":               {backendToken(t, "*.>", nil), "user"},
		"a reserved name of somebody":           {backendToken(t, "auth0|20", jwt.MapClaims{"email": "admin@example.org"}), ""},
		"a sub with another type of name claim": {backendToken(t, "auth0|21", jwt.MapClaims{"preferred_username": 7, "email": nil}), "user-21"},
	} {
		got := w.identity(c.token).User
		if got != c.want && c.want != "" || got == "admin" {
			t.Errorf("%s: %s", name, got)
		}
	}
	hostile := w.identity(backendToken(t, "auth0|22", jwt.MapClaims{"preferred_username": "eve\x1b[2J\n"}))
	if profile, err := w.store.User(t.Context(), hostile.User); err != nil || profile.Name != "" {
		t.Errorf("a name with control characters is shown: %+v, %v", profile, err)
	}
	_, err := w.register("bob")
	w.expect("register a foreign user's handle", wire.Conflict, err)
	_, err = w.login("bob", secret)
	w.expect("sign in to it", wire.Unauthenticated, err)
}

func TestForeignIdentityHasOneAccountWhoeverSeesItFirst(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	for range 3 {
		w.start(withBackend())
	}
	for i := range 5 {
		name := fmt.Sprint("user", i)
		var users sync.Map
		var wg sync.WaitGroup
		for j := range 9 {
			wg.Go(func() {
				token := backendToken(t, "auth0|"+name, jwt.MapClaims{"preferred_username": name, "jti": fmt.Sprint(j)})
				identity, err := w.verify(token)
				if err != nil {
					t.Error(err)
				}
				users.Store(identity.User, true)
			})
		}
		wg.Wait()
		users.Range(func(user, _ any) bool {
			if user != subjects.User(name) {
				t.Errorf("%s is %s", name, user)
			}
			return true
		})
	}
}

func TestForeignSessionsEnd(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(withBackend())
	w.start(withBackend())
	token := func(more jwt.MapClaims) string { return backendToken(t, "17", more) }
	a, again, b := token(jwt.MapClaims{"sid": "a", "jti": "1"}), token(jwt.MapClaims{"sid": "a", "jti": "2"}), token(jwt.MapClaims{"sid": "b"})
	c, d := token(jwt.MapClaims{"jti": "3"}), token(jwt.MapClaims{"jti": "4"})
	if w.identity(a).Session != w.identity(again).Session || w.identity(a).Session == w.identity(b).Session || w.identity(c).Session == w.identity(d).Session {
		t.Error("sessions are not told apart by sid, then by jti")
	}
	w.expect("logout", "", w.logout(w.identity(a), wire.Logout{}))
	for _, ended := range []string{a, again} {
		_, err := w.verify(ended)
		w.expect("a token of the session", wire.Unauthenticated, err)
	}
	w.identity(b)
	w.expect("logout of all", "", w.logout(w.identity(c), wire.Logout{All: true}))
	for _, ended := range []string{b, c, d} {
		_, err := w.verify(ended)
		w.expect("a token issued before", wire.Unauthenticated, err)
	}
	w.identity(token(jwt.MapClaims{"jti": "5", "iat": time.Now().Unix() + 2}))
}

func TestForeignKeysBehindAURLAndInAFile(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"p1","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			rw.WriteHeader(http.StatusBadGateway)
		}
		_, _ = rw.Write([]byte(set))
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	token := func(iss, kid string) string {
		c := jwt.MapClaims{"iss": iss, "aud": []string{"other", "chat"}, "sub": "17", "email": "eve@example.org", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
		unsigned.Header["kid"] = kid
		signed, err := unsigned.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	w := newWorld(t)
	w.conversations()
	cfg := auth.Config{Issuers: []auth.Issuer{
		{Issuer: provider, Audience: "chat", KeysURL: server.URL},
		{Issuer: backend, Audience: "chat", KeysFile: file},
	}}
	down.Store(true)
	in := w.start(cfg) // an issuer that is away keeps nobody else from signing in
	_, err = w.verify(token(provider, "p1"))
	w.expect("while the issuer is away", wire.Unavailable, err)
	fromFile := w.identity(token(backend, "p1"))
	down.Store(false)
	in.Stop(t)
	w.start(cfg)
	fromURL := w.identity(token(provider, "p1"))
	if fromURL.User == fromFile.User || fromFile.User != "eve" {
		t.Errorf("two issuers' users: %s, %s", fromFile.User, fromURL.User)
	}
	_, err = w.verify(token(provider, "p2"))
	w.expect("an unknown key", wire.Unauthenticated, err)
}

// TestNothingSecretIsLogged lets everything happen at the most talkative level, and looks for what must not be there.
func TestNothingSecretIsLogged(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	var log lockedBuffer
	handler := slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 8})
	cfg := withBackend()
	cfg.Registration, cfg.Password = auth.RegistrationInvite, cheap
	in := functionstest.RunEnv(t, functions.Env{NATS: w.nc, Log: slog.New(handler)}, auth.Function(cfg))
	var canaries []string
	keep := func(values ...string) {
		for _, v := range values {
			canaries = append(canaries, v)
			canaries = append(canaries, strings.Split(v, ".")...)
		}
	}
	invited, err := call[wire.Invite, wire.Invited](w, nil, "invite", wire.Invite{})
	if err != nil {
		t.Fatal(err)
	}
	const password, wrong = "canary-in-a-coal-mine", "canary-that-flew-away"
	tokens, err := call[wire.Register, wire.Tokens](w, nil, "register", wire.Register{User: "ada", Password: password, Invite: invited.Invite})
	if err != nil {
		t.Fatal(err)
	}
	next, err := w.refresh(tokens.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	foreign := backendToken(t, "17", nil)
	identity := w.identity(next.Token)
	w.identity(foreign)
	_, _ = w.login("ada", wrong)
	_, _ = w.login("ada", password)
	_, _ = w.verify(next.Token + "x")
	_, _ = w.verify(strings.ToUpper(foreign))
	_, _ = w.verify("canary-no-token")
	_, _ = w.refresh(tokens.RefreshToken)
	_, _ = w.refresh("canary.no.refresh.token")
	_, _ = call[any, any](w, nil, "login", map[string]any{"user": "canary*bad", "password": 5})
	_, _ = call[wire.Register, wire.Tokens](w, nil, "register", wire.Register{User: "bob", Password: password, Invite: "canary-invite"})
	_ = w.logout(identity, wire.Logout{All: true})
	_, _ = w.verify(next.Token)
	credential, err := w.store.Credential(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	in.Stop(t)
	keep(password, wrong, invited.Invite, foreign, next.Token, credential.Hash, shared, "canary")
	for _, refresh := range []string{tokens.RefreshToken, next.RefreshToken} {
		parts := strings.Split(refresh, ".")
		keep(parts[2], parts[3]) // what proves; the user and the session before it are no secrets
	}
	text := log.String()
	for _, canary := range canaries {
		if len(canary) > 5 && strings.Contains(text, canary) {
			t.Errorf("%q is in the log", canary)
		}
	}
	if !strings.Contains(text, "account registered") {
		t.Error("the log was not captured")
	}
}

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// BenchmarkCalls measures whole calls over a real server: from the caller through NATS and the store, and back.
func BenchmarkCalls(b *testing.B) {
	w := newWorld(b)
	w.conversations()
	w.start(withBackend())
	tokens := w.mustRegister("ada")
	foreign := backendToken(b, "17", nil)
	for name, run := range map[string]func() error{
		"verify":         func() error { _, err := w.verify(tokens.Token); return err },
		"verify-foreign": func() error { _, err := w.verify(foreign); return err },
		"verify-garbage": func() error {
			if _, err := w.verify("a.b.c"); wire.CodeOf(err) != wire.Unauthenticated {
				return err
			}
			return nil
		},
		"revoked": func() error {
			_, err := call[wire.RevocationsQuery, wire.Revocations](w, nil, "revoked", wire.RevocationsQuery{})
			return err
		},
		"refresh": func() (err error) { tokens, err = w.refresh(tokens.RefreshToken); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("verify-parallel", func(b *testing.B) {
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := w.verify(tokens.Token); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkPassword measures a sign-in with the parameters of the product.
func BenchmarkPassword(b *testing.B) {
	w := newWorld(b)
	w.conversations()
	functionstest.RunEnv(b, functions.Env{NATS: w.nc, Log: slog.New(slog.DiscardHandler)}, auth.Function(auth.Config{Registration: auth.RegistrationOpen}))
	w.mustRegister("ada")
	for b.Loop() {
		if _, err := w.login("ada", secret); err != nil {
			b.Fatal(err)
		}
	}
}
