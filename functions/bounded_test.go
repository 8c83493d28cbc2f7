package functions

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What a context is asked, and when.
var lives = map[string]func(ctx context.Context, end, endParent func()){
	"nothing":         func(context.Context, func(), func()) {},
	"over":            func(_ context.Context, end, _ func()) { end() },
	"parent over":     func(_ context.Context, _, endParent func()) { endParent() },
	"late":            func(context.Context, func(), func()) { time.Sleep(2 * time.Second) },
	"late, then over": func(ctx context.Context, end, _ func()) { time.Sleep(2 * time.Second); _ = ctx.Err(); end() },
	"late, then parent over": func(ctx context.Context, _, endParent func()) {
		time.Sleep(2 * time.Second)
		_ = ctx.Err()
		endParent()
	},
	"over, then late": func(_ context.Context, end, _ func()) { end(); time.Sleep(2 * time.Second) },
	"parent over, asked, then late": func(ctx context.Context, _, endParent func()) {
		endParent()
		_ = ctx.Err()
		time.Sleep(2 * time.Second)
	},
	"asked, then over":        func(ctx context.Context, end, _ func()) { ctx.Done(); end() },
	"asked, then parent over": func(ctx context.Context, _, endParent func()) { ctx.Done(); endParent() },
	"asked, then late":        func(ctx context.Context, _, _ func()) { ctx.Done(); time.Sleep(2 * time.Second) },
	"derived, then over":      func(ctx context.Context, end, _ func()) { _, cancel := context.WithCancel(ctx); defer cancel(); end() },
}

type testKey struct{}

// TestABoundedContextIsLikeOneOfPackageContext leads both kinds through the same lives.
func TestABoundedContextIsLikeOneOfPackageContext(t *testing.T) {
	for name, live := range lives {
		for after, derived := range map[string]bool{"itself": false, "one derived from it": true} {
			t.Run(name+", "+after, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					type state struct {
						err, cause error
						done       bool
						value      any
					}
					look := func(make func(context.Context, time.Time) (context.Context, context.CancelFunc)) (s state) {
						parent, endParent := context.WithCancel(context.WithValue(context.Background(), testKey{}, 7))
						defer endParent()
						ctx, end := make(parent, time.Now().Add(time.Second))
						defer end()
						seen := ctx
						if derived {
							var cancel context.CancelFunc
							seen, cancel = context.WithTimeout(WithTrace(ctx, NewTrace()), time.Minute)
							defer cancel()
						}
						live(ctx, end, endParent)
						synctest.Wait()
						s.err, s.cause, s.value = seen.Err(), context.Cause(seen), seen.Value(testKey{})
						select {
						case <-seen.Done():
							s.done = true
						default:
						}
						if at, ok := seen.Deadline(); !ok || time.Until(at) > time.Second {
							t.Errorf("the deadline is %v, %v", at, ok)
						}
						return s
					}
					if got, want := look(WithDeadline), look(context.WithDeadline); got != want {
						t.Errorf("it says %+v, and one of package context %+v", got, want)
					}
				})
			})
		}
	}
}

func TestABoundedContextInsideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, end := WithDeadline(t.Context(), time.Now().Add(time.Second))
		defer end()
		inner, cancel := WithDeadline(outer, time.Now().Add(time.Hour))
		defer cancel()
		if at, _ := inner.Deadline(); time.Until(at) != time.Second {
			t.Errorf("the inner deadline is in %v", time.Until(at))
		}
		told := make(chan struct{})
		context.AfterFunc(inner, func() { close(told) })
		end()
		<-told
		if !errors.Is(inner.Err(), context.Canceled) || !errors.Is(outer.Err(), context.Canceled) {
			t.Errorf("inner: %v, outer: %v", inner.Err(), outer.Err())
		}
	})
}

// TestAContextThatNobodyWaitsForHasNoTimer keeps what WithDeadline is for.
func TestAContextThatNobodyWaitsForHasNoTimer(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	deadline := time.Now().Add(time.Hour)
	if n := testing.AllocsPerRun(100, func() {
		ctx, end := WithDeadline(parent, deadline)
		defer end()
		if ctx.Err() != nil || ctx.Value(testKey{}) != nil {
			t.Error("over before its time")
		}
	}); n > 2 { // itself and its end
		t.Errorf("%v allocations", n)
	}
}
