package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func watch(t *testing.T, nc *nats.Conn) *load.Watcher {
	t.Helper()
	w, err := load.New(nc, functionstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// until waits for a load of function echo, woken by changes, or by time where a change is not one that Changed tells of.
func until(t *testing.T, w *load.Watcher, what string, is func(load.Load) bool) load.Load {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		changed := w.Changed("echo")
		l := w.Of("echo")
		if is(l) {
			return l
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-late:
			t.Fatalf("%s: the load stays %+v", what, l)
		}
	}
}

func say(t *testing.T, nc *nats.Conn, verb subjects.Verb, event any) {
	t.Helper()
	body, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish(subjects.Scale("echo", verb), body); err != nil {
		t.Fatal(err)
	}
}

// echo answers after the gate is open.
func echo(open <-chan struct{}) functions.Function {
	return functions.Function{
		Name: "echo", Description: "answers late",
		Methods: []functions.Method{{Name: "say", Idempotent: true, Timeout: 20 * time.Second, Request: struct{}{}, Response: struct{}{}}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"say": func(ctx context.Context, call *functions.Call) (any, error) {
				select {
				case <-open:
				case <-ctx.Done():
				}
				return call.Data, ctx.Err()
			}}, nil
		},
	}
}

func TestCallersAndInstancesAreSeenAsTheyComeAndGo(t *testing.T) {
	server := jetstreamtest.Start(t)
	w := watch(t, server.Connect(t))
	callers := []*functions.Caller{functionstest.Caller(t, server.Connect(t)), functionstest.Caller(t, server.Connect(t))}
	open := make(chan struct{})
	const calls = 10
	var answered atomic.Int32
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			if _, err := callers[i%2].Call(t.Context(), "echo", "say", nil, fmt.Appendf(nil, `{"n":%d}`, i)); err == nil {
				answered.Add(1)
			}
		})
	}
	until(t, w, "all calls are held", func(l load.Load) bool { return l.Held == calls && l.Instances == 0 })
	first := functionstest.Run(t, server.Connect(t), echo(open), functions.Options{Concurrency: 2, Waiting: 1})
	l := until(t, w, "an instance is up", func(l load.Load) bool { return l.Instances == 1 })
	if len(l.Names) != 1 || l.Names[0] != first.Name || l.Concurrency != 2 || l.IdleFor < 0 {
		t.Errorf("with one instance the load is %+v", l)
	}
	if l.Held > calls-2 {
		t.Errorf("%d calls count as held although the instance has taken 2", l.Held)
	}
	second := functionstest.Run(t, server.Connect(t), echo(open), functions.Options{Concurrency: 8})
	until(t, w, "two instances are up", func(l load.Load) bool { return l.Instances == 2 && l.Concurrency == 2 })
	close(open)
	wg.Wait()
	if answered.Load() != calls {
		t.Errorf("%d of %d calls were answered", answered.Load(), calls)
	}
	until(t, w, "nothing is held", func(l load.Load) bool { return l.Held == 0 })
	first.Stop(t)
	until(t, w, "a bye is heard", func(l load.Load) bool { return l.Instances == 1 && l.Names[0] == second.Name })
}

// Whoever looks later knows the same; an operator who listens to everything changes nothing.
func TestAWatcherThatStartsAnewKnowsWhatIs(t *testing.T) {
	server := jetstreamtest.Start(t)
	operator := server.Connect(t)
	if _, err := operator.Subscribe(">", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	functionstest.Run(t, server.Connect(t), echo(nil))
	w := watch(t, server.Connect(t))
	if w.Settled() {
		t.Error("a watcher that has just begun takes silence for an answer")
	}
	until(t, w, "the instance is known", func(l load.Load) bool { return l.Instances == 1 })
	until(t, w, "silence means something", func(load.Load) bool { return w.Settled() })
}

func TestWhatNobodyRepeatsLapses(t *testing.T) {
	nc := jetstreamtest.Start(t).Connect(t)
	w := watch(t, nc)
	began := time.Now()
	say(t, nc, subjects.Demand, wire.Demand{Function: "echo", Caller: "edge-that-dies", Held: 7})
	say(t, nc, subjects.Up, wire.InstanceUp{Function: "echo", Instance: "one", Concurrency: 4, Peak: 3, IdleMS: 200})
	say(t, nc, subjects.Up, wire.InstanceUp{Function: "send", Instance: "liar", Concurrency: 4}) // on the subject of another function
	l := until(t, w, "both are known", func(l load.Load) bool { return l.Held == 3 && l.Instances == 1 })
	if l.Peak != 3 || l.Lately != 3 || l.IdleFor < 200*time.Millisecond {
		t.Errorf("the load is %+v", l)
	}
	until(t, w, "the lease ends", func(l load.Load) bool { return l.Instances == 0 && l.Held == 0 })
	if took := time.Since(began); took < 2900*time.Millisecond || took > 6*time.Second {
		t.Errorf("what was said counted for %v", took)
	}
	if n := w.Of("send").Instances; n != 0 {
		t.Errorf("%d instances of another function came out of nothing", n)
	}
}

// While the server is away nothing can be heard, so nothing is forgotten and nothing is sure.
func TestARestartOfTheServerForgetsNothing(t *testing.T) {
	server := jetstreamtest.Start(t)
	functionstest.Run(t, server.Connect(t), echo(nil))
	w := watch(t, server.Connect(t))
	until(t, w, "the instance is known", func(l load.Load) bool { return l.Instances == 1 && w.Settled() })
	server.Stop(t)
	until(t, w, "the cut is noticed", func(load.Load) bool { return !w.Settled() })
	time.AfterFunc(0, func() { server.Restart(t) })
	until(t, w, "the watcher is sure again", func(l load.Load) bool {
		if l.Instances != 1 {
			t.Fatalf("the instance was forgotten: %+v", l)
		}
		return w.Settled()
	})
}

func TestWhatWaitsIsCountedAtOnceWhenSomethingMoves(t *testing.T) {
	nc := jetstreamtest.Start(t).Connect(t)
	w := watch(t, nc)
	var waits, counts atomic.Int64
	broken := errors.New("no such consumer")
	ctx, cancel := context.WithCancel(t.Context())
	w.Count(ctx, "echo", func(context.Context, subjects.Function) (int, error) {
		if counts.Add(1) == 1 {
			return 5, broken
		}
		return int(waits.Load()), nil
	})
	w.Count(ctx, "echo", func(context.Context, subjects.Function) (int, error) { panic("counted twice") })
	until(t, w, "the armed count", func(load.Load) bool { return counts.Load() >= 2 && nc.NumSubscriptions() >= 5 })
	if l := w.Of("echo"); l.Backlog != 0 {
		t.Errorf("a failed count left %+v", l)
	}
	waits.Store(25)
	began := time.Now()
	if err := nc.Publish(subjects.Live("g.general"), nil); err != nil {
		t.Fatal(err)
	}
	l := until(t, w, "the backlog is known", func(l load.Load) bool { return l.Backlog == 25 })
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("it took %v to see that events wait", took)
	}
	if !l.Waits() || l.Busy() != 3 {
		t.Errorf("25 events count as %d calls", l.Busy())
	}
	cancel()
	until(t, w, "nobody counts any more", func(l load.Load) bool { return l.Backlog == 0 })
}
