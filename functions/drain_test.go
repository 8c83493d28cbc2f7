package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The load comes from eight callers on one connection; instances come and go on connections of their own, as processes would.
func TestReplacingInstancesUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	const replacements = 20
	url := startServer(t)
	nc := connect(t, url)
	caller := functionstest.Caller(t, nc)
	var seen sync.Map // text → *atomic.Int32
	f := echo(func(ctx context.Context, _ *functions.Call, in *request) (answer, error) {
		n, _ := seen.LoadOrStore(in.Text, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		time.Sleep(rand.N(2 * time.Millisecond)) // work, not a wait for something
		return answer{in.Text}, ctx.Err()
	})
	current := functionstest.Run(t, connect(t, url), f)

	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var sent, lost atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text := fmt.Sprintf("%d-%d", worker, i)
				data, _ := json.Marshal(request{Conversation: fmt.Sprint("g.", i%5), Text: text})
				got, err := caller.Call(ctxFor(t, 5*time.Second), "echo", "say", nil, data)
				sent.Add(1)
				if err != nil || string(got) != `{"text":"`+text+`"}` {
					lost.Add(1)
					t.Errorf("call %s: %s, %v", text, got, err)
				}
			}
		})
	}
	for range replacements {
		before := sent.Load()
		next := functionstest.Run(t, connect(t, url), f)
		current.Stop(t)
		current = next
		eventually(t, "the load goes on", func() bool { return sent.Load() > before+50 })
	}
	stop()
	wg.Wait()
	twice, missing := 0, sent.Load()
	seen.Range(func(_, n any) bool {
		missing--
		if n.(*atomic.Int32).Load() != 1 {
			twice++
		}
		return true
	})
	t.Logf("%d calls over %d replacements: %d lost, %d never worked on, %d worked on twice", sent.Load(), replacements, lost.Load(), missing, twice)
	if twice != 0 || missing != 0 {
		t.Errorf("%d calls were worked on twice and %d never", twice, missing)
	}
}

