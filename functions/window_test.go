package functions_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
)

// The killed instance has calls in hand of which nobody will ever hear again. Others must not wait for their places until their time is over.
func TestTheCallsOfAKilledInstanceGiveTheirPlacesBack(t *testing.T) {
	t.Parallel()
	const calls, timeout = 30, 20 * time.Second
	url := startServer(t)
	caller := functionstest.Caller(t, connect(t, url))
	f := func(h functions.Handler) functions.Function {
		return functions.Function{
			Name: "slow", Description: "Takes its time", Methods: []functions.Method{{Name: "work", Timeout: timeout}},
			New: func(context.Context, functions.Env) (functions.Handlers, error) {
				return functions.Handlers{"work": h}, nil
			},
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var answered atomic.Int32
	for i := range calls {
		header := functionstest.As(subjects.User(fmt.Sprint("user", i))).Header()
		wg.Go(func() {
			if _, err := caller.Call(ctx, "slow", "work", header, nil); err == nil {
				answered.Add(1)
			}
		})
	}
	eventually(t, "the calls are held", func() bool { return caller.Held("slow") == calls })
	took := make(chan struct{}, calls)
	kill := process(t, url, f(func(ctx context.Context, _ *functions.Call) (any, error) {
		took <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}), functions.Options{Concurrency: 4, Waiting: 1})
	for range 4 {
		<-took
	}
	release := make(chan struct{})
	functionstest.Run(t, connect(t, url), f(func(ctx context.Context, _ *functions.Call) (any, error) {
		<-release
		return nil, ctx.Err()
	}), functions.Options{Concurrency: 4})
	eventually(t, "both are known", func() bool { return caller.Instances("slow") == 2 })
	eventually(t, "the window is full", func() bool { return caller.Held("slow") == calls-8 })
	kill()
	eventually(t, "the lease ends", func() bool { return caller.Instances("slow") == 1 })
	close(release)
	eventually(t, "all calls have been released", func() bool { return caller.Held("slow") == 0 })
	// More may be lost than the killed instance could work on: it refuses calls while it is full, and those may have been on their way to it once more. What was sent
	// at once is the bound.
	eventually(t, "all calls but those of the killed instance are answered", func() bool { return answered.Load() >= calls-8 })
}
