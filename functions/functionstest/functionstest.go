// Package functionstest runs functions in tests, with the runtime that programs use. It leaves the NATS server and the store to package
// jetstreamtest.
package functionstest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// patience bounds every wait of this package: far more than a slow machine needs, so that a failure is a failure.
const patience = 20 * time.Second

// Instance is a function that runs until the test ends or Stop is called.
type Instance struct {
	Name   string // as its answers and its micro service show it
	cancel context.CancelFunc
	result chan error
}

// Run runs one instance of a function until the test ends, and returns when it is up. At most one Options is given. The test fails if the
// instance ends with an error.
func Run(t testing.TB, nc *nats.Conn, f functions.Function, options ...functions.Options) *Instance {
	t.Helper()
	return RunEnv(t, functions.Env{NATS: nc}, f, options...)
}

// RunEnv is Run for tests that bring their own clock or Caller.
func RunEnv(t testing.TB, env functions.Env, f functions.Function, options ...functions.Options) *Instance {
	t.Helper()
	var opts functions.Options
	if len(options) > 0 {
		opts = options[0]
	}
	if env.Log == nil {
		env.Log = Log(t)
	}
	up := make(chan string, 1)
	ready := opts.Ready
	opts.Ready = func(instance string) {
		up <- instance
		if ready != nil {
			ready(instance)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	in := &Instance{cancel: cancel, result: make(chan error, 1)}
	go func() { in.result <- functions.Run(ctx, f, env, opts) }()
	t.Cleanup(func() { in.Stop(t) })
	select {
	case in.Name = <-up:
	case err := <-in.result:
		in.result <- nil
		t.Fatalf("function %s did not start: %v", f.Name, err)
	case <-time.After(patience):
		t.Fatalf("function %s is not up after %s", f.Name, patience)
	}
	return in
}

// Stop drains the instance and waits for its end; it may be called more than once.
func (in *Instance) Stop(t testing.TB) {
	t.Helper()
	in.cancel()
	select {
	case err := <-in.result:
		in.result <- nil
		if err != nil {
			t.Errorf("instance %s ended: %v", in.Name, err)
		}
	case <-time.After(patience):
		t.Errorf("instance %s still drains after %s", in.Name, patience)
	}
}

// Call makes a call such as "dice.roll" in the name of a user, or of nobody with "", and returns the decoded answer, or the error that a caller gets. It waits until an instance
// is up. Tests that make many calls use a Caller and functions.Invoke.
func Call[Out any](t testing.TB, nc *nats.Conn, user subjects.User, call string, in any) (Out, error) {
	t.Helper()
	f, m, err := subjects.ParseCall(call)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := functions.NewCaller(nc, Log(t))
	if err != nil {
		t.Fatalf("caller: %v", err)
	}
	defer caller.Close()
	var from *functions.Call
	if user != "" {
		from = As(user)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return functions.Invoke[any, Out](ctx, caller, from, f, m, in)
}

// StandIn answers one call, such as "send.post", until the test ends: in the place of a function that the tested one asks.
func StandIn(t testing.TB, nc *nats.Conn, call string, handler functions.Handler) *Instance {
	t.Helper()
	f, m, err := subjects.ParseCall(call)
	if err != nil {
		t.Fatal(err)
	}
	return Run(t, nc, functions.Function{
		Name: f, Description: "Stands in for " + call[:min(len(call), 15)],
		Methods: []functions.Method{{Name: m, Idempotent: true}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{m: handler}, nil
		},
	})
}

// Caller returns a Caller that is closed when the test ends.
func Caller(t testing.TB, nc *nats.Conn) *functions.Caller {
	t.Helper()
	caller, err := functions.NewCaller(nc, Log(t))
	if err != nil {
		t.Fatalf("caller: %v", err)
	}
	t.Cleanup(caller.Close)
	return caller
}

// As returns the identity of a user as an edge would pass it on, for functions.Invoke.
func As(user subjects.User) *functions.Call {
	return &functions.Call{User: user, Device: "test", Session: "session-" + string(user), Address: "192.0.2.1"}
}

// ClientID returns a fresh client id, a UUIDv7 of now.
func ClientID() string { return uuid.Must(uuid.NewV7()).String() }

// Text returns the body of a message that says a formatted text.
func Text(format string, args ...any) json.RawMessage {
	body, err := wire.Marshal(map[string]string{"text": fmt.Sprintf(format, args...)})
	if err != nil {
		panic(err) // strings always encode
	}
	return body
}

// Log returns a logger that writes to the test's output. That of a benchmark drops everything, for writing would be measured too.
func Log(t testing.TB) *slog.Logger {
	if _, measured := t.(*testing.B); measured {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