// Whoever sent a call before it heard the bye finds the instance there still; the spy hides from it that nobody else is.
func TestACallThatCrossesTheByeIsAnswered(t *testing.T) {
	url := startServer(t)
	nc := connect(t, url)
	in := functionstest.Run(t, connect(t, url), echo(say))
	if _, err := nc.Subscribe(subjects.AllRPC, func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	crossed := make(chan error, 1)
	if _, err := nc.Subscribe(subjects.AllOf(subjects.Bye), func(*nats.Msg) {
		_, err := nc.Request(subjects.RPC("echo", "raw"), []byte(`{}`), 10*time.Second)
		crossed <- err
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	in.Stop(t)
	if err := <-crossed; err != nil {
		t.Errorf("the call got %v", err)
	}
}

func TestADrainAnswersWhatWaitsAndSaysBye(t *testing.T) {
	url := startServer(t)
	nc := connect(t, url)
	caller := functionstest.Caller(t, nc)
	began, release := make(chan struct{}), make(chan struct{})
	in := functionstest.Run(t, connect(t, url), echo(func(_ context.Context, _ *functions.Call, in *request) (answer, error) {
		if in.Text == "0" {
			close(began)
			<-release
		}
		return answer{in.Text}, nil
	}))
	eventually(t, "the instance is known", func() bool { return caller.Instances("echo") == 1 })

	inbox := nc.NewInbox()
	answers, _ := nc.SubscribeSync(inbox)
	for i := range 20 {
		data, _ := json.Marshal(request{Conversation: "g.a", Text: fmt.Sprint(i)})
		if err := nc.PublishRequest(subjects.RPC("echo", "say"), inbox, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil { // all of it is at the server before the instance unsubscribes
		t.Fatal(err)
	}
	<-began
	stopped := make(chan struct{})
	go func() { in.Stop(t); close(stopped) }()
	eventually(t, "the bye is heard while calls are at work", func() bool { return caller.Instances("echo") == 0 })
	if _, known := caller.Method("echo", "say"); !known {
		t.Error("the methods of a sleeping function are forgotten")
	}
	select {
	case <-stopped:
		t.Fatal("the drain did not wait for a call at work")
	default:
	}
	close(release)
	for i := range 20 {
		msg, err := answers.NextMsg(5 * time.Second)
		if err != nil || string(msg.Data) != fmt.Sprintf(`{"text":"%d"}`, i) {
			t.Fatalf("answer %d: %v, %v", i, msg, err)
		}
	}
	<-stopped
}

func TestADrainCancelsWhatOutlivesIt(t *testing.T) {
	nc := connect(t)
	began := make(chan struct{})
	f := echo(func(ctx context.Context, _ *functions.Call, _ *request) (answer, error) {
		close(began)
		<-ctx.Done()
		return answer{}, ctx.Err()
	})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		result <- functions.Run(ctx, f, functions.Env{NATS: nc}, functions.Options{DrainTimeout: 50 * time.Millisecond})
	}()
	caller := functionstest.Caller(t, nc)
	code := make(chan wire.Code, 1)
	go func() {
		_, err := caller.Call(ctxFor(t, 5*time.Second), "echo", "say", nil, []byte(`{}`))
		code <- wire.CodeOf(err)
	}()
	<-began
	cancel()
	if err := <-result; !errors.Is(err, functions.ErrDrainIncomplete) {
		t.Errorf("Run returned %v", err)
	}
	if got := <-code; got != wire.Timeout {
		t.Errorf("the caller learned %q", got)
	}
}

func TestRunEndsWithItsConnection(t *testing.T) {
	nc := connect(t)
	up, result := make(chan string, 1), make(chan error, 1)
	go func() {
		result <- functions.Run(context.Background(), echo(say), functions.Env{NATS: nc}, functions.Options{Ready: func(in string) { up <- in }})
	}()
	<-up
	nc.Close()
	if err := <-result; !errors.Is(err, functions.ErrDisconnected) {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunEndsWithItsConnectionAlsoWhileItStarts(t *testing.T) {
	for name, failure := range map[string]error{"and notices": errors.New("no store"), "and does not notice": nil} {
		t.Run(name, func(t *testing.T) {
			nc := connect(t)
			f := echo(say)
			build := f.New
			f.New = func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
				nc.Close()
				if failure != nil {
					return nil, failure
				}
				return build(ctx, env)
			}
			err := functions.Run(t.Context(), f, functions.Env{NATS: nc}, functions.Options{})
			if !errors.Is(err, functions.ErrDisconnected) || failure != nil && !errors.Is(err, failure) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func TestRunRefusesABrokenFunction(t *testing.T) {
	nc := connect(t)
	boom := errors.New("boom")
	for name, breakIt := range map[string]func(*functions.Function){
		"no description":             func(f *functions.Function) { f.Description = "" },
		"a long description":         func(f *functions.Function) { f.Description = "This is more than thirty bytes." },
		"a name that is a pattern":   func(f *functions.Function) { f.Name = "*" },
		"a method that is a pattern": func(f *functions.Function) { f.Methods[0].Name = ">" },
		"a method named twice":       func(f *functions.Function) { f.Methods[1].Name = "say" },
		"a method without a handler": func(f *functions.Function) { f.Methods = append(f.Methods, functions.Method{Name: "more"}) },
		"a handler without a method": func(f *functions.Function) { f.Methods = f.Methods[1:] },
		"anonymous and not public":   func(f *functions.Function) { f.Methods[0].Public = false },
		"a negative timeout":         func(f *functions.Function) { f.Methods[0].Timeout = -1 },
		"a constructor that fails": func(f *functions.Function) {
			f.New = func(context.Context, functions.Env) (functions.Handlers, error) { return nil, boom }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := echo(say)
			breakIt(&f)
			if err := functions.Run(ctxFor(t, 5*time.Second), f, functions.Env{NATS: nc}, functions.Options{}); err == nil {
				t.Error("Run returned nil")
			}
		})
	}
	t.Run("but ends in peace when it is stopped while the constructor waits", func(t *testing.T) {
		f := echo(say)
		ctx, cancel := context.WithCancel(context.Background())
		f.New = func(ctx context.Context, _ functions.Env) (functions.Handlers, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if err := functions.Run(ctx, f, functions.Env{NATS: nc}, functions.Options{}); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	if _, err := nc.Request(subjects.RPC("echo", "say"), nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("something is still subscribed: %v", err)
	}
}

// eventually polls until ok returns true, for at most 15 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
