package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestACallWaitsForAnInstance(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	const calls = 200
	var wg sync.WaitGroup
	var failed atomic.Int32
	for range calls {
		wg.Go(func() {
			if got, err := caller.Call(ctxFor(t, 10*time.Second), "echo", "say", nil, []byte(`{"text":"x"}`)); err != nil || string(got) != `{"text":"x"}` {
				failed.Add(1)
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	functionstest.Run(t, nc, echo(say))
	wg.Wait()
}

func TestACallThatNobodyCanAnswerIsUnavailable(t *testing.T) {
	caller := callerWith(t, connect(t), functions.Limits{Hold: 500 * time.Millisecond})
	for name, within := range map[string]time.Duration{"at its deadline": 100 * time.Millisecond, "after the hold": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := caller.Call(ctxFor(t, within), "nobody", "home", nil, nil)
			if wire.CodeOf(err) != wire.Unavailable || time.Since(began) > min(within, 500*time.Millisecond)+2*time.Second {
				t.Errorf("got %v after %s", err, time.Since(began))
			}
			if e, ok := err.(*wire.Error); !ok || e.RetryAfterMS == 0 {
				t.Errorf("%v says not when to come again", err)
			}
		})
	}
}

// A subscriber that should not be there answers too, and hides that nobody else is: neither is an answer, nor a reason to lose the call.
func TestOnlyAFunctionsAnswerIsAnAnswer(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	foreign, err := nc.Subscribe(subjects.AllRPC, func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"stream":"SPY","seq":1}`))
		_ = m.Respond(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = foreign.Unsubscribe() }()
	result := make(chan error, 1)
	go func() {
		got, err := caller.Call(ctxFor(t, 10*time.Second), "echo", "say", nil, []byte(`{"text":"x"}`))
		if err == nil && string(got) != `{"text":"x"}` {
			err = fmt.Errorf("took %s for the answer", got)
		}
		result <- err
	}()
	functionstest.Run(t, nc, echo(say))
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestATableThatIsWrongIsCorrected(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	ghost(t, nc, wire.InstanceMethod{Name: "say", Public: true, TimeoutMS: 5000})
	eventually(t, "the ghost is known", func() bool { return caller.Instances("echo") == 1 })
	result := make(chan error, 1)
	go func() {
		_, err := caller.Call(ctxFor(t, 10*time.Second), "echo", "say", nil, []byte(`{}`))
		result <- err
	}()
	eventually(t, "the ghost is found out", func() bool { return caller.Instances("echo") == 0 })
	functionstest.Run(t, nc, echo(say))
	if err := <-result; err != nil {
		t.Errorf("the call was not sent again: %v", err)
	}

	ghost(t, nc, wire.InstanceMethod{Name: "say", TimeoutMS: 5000})
	eventually(t, "a second ghost is known", func() bool { return caller.Instances("echo") == 2 })
	if public := caller.Public(); slices.Contains(public, "echo.say") {
		t.Errorf("echo.say is public although one instance denies it: %v", public)
	}
	changed := caller.Changed()
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Fatal("the lease of a silent instance did not end")
	}
	if got := caller.Public(); caller.Instances("echo") != 1 || !slices.Equal(got, []string{"echo.mine", "echo.say"}) {
		t.Errorf("%d instances, public %v", caller.Instances("echo"), got)
	}
}

// ghost announces an instance that is not there.
func ghost(t *testing.T, nc *nats.Conn, methods ...wire.InstanceMethod) {
	t.Helper()
	up, _ := json.Marshal(wire.InstanceUp{Function: "echo", Instance: "ghost", Concurrency: 1, Methods: methods})
	if err := nc.Publish(subjects.Scale("echo", subjects.Up), up); err != nil {
		t.Fatal(err)
	}
}

func TestATimeoutIsRepeatedOnlyWhereTheMethodAllowsIt(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	var once, again atomic.Int32
	for method, counter := range map[subjects.Method]*atomic.Int32{"once": &once, "again": &again} {
		if _, err := nc.Subscribe(subjects.RPC("echo", method), func(m *nats.Msg) {
			if counter.Add(1) == 2 {
				_ = m.RespondMsg(&nats.Msg{Header: nats.Header{subjects.HeaderReply: {"ghost"}}, Data: []byte(`"second"`)})
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	ghost(t, nc, wire.InstanceMethod{Name: "once", TimeoutMS: 50}, wire.InstanceMethod{Name: "again", TimeoutMS: 50, Idempotent: true})
	if _, err := caller.Call(ctxFor(t, 300*time.Millisecond), "echo", "once", nil, nil); wire.CodeOf(err) != wire.Timeout || once.Load() != 1 {
		t.Errorf("once: %v after %d tries", err, once.Load())
	}
	if got, err := caller.Call(ctxFor(t, 10*time.Second), "echo", "again", nil, nil); err != nil || string(got) != `"second"` || again.Load() != 2 {
		t.Errorf("again: %s, %v after %d tries", got, err, again.Load())
	}
}

func TestCallsWorkAgainAfterTheServerWasAway(t *testing.T) {
	t.Parallel()
	ns := serve(t, server.RANDOM_PORT)
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() }) // after the instance has drained
	url := ns.ClientURL()
	nc := connect(t, url)
	caller := functionstest.Caller(t, nc)
	functionstest.Run(t, connect(t, url), echo(say))
	call := func() error {
		_, err := caller.Call(ctxFor(t, 10*time.Second), "echo", "raw", nil, []byte(`{}`))
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	port := ns.Addr().(*net.TCPAddr).Port
	ns.Shutdown()
	ns.WaitForShutdown()
	result := make(chan error, 1)
	go func() { result <- call() }() // waits in the client library's buffer
	ns = serve(t, port)
	if err := <-result; err != nil {
		t.Errorf("a call made while the server was away: %v", err)
	}
	if err := call(); err != nil {
		t.Errorf("a call made afterwards: %v", err)
	}
}

func TestIdentityDeadlineAndTraceGoOnToTheNextFunction(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	type seen struct {
		User     subjects.User
		Device   subjects.Device
		Trace    string
		Span     string
		Deadline time.Time
	}
	see := func(ctx context.Context, call *functions.Call) seen {
		trace, _ := functions.TraceOf(ctx)
		deadline, _ := ctx.Deadline()
		return seen{call.User, call.Device, trace.TraceID(), fmt.Sprintf("%x", trace.Span), deadline}
	}
	function := func(name subjects.Function, h func(functions.Env) functions.Handler) functions.Function {
		return functions.Function{
			Name: name, Description: "Sees", Methods: []functions.Method{{Name: "see"}},
			New: func(_ context.Context, env functions.Env) (functions.Handlers, error) {
				return functions.Handlers{"see": h(env)}, nil
			},
		}
	}
	functionstest.Run(t, nc, function("second", func(functions.Env) functions.Handler {
		return func(ctx context.Context, call *functions.Call) (any, error) { return see(ctx, call), nil }
	}))
	functionstest.Run(t, nc, function("first", func(env functions.Env) functions.Handler {
		return func(ctx context.Context, call *functions.Call) (any, error) {
			next, err := functions.Invoke[wire.Empty, seen](ctx, env.Caller, call, "second", "see", wire.Empty{})
			return []seen{see(ctx, call), next}, err
		}
	}))
	trace := functions.NewTrace()
	ctx := functions.WithTrace(ctxFor(t, 3*time.Second), trace)
	got, err := functions.Invoke[wire.Empty, []seen](ctx, caller, functionstest.As("ada"), "first", "see", wire.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	deadline, _ := ctx.Deadline()
	spans := map[string]bool{fmt.Sprintf("%x", trace.Span): true}
	for i, s := range got {
		if s.User != "ada" || s.Device != "test" || s.Trace != trace.TraceID() || spans[s.Span] || s.Deadline.After(deadline) {
			t.Errorf("function %d saw %+v; the caller's trace is %s, its deadline %s", i, s, trace, deadline)
		}
		spans[s.Span] = true
	}
}
