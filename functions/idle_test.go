package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// sleeper returns a function with a method that counts as activity and one that does not.
func sleeper(name subjects.Function, work, look functions.Handler) functions.Function {
	return functions.Function{
		Name: name, Description: "Falls asleep",
		Methods: []functions.Method{{Name: "work", Idempotent: true, Timeout: 20 * time.Second}, {Name: "look", Passive: true}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"work": work, "look": look}, nil
		},
	}
}

func ok(context.Context, *functions.Call) (any, error) { return nil, nil }

// wake starts an instance of a function whenever calls are held for it, as a supervisor would, until the test ends. It returns how often it did.
func wake(t *testing.T, url string, f functions.Function, idle time.Duration) (starts func() int) {
	t.Helper()
	nc := connect(t, url)
	demands := make(chan *nats.Msg, 1000)
	if _, err := nc.ChanSubscribe(subjects.Scale(f.Name, subjects.Demand), demands); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	n := 0
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	caller := functionstest.Caller(t, nc)
	wg.Go(func() {
		for ctx.Err() == nil {
			var d wire.Demand
			select {
			case msg := <-demands:
				_ = json.Unmarshal(msg.Data, &d)
			case <-ctx.Done():
			}
			if d.Held == 0 || caller.Instances(f.Name) > 0 {
				continue
			}
			n++
			up := make(chan string, 1)
			wg.Go(func() {
				if err := functions.Run(ctx, f, functions.Env{NATS: nc, Caller: caller}, functions.Options{
					IdleTimeout: idle, Ready: func(in string) { up <- in },
				}); err != nil {
					t.Errorf("an instance ended with %v", err)
				}
			})
			<-up
		}
	})
	stop := func() int { cancel(); wg.Wait(); return n }
	t.Cleanup(func() { stop() })
	return stop
}

