package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const secret = "correct horse battery"

// cheap is the least work that argon2id takes.
var cheap = auth.PasswordConfig{MemoryKiB: 8, Passes: 1, Waiting: 1000}

// world is a server with the function on it, and what a test needs to call it.
type world struct {
	t      testing.TB
	server *jetstreamtest.Server
	nc     *nats.Conn
	store  *jetstream.Store
	caller *functions.Caller
}

func newWorld(t testing.TB) *world {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	return &world{t: t, server: server, nc: nc, store: server.StoreOn(t, nc), caller: functionstest.Caller(t, nc)}
}

// start runs an instance and returns when it is up; open registration and cheap hashing unless cfg says otherwise.
func (w *world) start(cfg auth.Config) *functionstest.Instance {
	w.t.Helper()
	return w.startAt(cfg, time.Now)
}

// startAt is start with a clock.
func (w *world) startAt(cfg auth.Config, now func() time.Time) *functionstest.Instance {
	w.t.Helper()
	if cfg.Registration == "" {
		cfg.Registration = auth.RegistrationOpen
	}
	if cfg.Password.MemoryKiB == 0 {
		cfg.Password = cheap
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return functionstest.RunEnv(w.t, functions.Env{NATS: w.nc, Now: now, Log: log}, auth.Function(cfg))
}

// conversations stands in for the function of that name and counts whom it enrols.
func (w *world) conversations() *atomic.Int32 {
	var enrolled atomic.Int32
	functionstest.Run(w.t, w.nc, functions.Function{
		Name: "conversations", Description: "Counts enrolments",
		Methods: []functions.Method{{Name: "enrol", Request: wire.UserQuery{}, Response: wire.Empty{}}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"enrol": functions.Handle(func(context.Context, *functions.Call, *wire.UserQuery) (wire.Empty, error) {
				enrolled.Add(1)
				return wire.Empty{}, nil
			})}, nil
		},
	})
	return &enrolled
}

func call[In, Out any](w *world, from *functions.Call, method subjects.Method, in In) (Out, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return functions.Invoke[In, Out](ctx, w.caller, from, auth.Name, method, in)
}

func (w *world) register(user subjects.User) (wire.Tokens, error) {
	return call[wire.Register, wire.Tokens](w, nil, "register", wire.Register{User: user, Password: secret})
}

func (w *world) mustRegister(user subjects.User) wire.Tokens {
	w.t.Helper()
	tokens, err := w.register(user)
	if err != nil {
		w.t.Fatalf("register %s: %v", user, err)
	}
	return tokens
}

func (w *world) login(user subjects.User, password string) (wire.Tokens, error) {
	return w.loginFrom("192.0.2.1", user, password)
}

func (w *world) loginFrom(address string, user subjects.User, password string) (wire.Tokens, error) {
	return call[wire.Login, wire.Tokens](w, &functions.Call{Address: address}, "login", wire.Login{User: user, Password: password})
}

func (w *world) mustLogin(user subjects.User) wire.Tokens {
	w.t.Helper()
	tokens, err := w.login(user, secret)
	if err != nil {
		w.t.Fatalf("login %s: %v", user, err)
	}
	return tokens
}

func (w *world) refresh(token string) (wire.Tokens, error) {
	return call[wire.Refresh, wire.Tokens](w, nil, "refresh", wire.Refresh{RefreshToken: token})
}

func (w *world) verify(token string) (wire.Identity, error) {
	w.t.Helper()
	identity, err := call[wire.Verify, wire.Identity](w, nil, "verify", wire.Verify{Token: token})
	// What is said of it among others is the same, or nothing.
	many, manyErr := call[wire.Verifications, wire.Verified](w, nil, "verify-many", wire.Verifications{Tokens: []string{"x", token, token}})
	switch {
	case wire.CodeOf(err).Info().Unknown: // the store may be back by now
	case manyErr != nil || len(many.Tokens) != 3 || wire.CodeOf(many.Tokens[0].Error) != wire.Unauthenticated:
		w.t.Errorf("among others: %+v, %v", many, manyErr)
	default:
		for _, one := range many.Tokens[1:] {
			alone := one.Identity == nil && one.Error == nil
			if !alone && (one.Identity != nil) != (err == nil) || one.Error != nil && wire.CodeOf(one.Error) != wire.CodeOf(err) || one.Identity != nil && *one.Identity != identity {
				w.t.Errorf("alone it is %+v, %v, among others %+v", identity, err, one)
			}
		}
	}
	return identity, err
}

