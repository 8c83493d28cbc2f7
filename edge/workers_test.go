package edge

import (
	"fmt"
	"testing"

	"github.com/confab-im/confab/subjects/wire"
)

// resting returns how many workers wait for a call.
func (r *running) resting() int {
	r.workers.mu.Lock()
	defer r.workers.mu.Unlock()
	return len(r.workers.idle)
}

// waiting returns how many calls of echo.wait have begun.
func (w *world) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.gates)
}

func TestWorkersAreUsedAgainAndLeave(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	c := r.connect(t, w, "ada", "web")
	for range 20 {
		if _, err := c.call("echo.say", wire.Empty{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the worker rests", func() bool { return r.resting() == 1 })
	}
	const calls = 10
	var answers []chan wire.ServerFrame
	for i := range calls {
		answers = append(answers, c.begin("echo.wait", map[string]any{"gate": fmt.Sprint("gate", i)}))
	}
	eventually(t, "all calls are at work", func() bool { return w.waiting() == calls })
	for i := range calls {
		close(w.gate(fmt.Sprint("gate", i)))
	}
	for _, a := range answers {
		<-a
	}
	eventually(t, "all workers rest", func() bool { return r.resting() == calls })
	r.workers.sweep() // notes how many nobody misses
	r.workers.sweep()
	eventually(t, "all workers have left", func() bool { return r.resting() == 0 })
	if _, err := c.call("echo.say", wire.Empty{}); err != nil {
		t.Errorf("after the workers left: %v", err)
	}
}

func TestTheEndOfASocketEndsOnlyItsOwnCalls(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	gone, stays := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web")
	gone.begin("echo.wait", map[string]any{"gate": "never"})
	eventually(t, "the call is at work", func() bool { return w.waiting() == 1 })
	gone.close()
	eventually(t, "its worker rests", func() bool { return r.resting() == 1 })
	close(w.gate("never"))
	for range 3 {
		if _, err := stays.call("echo.say", wire.Empty{}); err != nil {
			t.Fatalf("a call of another socket, by the same worker: %v", err)
		}
	}
}
