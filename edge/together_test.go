package edge

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// doubling is a together whose calls wait at a gate.
type doubling struct {
	edge  Edge
	asked together[int, int]
	gate  chan struct{}
	mu    sync.Mutex
	sizes []int
}

func newDoubling(most int) *doubling {
	d := &doubling{gate: make(chan struct{})}
	d.edge.run = func(f func(context.Context)) { d.edge.background.Go(func() { f(context.Background()) }) }
	d.asked = together[int, int]{edge: &d.edge, function: "double", most: most, call: func(_ context.Context, in []int) ([]int, error) {
		d.mu.Lock()
		d.sizes = append(d.sizes, len(in))
		d.mu.Unlock()
		<-d.gate
		out := make([]int, len(in))
		for i, n := range in {
			if n < 0 {
				return nil, wire.Errorf(wire.BadData, "Negative.")
			}
			out[i] = 2 * n
		}
		return out, nil
	}}
	return d
}

// begun compares how many questions the calls so far had.
func (d *doubling) begun(t *testing.T, want ...int) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.sizes, want) {
		t.Errorf("the calls have %v questions, want %v", d.sizes, want)
	}
}

func TestQuestionsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubling(8)
		var all sync.WaitGroup
		ask := func(n int) {
			all.Go(func() {
				if got, err := d.asked.ask(t.Context(), n); err != nil || got != 2*n {
					t.Errorf("%d is answered %d, %v", n, got, err)
				}
			})
			synctest.Wait()
		}
		// Lone ones go at once, up to as many calls as there are processors.
		lone := runtime.GOMAXPROCS(0)
		for n := range lone {
			ask(n)
		}
		sizes := slices.Repeat([]int{1}, lone)
		d.begun(t, sizes...)
		// Then they gather until a call is full, or one has waited for long enough although the calls before hang.
		for n := range 10 {
			ask(100 + n)
		}
		d.begun(t, append(sizes, 8)...)
		time.Sleep(togetherWait - time.Nanosecond)
		d.begun(t, append(sizes, 8)...)
		time.Sleep(time.Nanosecond)
		d.begun(t, append(sizes, 8, 2)...)
		// Those that gathered meanwhile go when a call ends.
		ask(200)
		ask(201)
		close(d.gate)
		all.Wait()
		d.begun(t, append(sizes, 8, 2, 2)...)
		ask(300)
		all.Wait()
		d.begun(t, append(sizes, 8, 2, 2, 1)...)
		if d.asked.running != 0 || d.asked.waiting != nil {
			t.Errorf("%d calls and %d questions are left", d.asked.running, len(d.asked.waiting))
		}
	})
}

func TestQuestionsThatAreNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubling(8)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.asked.ask(ctx, 1); wire.CodeOf(err) != wire.Timeout {
			t.Errorf("one that hangs is answered %v", err)
		}
		close(d.gate)
		if _, err := d.asked.ask(t.Context(), -1); wire.CodeOf(err) != wire.BadData {
			t.Errorf("a call that fails is answered %v", err)
		}
		d.edge.end(func() {})
		if _, err := d.asked.ask(t.Context(), 1); wire.CodeOf(err) != wire.Unavailable {
			t.Errorf("after the end it is answered %v", err)
		}
	})
}