// Calls come at any moment around that at which the instance decides to leave, and somebody who listens to everything hides that it has gone.
func TestAnIdleInstanceLosesNoCallThatComesLate(t *testing.T) {
	t.Parallel()
	url := startServer(t)
	spy := connect(t, url)
	if _, err := spy.Subscribe(">", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	caller := functionstest.Caller(t, connect(t, url))
	const sleepers, rounds, idle = 6, 30, 20 * time.Millisecond
	var mu sync.Mutex
	ran := map[string]int{}
	var longest time.Duration
	var wg sync.WaitGroup
	woken := make([]func() int, sleepers)
	for i := range sleepers {
		f := sleeper(subjects.Function(fmt.Sprint("sleeper", i)), func(_ context.Context, call *functions.Call) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			ran[string(call.Data)]++
			return call.Data, nil
		}, ok)
		woken[i] = wake(t, url, f, idle)
		wg.Go(func() {
			for round := range rounds {
				data := fmt.Sprintf(`"%d %d"`, i, round)
				began := time.Now()
				if got, err := caller.Call(ctxFor(t, time.Minute), f.Name, "work", nil, []byte(data)); err != nil || string(got) != data {
					t.Errorf("call %s: %s, %v", data, got, err)
				}
				mu.Lock()
				longest = max(longest, time.Since(began))
				mu.Unlock()
				time.Sleep(rand.N(8 * idle)) // not to wait for something: to come before, in and after the drain
			}
		})
	}
	wg.Wait()
	starts, twice := 0, 0
	for _, stop := range woken {
		starts += stop()
	}
	for _, n := range ran {
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d calls, %d starts, %d ran, %d ran twice, the longest took %s", sleepers*rounds, starts, len(ran), twice, longest)
	if len(ran) != sleepers*rounds || twice != 0 || starts < 2*sleepers {
		t.Errorf("%d calls ran, %d of them twice, and there were %d starts", len(ran), twice, starts)
	}
}

func TestAnInstanceStaysWhileItWorksAndLeavesWhileItIsOnlyLookedAt(t *testing.T) {
	t.Parallel()
	url := startServer(t)
	nc := connect(t, url)
	caller := functionstest.Caller(t, nc)
	began, release := make(chan struct{}), make(chan struct{})
	f := sleeper("sleeper", func(context.Context, *functions.Call) (any, error) {
		close(began)
		<-release
		return nil, nil
	}, ok)
	const idle = 100 * time.Millisecond
	up, result := make(chan string, 1), make(chan error, 1)
	go func() {
		result <- functions.Run(context.Background(), f, functions.Env{NATS: connect(t, url), Log: functionstest.Log(t)}, functions.Options{
			IdleTimeout: idle, Ready: func(in string) { up <- in },
		})
	}()
	<-up
	eventually(t, "the instance is known", func() bool { return caller.Instances("sleeper") == 1 })
	worked := make(chan error, 1)
	go func() {
		_, err := caller.Call(ctxFor(t, time.Minute), "sleeper", "work", nil, nil)
		worked <- err
	}()
	<-began
	look := func(within time.Duration) error {
		_, err := caller.Call(ctxFor(t, within), "sleeper", "look", nil, nil)
		return err
	}
	for busy := time.Now(); time.Since(busy) < 4*idle; {
		if err := look(30 * time.Second); err != nil {
			t.Fatalf("it left while a call was at work: %v", err)
		}
	}
	close(release)
	if err := <-worked; err != nil {
		t.Errorf("the call that was at work: %v", err)
	}
	free := time.Now()
	for left := false; !left; {
		select {
		case err := <-result:
			left = true
			if err != nil || time.Since(free) < idle {
				t.Errorf("Run returned %v, %s after the last call", err, time.Since(free))
			}
		default:
			_ = look(300 * time.Millisecond) // as edges do, all the time
		}
		if time.Since(free) > 30*time.Second {
			t.Fatal("it stays as long as it is looked at")
		}
	}
}

func TestABeatSaysHowBusyTheInstanceWas(t *testing.T) {
	nc := connect(t)
	ups, err := nc.SubscribeSync(subjects.Scale("sleeper", subjects.Up))
	if err != nil {
		t.Fatal(err)
	}
	began, release := make(chan struct{}, 10), make(chan struct{})
	wait := func(context.Context, *functions.Call) (any, error) {
		began <- struct{}{}
		<-release
		return nil, nil
	}
	functionstest.Run(t, nc, sleeper("sleeper", wait, wait), functions.Options{Concurrency: 4})
	beat := func() (up wire.InstanceUp) {
		t.Helper()
		for { // what was said before the question does not count
			if _, err := ups.NextMsg(10 * time.Millisecond); err != nil {
				break
			}
		}
		if err := nc.Publish(subjects.Scale("sleeper", subjects.Who), nil); err != nil {
			t.Fatal(err)
		}
		msg, err := ups.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(msg.Data, &up); err != nil {
			t.Fatal(err)
		}
		return up
	}
	eventually(t, "it is idle", func() bool { up := beat(); return up.Peak == 0 && up.IdleMS > 0 && up.IdleMS < 20_000 })
	caller := functionstest.Caller(t, nc)
	eventually(t, "the instance is known", func() bool { return caller.Instances("sleeper") == 1 })
	var wg sync.WaitGroup
	for i := range 7 {
		method := subjects.Method("work")
		if i >= 5 {
			method = "look"
		}
		wg.Go(func() { _, _ = caller.Call(ctxFor(t, 20*time.Second), "sleeper", method, nil, nil) })
	}
	for range 4 {
		<-began
	}
	// Five of work, of which at least one waits for a worker, and two that do not count.
	eventually(t, "it is busy", func() bool { up := beat(); return up.Peak == 5 && up.IdleMS == 0 })
	close(release)
	wg.Wait()
	beat() // its peak speaks of the time before
	if up := beat(); up.Peak != 0 {
		t.Errorf("the peak stays at %d", up.Peak)
	}
}
