package scaler_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/scaler"
)

// The best of a few tries is held against the limit, since the machine may be busy with other things.
func TestAHeldCallWakesAFunctionAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, address, _ := start(t, scaler.Config{NATS: w.server.Connect(t)})
	o := operate(t, w.server.URL, 1, 4, address)
	eventually(t, "the scaler judges", func() bool { return s.Ready() == nil })
	best := time.Hour
	for range 3 {
		began := time.Now()
		w.call(1, 0)
		w.settle()
		o.mu.Lock()
		best = min(best, o.woke.Sub(began))
		o.mu.Unlock()
		eventually(t, "the function sleeps again", func() bool { replicas, _, _ := o.state(); return replicas == 0 })
	}
	if best > 100*time.Millisecond {
		t.Errorf("it took %v from the call to the start of an instance", best)
	}
	if _, _, pushes := o.state(); pushes < 3 {
		t.Errorf("%d pushes came", pushes)
	}
}

func TestFromNothingToFourAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, address, _ := start(t, scaler.Config{NATS: w.server.Connect(t)})
	o := operate(t, w.server.URL, 1, 4, address)
	w.call(40, 400*time.Millisecond)
	w.settle()
	if _, most, _ := o.state(); most != 4 {
		t.Errorf("40 calls of 400 ms were worked on by %d instances at most, of 4 calls each", most)
	}
	eventually(t, "the function sleeps again", func() bool { replicas, _, _ := o.state(); return replicas == 0 })
}

func TestABurstAtZeroStartsAsManyAsItWakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, address, _ := start(t, scaler.Config{NATS: w.server.Connect(t)})
	o := operate(t, w.server.URL, 3, 3, address)
	w.call(1, 0)
	eventually(t, "three instances start", func() bool { replicas, _, _ := o.state(); return replicas == 3 })
	w.settle()
}

// Calls are held before there is any scaler, and while it is dead: what was said to nobody is said again.
func TestScalersDieAndNothingIsLost(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "asked to end": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.call(3, 0)
			eventually(t, "the calls are held", func() bool { return w.caller.Held("echo") == 3 })
			first := spawn(t, w.server.URL, "127.0.0.1:0")
			o := operate(t, w.server.URL, 1, 2, first.address)
			w.settle()
			eventually(t, "the function sleeps again", func() bool { replicas, _, _ := o.state(); return replicas == 0 })
			first.end(t, signal)
			w.call(8, 50*time.Millisecond)
			eventually(t, "the calls are held", func() bool { return w.caller.Held("echo") == 8 })
			spawn(t, w.server.URL, first.address)
			w.settle()
		})
	}
}

// While calls are worked on, a scaler that has just started must not have the instances taken away that it does not know of yet.
func TestAScalerKilledUnderLoadTakesNothingAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := spawn(t, w.server.URL, "127.0.0.1:0")
	o := operate(t, w.server.URL, 1, 1, first.address)
	w.call(4, 4*time.Second)
	eventually(t, "the calls are worked on", func() bool { return w.caller.Instances("echo") == 1 && w.caller.Held("echo") == 0 })
	first.end(t, syscall.SIGKILL)
	spawn(t, w.server.URL, first.address)
	began := time.Now()
	eventually(t, "the new scaler has had time to be wrong", func() bool { return time.Since(began) > 2500*time.Millisecond })
	if replicas, _, _ := o.state(); replicas != 1 {
		t.Errorf("after a restart of the scaler there are %d instances", replicas)
	}
	w.settle()
}

func TestTwoScalersAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, first, stop := start(t, scaler.Config{NATS: w.server.Connect(t)})
	b, second, _ := start(t, scaler.Config{NATS: w.server.Connect(t)})
	eventually(t, "both judge", func() bool { return a.Ready() == nil && b.Ready() == nil })
	o := operate(t, w.server.URL, 1, 4, first, second)
	w.call(20, 100*time.Millisecond)
	eventually(t, "an instance is up", func() bool { return w.caller.Instances("echo") > 0 })
	stop()
	w.call(20, 100*time.Millisecond)
	w.settle()
	eventually(t, "the function sleeps again", func() bool { replicas, _, _ := o.state(); return replicas == 0 })
}
