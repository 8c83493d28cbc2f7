package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// operator is what the commands share that speak NATS: they act as the operator of the confab up on this machine, or with the rights of the key they are given.
type operator struct {
	NATS process.NATSConfig
	Data string        `conf:"data" help:"the directory of the confab up on this machine; its server and its operator's key are used unless nats-url names another server"`
	Wait time.Duration `conf:"wait" help:"how long to wait for an answer"`
}

func newOperator() operator {
	return operator{Data: standalone.DefaultData(), Wait: 10 * time.Second}
}

// server returns the NATS server to use and as whom. The keys in the directory are those of one server, and shown to no other.
func (o operator) server() process.NATSConfig { return o.serverAs(natsconfig.Operator) }

// serverAs is server for another user of the server on this machine.
func (o operator) serverAs(user string) process.NATSConfig {
	config := o.NATS
	local, found := standalone.Local(o.Data, user)
	if found && config.Credentials == "" && (config.URL == "" || address(config.URL) == address(local.URL)) {
		config.URL, config.NKey = local.URL, cmp.Or(config.NKey, local.NKey)
	}
	config.URL = cmp.Or(config.URL, "nats://127.0.0.1:4222")
	return config
}

// address returns the host and port of the URL of a server, in one form.
func address(server string) string {
	return strings.Replace(strings.TrimPrefix(server, "nats://"), "localhost", "127.0.0.1", 1)
}

// connectAs returns a connection as a user of the server on this machine, or with the rights of the key that the command was given.
func (o operator) connectAs(user string, c call) (*nats.Conn, error) {
	nc, _, err := o.serverAs(user).Connect("confab-cli", c.errors())
	return nc, err
}

// connect returns a connection, and a context for what is done with it, until done is called.
func (o operator) connect(ctx context.Context, c call) (nc *nats.Conn, within context.Context, done func(), err error) {
	nc, _, err = o.server().Connect("confab-cli", c.errors())
	if err != nil {
		return nil, nil, nil, err
	}
	within, cancel := context.WithTimeout(ctx, o.Wait)
	return nc, within, func() { cancel(); nc.Close() }, nil
}

// remote is an operator's connection while one command runs.
type remote struct {
	caller *functions.Caller
	ctx    context.Context
	close  func()
}

func (o operator) open(ctx context.Context, c call) (*remote, error) {
	nc, ctx, done, err := o.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	caller, err := functions.NewCaller(nc, c.errors())
	if err != nil {
		done()
		return nil, err
	}
	return &remote{caller, ctx, func() { caller.Close(); done() }}, nil
}

// errors returns a log for what explains that a command fails, such as a NATS user that may not do it.
func (c call) errors() *slog.Logger {
	return slog.New(slog.NewTextHandler(c.note, &slog.HandlerOptions{Level: slog.LevelError}))
}

// token prints a token for a user, without a password.
func token(ctx context.Context, c call) error {
	config := struct {
		operator
		User   string        `conf:"user" help:"whose token"`
		Device string        `conf:"device" help:"the device it is for"`
		Create bool          `conf:"create" help:"register the user first where there is none"`
		Life   time.Duration `conf:"life" help:"how long it is valid; 0 = as auth is configured"`
		JSON   bool          `conf:"json" help:"print the refresh token and the end as well"`
	}{operator: newOperator(), Device: "cli-1"}
	rest, err := c.load("token", &config)
	if err != nil {
		return err
	}
	if err := noArguments("token", rest); err != nil {
		return err
	}
	user, err := subjects.ParseUser(config.User)
	if err != nil {
		return &process.UsageError{Err: fmt.Errorf("--user: %w", err)}
	}
	device, err := subjects.ParseDevice(config.Device)
	if err != nil {
		return &process.UsageError{Err: fmt.Errorf("--device: %w", err)}
	}
	s, err := config.open(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	issue := wire.Issue{User: user, Device: device, Create: config.Create, TTLMS: config.Life.Milliseconds()}
	tokens, err := functions.Invoke[wire.Issue, wire.Tokens](s.ctx, s.caller, nil, "auth", "issue", issue)
	if err != nil {
		return err
	}
	if config.JSON {
		return json.NewEncoder(c.out).Encode(tokens)
	}
	_, err = fmt.Fprintln(c.out, tokens.Token)
	return err
}

// invite prints a link with which people may register.
func invite(ctx context.Context, c call) error {
	config := struct {
		operator
		URL  string        `conf:"url" help:"where clients connect"`
		Uses int           `conf:"uses" help:"how many people may register with it"`
		Life time.Duration `conf:"life" help:"how long it is valid"`
	}{operator: newOperator(), URL: "http://127.0.0.1:8080", Uses: 1, Life: 7 * 24 * time.Hour}
	rest, err := c.load("invite", &config)
	if err != nil {
		return err
	}
	if err := noArguments("invite", rest); err != nil {
		return err
	}
	s, err := config.open(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	link, err := standalone.InviteLink(s.ctx, s.caller, config.URL, config.Uses, config.Life)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, link)
	return err
}

// declare makes the streams and buckets on an outside NATS server and registers functions; programs that are not the all-in-one wait for it.
func declare(ctx context.Context, c call) error {
	config := struct {
		operator
		Replicas  int      `conf:"replicas" help:"copies of each stream: 1, or 3 on a cluster of three servers and more"`
		Manifests []string `conf:"manifests" help:"files function.yaml of functions beside confab's own"`
		Scale     []string `conf:"scale" help:"how functions scale here, where it is not as their manifests say: name=min:max:wake"`
	}{operator: newOperator(), Replicas: 1}
	rest, err := c.load("declare", &config)
	if err != nil {
		return err
	}
	if err := noArguments("declare", rest); err != nil {
		return err
	}
	manifests, err := readManifests(config.Manifests)
	if err == nil {
		manifests, err = scaled(manifests, config.Scale)
	}
	if err != nil {
		return &process.UsageError{Err: err}
	}
	config.Wait = max(config.Wait, time.Minute)
	nc, ctx, done, err := config.connect(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	if err := declareStore(ctx, nc, jetstream.Profile{Replicas: config.Replicas}); err != nil {
		return err
	}
	if err := manifest.Declare(ctx, nc, manifests); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "The streams and buckets are there, and %d functions are registered.\n", len(manifests))
	return err
}

// declareWithin bounds one try to declare the store. A request that was sent before the servers had a leader is never answered; whatever a try has made stays.
const declareWithin = 20 * time.Second

// declareStore declares the store, and again until ctx ends while there is none to be reached: servers of a cluster that has just been started need some seconds to agree
// on a leader.
func declareStore(ctx context.Context, nc *nats.Conn, profile jetstream.Profile) error {
	for {
		try, cancel := context.WithTimeout(ctx, declareWithin)
		err := jetstream.Declare(try, nc, profile)
		cancel()
		if !errors.Is(err, jetstream.ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func noArguments(name string, rest []string) error {
	if len(rest) > 0 {
		return &process.UsageError{Err: fmt.Errorf("confab %s takes no arguments, but got %q", name, rest)}
	}
	return nil
}
