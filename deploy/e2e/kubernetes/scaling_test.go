package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestAFunctionWakesGrowsAndSleepsAgain(t *testing.T) {
	c := newCallers(t, chat(t))
	reaches(t, "work", 0)
	begun := time.Now()
	after := func(what string) { t.Logf("%-36s after %5.1f s", what, time.Since(begun).Seconds()) }

	c.call(1, 0)
	c.wait.Wait()
	after("0 → 1: the held call is answered")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	load.Go(func() { // 16 calls at once are what four instances of work take
		for ctx.Err() == nil {
			c.call(16, 500*time.Millisecond)
			c.wait.Wait()
		}
	})
	reaches(t, "work", 4)
	after("1 → 4")
	cancel()
	load.Wait()
	reaches(t, "work", 0)
	after("4 → 0")
	for _, part := range slices.Sorted(maps.Keys(cluster.Resident())) {
		t.Logf("%-36s %6.1f MiB", part, float64(cluster.Resident()[part])/(1<<20))
	}
	c.call(1, 0)
	c.wait.Wait()
	after("0 → 1: the held call is answered")
	c.settle()
}

func TestABurstAtZeroIsAnswered(t *testing.T) {
	c := newCallers(t, chat(t))
	reaches(t, "work", 0)
	begun := time.Now()
	c.call(400, 10*time.Millisecond)
	c.settle()
	t.Logf("400 calls at zero were answered within %s", time.Since(begun).Round(time.Millisecond))
}

// TestAMessageWakesAFunction: nobody calls a function that works on entries.
func TestAMessageWakesAFunction(t *testing.T) {
	caller := functionstest.Caller(t, chat(t).connect(t, natsconfig.Edge))
	ada := functionstest.As("ada")
	registration := wire.Register{User: "ada", Password: "correct horse battery"}
	if _, err := functions.Invoke[wire.Register, wire.Tokens](t.Context(), caller, nil, "auth", "register", registration); err != nil {
		t.Fatal(err)
	}
	registration.User = "bob"
	if _, err := functions.Invoke[wire.Register, wire.Tokens](t.Context(), caller, nil, "auth", "register", registration); err != nil {
		t.Fatal(err)
	}
	reaches(t, "work", 0)
	message := wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("good morning")}
	if _, err := functions.Invoke[wire.Post, wire.Posted](t.Context(), caller, ada, "send", "post", message); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := until(t.Context(), func(context.Context) error {
		if said(t, "saw")[message.ClientID] == 0 {
			return errors.New("work has not seen the message")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("seen %s after it was stored", time.Since(begun).Round(time.Millisecond))
	reaches(t, "work", 0)
	if times := said(t, "saw")[message.ClientID]; times != 1 {
		t.Errorf("work saw the message %d times", times)
	}
}

// cold is a call to each of some functions that changes nothing.
var cold = map[subjects.Function]struct {
	method subjects.Method
	data   any
}{
	"presence":      {"get", wire.UsersQuery{Users: []subjects.User{"ada"}}},
	"history":       {"heads", wire.HeadsQuery{}},
	"receipts":      {"who", map[string]any{"conversation": "g.nowhere"}},
	"conversations": {"get", map[string]any{"conversation": "g.nowhere"}},
	"work":          {"do", map[string]any{"id": "cold", "ms": 0}},
}

// TestColdCalls measures how long a call takes whose function has no instance.
func TestColdCalls(t *testing.T) {
	i := chat(t)
	const rounds = 10
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	for function, call := range cold {
		caller := functionstest.Caller(t, i.connect(t, natsconfig.Edge))
		data, err := json.Marshal(call.data)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for range rounds {
				reaches(t, string(function), 0)
				time.Sleep(rand.N(time.Second)) // spread the calls of the functions, so that none waits for another's process to start
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				begun := time.Now()
				_, err := caller.Call(ctx, function, call.method, functionstest.As("ada").Header(), data)
				elapsed := time.Since(begun)
				cancel()
				if wire.CodeOf(err) == wire.Unavailable || wire.CodeOf(err) == wire.Timeout {
					t.Errorf("cold call of %s: %v", function, err)
				}
				mu.Lock()
				took = append(took, elapsed)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d cold calls: p50 %s, p99 %s, longest %s", len(took), quantile(took, .5), quantile(took, .99), quantile(took, 1))
}