func (w *world) identity(token string) wire.Identity {
	w.t.Helper()
	identity, err := w.verify(token)
	if err != nil {
		w.t.Fatalf("verify: %v", err)
	}
	return identity
}

func (w *world) logout(identity wire.Identity, in wire.Logout) error {
	_, err := call[wire.Logout, wire.Empty](w, &functions.Call{User: identity.User, Session: identity.Session}, "logout", in)
	return err
}

// expect fails the test unless err has a code.
func (w *world) expect(what string, code wire.Code, err error) {
	w.t.Helper()
	if wire.CodeOf(err) != code {
		w.t.Errorf("%s: %v, want %q", what, err, code)
	}
}

func TestRegisterLoginRefreshLogout(t *testing.T) {
	w := newWorld(t)
	enrolled := w.conversations()
	w.start(auth.Config{})
	tokens := w.mustRegister("ada")
	if tokens.User != "ada" || tokens.RefreshToken == "" || time.Until(tokens.ExpiresAt.Time) > 15*time.Minute || time.Until(tokens.ExpiresAt.Time) < 14*time.Minute {
		t.Errorf("tokens of a registration: %+v", tokens)
	}
	if profile, err := w.store.User(t.Context(), "ada"); err != nil || !profile.Enrolled || enrolled.Load() != 1 {
		t.Errorf("after the registration: %+v, %v, %d enrolments", profile, err, enrolled.Load())
	}
	first := w.identity(tokens.Token)
	if first.User != "ada" || first.Session == "" || !first.ExpiresAt.Equal(tokens.ExpiresAt.Time) {
		t.Errorf("identity %+v", first)
	}
	second := w.mustLogin("ada")
	if other := w.identity(second.Token); other.Session == first.Session {
		t.Error("two sign-ins share a session")
	}
	next, err := w.refresh(tokens.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if again := w.identity(next.Token); again.Session != first.Session || next.RefreshToken == tokens.RefreshToken {
		t.Errorf("after a refresh: %+v", again)
	}
	w.expect("logout", "", w.logout(first, wire.Logout{}))
	for name, token := range map[string]string{"the first": tokens.Token, "the refreshed": next.Token} {
		_, err := w.verify(token)
		w.expect(name+" token after logout", wire.Unauthenticated, err)
	}
	_, err = w.refresh(next.RefreshToken)
	w.expect("refresh after logout", wire.Unauthenticated, err)
	w.identity(second.Token)
	w.expect("logout again", "", w.logout(first, wire.Logout{}))
	if enrolled.Load() != 1 {
		t.Errorf("%d enrolments", enrolled.Load())
	}
}

func TestRegisterRefuses(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{Reserved: []subjects.User{"ceo"}})
	w.mustRegister("ada")
	for name, c := range map[string]struct {
		in   any
		code wire.Code
	}{
		"a name that is taken":       {wire.Register{User: "ada", Password: secret}, wire.Conflict},
		"a reserved name":            {wire.Register{User: "admin", Password: secret}, wire.Conflict},
		"a name that was configured": {wire.Register{User: "ceo", Password: secret}, wire.Conflict},
		"a short password":           {wire.Register{User: "bob", Password: "1234567"}, wire.BadData},
		"a long password":            {wire.Register{User: "bob", Password: string(make([]byte, 1025))}, wire.BadData},
		"no user":                    {map[string]string{"password": secret}, wire.BadData},
		"a pattern":                  {map[string]string{"user": ">", "password": secret}, wire.BadID},
		"a number for a password":    {map[string]any{"user": "bob", "password": 12345678}, wire.BadData},
	} {
		_, err := call[any, wire.Tokens](w, nil, "register", c.in)
		w.expect(name, c.code, err)
	}
}

