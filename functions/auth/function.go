package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Name is the name of the function.
const Name subjects.Function = "auth"

// hashing is the timeout of methods that hash a password: the turn of the last that waits, and the enrolment, fit in.
const hashing = 10 * time.Second

// methods is the one place that says what the function answers, and to whom.
var methods = []functions.Method{
	{Name: "register", Description: "Make an account and sign it in", Public: true, Anonymous: true, Timeout: hashing, Request: wire.Register{}, Response: wire.Tokens{}},
	{Name: "login", Description: "Sign in with a password", Public: true, Anonymous: true, Timeout: hashing, Request: wire.Login{}, Response: wire.Tokens{}},
	{Name: "refresh", Description: "Exchange a refresh token for new tokens", Public: true, Anonymous: true, Request: wire.Refresh{}, Response: wire.Tokens{}},
	{Name: "logout", Description: "End a session, or all of a user", Public: true, Idempotent: true, Request: wire.Logout{}, Response: wire.Empty{}},
	{Name: "verify", Description: "Say whose token it is", Idempotent: true, Request: wire.Verify{}, Response: wire.Identity{}},
	{Name: "verify-many", Description: "Say whose tokens they are", Idempotent: true, Request: wire.Verifications{}, Response: wire.Verified{}},
	{Name: "revoked", Description: "List what was revoked since a revision", Idempotent: true, Passive: true, Request: wire.RevocationsQuery{}, Response: wire.Revocations{}},
	{Name: "issue", Description: "Make tokens without a password", Request: wire.Issue{}, Response: wire.Tokens{}},
	{Name: "invite", Description: "Let people register", Request: wire.Invite{}, Response: wire.Invited{}},
	{Name: "keys", Description: "Show the public keys of tokens", Idempotent: true, Passive: true, Request: wire.Empty{}, Response: json.RawMessage{}},
}

// Function returns the function. Its instances do not start when the configuration is not valid or a file that it names cannot be read.
func Function(cfg Config) functions.Function {
	return functions.Function{
		Name:        Name,
		Description: "Accounts, tokens, sessions",
		Methods:     methods,
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			s, err := newService(ctx, cfg, env)
			if err != nil {
				return nil, err
			}
			return s.handlers(), nil
		},
	}
}

// service is one instance of the function.
type service struct {
	config      Config
	nats        *nats.Conn
	store       *jetstream.Store
	caller      *functions.Caller
	now         func() time.Time
	log         *slog.Logger
	hasher      *hasher
	failures    *failures
	keys        *keyring
	verifier    *verifier
	revocations *revocations
	identities  identities
}

func newService(ctx context.Context, cfg Config, env functions.Env) (*service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	store, err := jetstream.Open(ctx, env.NATS)
	if err != nil {
		return nil, err
	}
	s := &service{
		config: cfg, nats: env.NATS, store: store, caller: env.Caller, now: env.Now, log: env.Log,
		hasher:   newHasher(cfg.Password),
		failures: newFailures(cfg.Failures, cfg.FailureWindow, env.Now),
		keys:     &keyring{store: store, keyTTL: cfg.KeyTTL, maxLife: cfg.MaxTokenTTL, now: env.Now, log: env.Log},
		verifier: newVerifier(cfg.MaxTokenTTL, env.Now, env.Log),
	}
	if err := s.start(ctx); err != nil {
		store.Close()
		return nil, err
	}
	context.AfterFunc(ctx, store.Close)
	return s, nil
}

func (s *service) start(ctx context.Context) error {
	fetch := newFetcher(s.now, s.log)
	for _, issuer := range s.config.Issuers {
		find, err := issuer.open(fetch)
		if err != nil {
			return fmt.Errorf("open issuer %s: %w", issuer.Issuer, err)
		}
		s.verifier.addAuthority(issuer.Issuer, issuer.Audience, false, issuer.algorithms(), find)
	}
	if err := untilAvailable(ctx, func() error { return s.keys.refresh(ctx) }); err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	s.verifier.addAuthority(s.config.Issuer, s.config.Audience, true, []string{"EdDSA"}, s.keys.find)
	var known *jetstream.Revocations
	if err := untilAvailable(ctx, func() (err error) { known, err = s.store.Revocations(ctx); return err }); err != nil {
		return fmt.Errorf("read the revocations: %w", err)
	}
	s.revocations = &revocations{Revocations: known}
	return nil
}

// storePause is how long a start waits until it asks a store again that is not there.
const storePause = 200 * time.Millisecond

// untilAvailable repeats what reads the store until there is one, or ctx ends: servers that were all started anew need some seconds to agree on who leads, and an instance that gives up meanwhile
// counts as one that does not start.
func untilAvailable(ctx context.Context, read func() error) error {
	for {
		err := read()
		if !errors.Is(err, jetstream.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(storePause):
		case <-ctx.Done():
			return err
		}
	}
}

func (s *service) handlers() functions.Handlers {
	return functions.Handlers{
		"register":    functions.Handle(s.register),
		"login":       functions.Handle(s.login),
		"refresh":     functions.Handle(s.refresh),
		"logout":      functions.Handle(s.logout),
		"verify":      s.verify,
		"verify-many": functions.Handle(s.verifyMany),
		"revoked":     functions.Handle(s.revoked),
		"issue":       functions.Handle(s.issue),
		"invite":      functions.Handle(s.invite),
		"keys":        func(ctx context.Context, _ *functions.Call) (any, error) { return s.keys.published(ctx) },
	}
}

// isReserved reports whether nobody may register a name.
func (s *service) isReserved(user subjects.User) bool {
	return slices.Contains(reserved, user) || slices.Contains(s.config.Reserved, user)
}

// stored gives an error of the store the code that clients see, where it has one.
func stored(err error) error {
	if errors.Is(err, jetstream.ErrUnavailable) {
		return fmt.Errorf("%w: %w", wire.Errorf(wire.StorageUnavailable, "The store did not answer; try again."), err)
	}
	return err
}