func TestOneOfManyRegistersAName(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	w.start(auth.Config{})
	var wins, conflicts atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			_, err := w.register("ada")
			switch wire.CodeOf(err) {
			case "":
				wins.Add(1)
			case wire.Conflict:
				conflicts.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 || conflicts.Load() != 11 {
		t.Errorf("%d registered, %d conflicts", wins.Load(), conflicts.Load())
	}
	w.mustLogin("ada")
}

func TestRegistrationThatStoppedHalfWay(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	// A registration stores the credential first; here it went no further. The hash is that of another account with the same password.
	w.mustRegister("ada")
	credential, err := w.store.Credential(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []subjects.User{"bob", "eve"} {
		if _, err := w.store.CreateCredential(t.Context(), user, jetstream.Credential{Hash: credential.Hash}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.login("bob", secret)
	w.expect("login before it is finished", wire.Unauthenticated, err)
	_, err = call[wire.Register, wire.Tokens](w, nil, "register", wire.Register{User: "eve", Password: "another password"})
	w.expect("somebody else's try to finish it", wire.Conflict, err)
	w.mustRegister("bob")
	w.mustLogin("bob")
}

func TestAccountsWithoutAPasswordCannotBeGivenOne(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	if _, err := call[wire.Issue, wire.Tokens](w, nil, "issue", wire.Issue{User: "bot", Create: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.CreateUser(t.Context(), jetstream.User{User: "bare"}); err != nil {
		t.Fatal(err)
	}
	for _, user := range []subjects.User{"bot", "bare"} {
		_, err := w.register(user)
		w.expect("register "+string(user), wire.Conflict, err)
		_, err = w.login(user, secret)
		w.expect("login as "+string(user), wire.Unauthenticated, err)
	}
}

func TestRegistrationModes(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	closed := w.start(auth.Config{Registration: auth.RegistrationClosed})
	_, err := w.register("ada")
	w.expect("where it is closed", wire.Forbidden, err)
	closed.Stop(t)
	w.start(auth.Config{Registration: auth.RegistrationInvite})
	with := func(user subjects.User, invite string) error {
		_, err := call[wire.Register, wire.Tokens](w, nil, "register", wire.Register{User: user, Password: secret, Invite: invite})
		return err
	}
	w.expect("without an invite", wire.Forbidden, with("ada", ""))
	w.expect("with an invite that never was", wire.Forbidden, with("ada", "x"))
	invited, err := call[wire.Invite, wire.Invited](w, nil, "invite", wire.Invite{Uses: 2})
	if err != nil || time.Until(invited.ExpiresAt.Time) < 6*24*time.Hour {
		t.Fatal(invited, err)
	}
	w.expect("the first use", "", with("ada", invited.Invite))
	w.expect("for a name that is taken", wire.Conflict, with("ada", invited.Invite))
	w.expect("for a name that is reserved", wire.Conflict, with("root", invited.Invite))
	w.expect("the second use", "", with("bob", invited.Invite))
	w.expect("the third use", wire.Forbidden, with("eve", invited.Invite))
	for what, invite := range map[string]string{"none": "", "a made-up one": "x", "a spent one": invited.Invite} {
		w.expect("a name that is taken, with "+what+" for an invite, which must not tell", wire.Forbidden, with("ada", invite))
		w.expect("a name that is reserved, with "+what, wire.Forbidden, with("root", invite))
	}
	for _, bad := range []wire.Invite{{Uses: -1}, {TTLMS: -1}, {TTLMS: 1 << 60}, {Uses: 1 << 30}} {
		_, err = call[wire.Invite, wire.Invited](w, nil, "invite", bad)
		w.expect("an invite out of bounds", wire.BadData, err)
	}
}

func TestRegistrationNeedsNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.start(auth.Config{})
	w.mustRegister("ada")
	profile, err := w.store.User(t.Context(), "ada")
	if err != nil || profile.Enrolled {
		t.Fatalf("without conversations: %+v, %v", profile, err)
	}
	enrolled := w.conversations()
	w.mustLogin("ada")
	if profile, err = w.store.User(t.Context(), "ada"); err != nil || !profile.Enrolled || enrolled.Load() != 1 {
		t.Errorf("after the next sign-in: %+v, %v, %d enrolments", profile, err, enrolled.Load())
	}
}

func TestConfigurationIsCheckedAtTheStart(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]auth.Config{
		"a short secret":    {Issuers: []auth.Issuer{{Issuer: "https://a.example", Audience: "chat", Secret: "short"}}},
		"a missing file":    {Issuers: []auth.Issuer{{Issuer: "https://a.example", Audience: "chat", SecretFile: t.TempDir() + "/none"}}},
		"an unknown choice": {Registration: "perhaps"},
	} {
		err := functions.Run(t.Context(), auth.Function(cfg), functions.Env{NATS: w.nc}, functions.Options{})
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: the instance started: %v", name, err)
		}
	}
}

func wireUser(s string) subjects.User { return subjects.User(s) }
