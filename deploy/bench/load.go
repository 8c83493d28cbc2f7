package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
)

// operation does one thing on a lane, 0 to the number of lanes, and calls done when it is answered, once. It must not wait.
type operation func(lane int, due time.Time, done func(error))

// load is one measurement of something under load.
type load struct {
	lanes  int
	lasts  time.Duration // measured; warm comes before
	warm   time.Duration
	watch  []*process // whose processor time is measured
	random *rand.Rand // of the arrivals in an open loop
	do     operation
	grain  time.Duration // an open loop wakes up no more often than that, for whoever looks at no latency as short
}

// outcome is what one measurement found.
type outcome struct {
	offered   float64 // operations a second that were due; 0 in a closed loop
	rate      float64 // operations a second that were answered within the time
	latency   *Histogram
	late      *Histogram // how much later than due the generator was
	count     uint64     // operations that were answered within the time
	failed    uint64
	err       error // the first failure
	swamped   bool  // it was given up, because more and more waited
	elapsed   time.Duration
	used      []time.Duration // processor time of those watched; nil = unknown
	generator time.Duration   // processor time of this process
}

// perOperation returns the processor time that those watched used for one operation, in microseconds; 0 = unknown.
func (o outcome) perOperation() float64 {
	if o.count == 0 {
		return 0
	}
	return o.cpu().Seconds() * 1e6 / float64(o.count)
}

// cpu returns the processor time of those watched together.
func (o outcome) cpu() time.Duration {
	var all time.Duration
	for _, used := range o.used {
		all += used
	}
	return all
}

// meter reads processor time at the two ends of a measurement.
type meter struct {
	watch []*process
	begun time.Time
	at    []time.Duration
	own   time.Duration
	taken []func() // wait for the profiles
}

func startMeter(watch []*process) *meter {
	m := &meter{watch: watch}
	for _, p := range watch {
		if p.profiles != nil {
			m.taken = append(m.taken, p.profiles.take())
		}
	}
	m.at, m.own = m.read()
	m.begun = time.Now()
	return m
}

// read returns the processor time of those watched, nil where it is unknown, and of this process.
func (m *meter) read() (all []time.Duration, own time.Duration) {
	own, err := processorTime(os.Getpid())
	if err != nil {
		return nil, 0
	}
	for _, p := range m.watch {
		used, err := processorTime(p.pid())
		if err != nil {
			return nil, own
		}
		all = append(all, used)
	}
	return all, own
}

// stop puts what was used since the start into an outcome.
func (m *meter) stop(o *outcome) {
	o.elapsed = time.Since(m.begun)
	all, own := m.read()
	if len(all) == len(m.at) {
		for i := range all {
			o.used = append(o.used, all[i]-m.at[i])
		}
	}
	o.generator = own - m.own
	for _, taken := range m.taken {
		taken()
	}
}

// closed keeps one operation under way on each lane: the next begins when the one before is answered.
func (l load) closed(ctx context.Context) outcome {
	o := outcome{latency: &Histogram{}, late: &Histogram{}}
	var counting, stopping atomic.Bool
	var t tally
	var run func(lane int)
	run = func(lane int) {
		begun, counted := time.Now(), counting.Load()
		l.do(lane, begun, func(err error) {
			defer t.waiting.Add(-1)
			if err != nil {
				t.fail(err)
				return // a lane that failed rests, so that a dead connection does not spin
			}
			if counted && counting.Load() {
				o.latency.Record(time.Since(begun))
				t.within.Add(1)
			}
			if !stopping.Load() {
				t.waiting.Add(1)
				run(lane)
			}
		})
	}
	t.waiting.Add(int64(l.lanes))
	for lane := range l.lanes {
		run(lane)
	}
	wait(ctx, l.warm)
	m := startMeter(l.watch)
	counting.Store(true)
	wait(ctx, l.lasts)
	for end := time.Now().Add(drainWithin); t.within.Load() == 0 && t.waiting.Load() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Millisecond) // nothing at all would be no measurement
	}
	counting.Store(false)
	m.stop(&o)
	stopping.Store(true)
	t.settle(ctx, &o)
	return o
}

// tally counts what became of operations.
type tally struct {
	waiting        atomic.Int64
	within, failed atomic.Uint64
	first          atomic.Pointer[error]
}

func (t *tally) fail(err error) {
	t.failed.Add(1)
	t.first.CompareAndSwap(nil, &err)
}

// settle waits for the last operations and puts what is counted into an outcome; what is not answered by then has failed.
func (t *tally) settle(ctx context.Context, o *outcome) {
	o.count = t.within.Load()
	for end := time.Now().Add(drainWithin); t.waiting.Load() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	if left := t.waiting.Load(); left > 0 {
		t.fail(fmt.Errorf("%d were not answered within %v", left, drainWithin))
		t.failed.Add(uint64(left) - 1)
	}
	o.failed = t.failed.Load()
	if err := t.first.Load(); err != nil {
		o.err = *err
	}
	if o.elapsed > 0 {
		o.rate = float64(o.count) / o.elapsed.Seconds()
	}
}

// drainWithin bounds how long the last operations of an open loop are waited for.
const drainWithin = 60 * time.Second

// leastDue is how many operations at least are due while an open loop is measured, on average.
const leastDue = 20

// paced begins operations at a given rate, whether those before are answered or not: on a random lane each, at the times of a Poisson process. What is measured is the time from when an operation
// was due, so a server that stalls is charged for all that would have come meanwhile. It gives up when as many wait as come in a second and a half.
func (l load) paced(ctx context.Context, rate float64) outcome {
	o := outcome{offered: rate, latency: &Histogram{}, late: &Histogram{}}
	begun := time.Now()
	from := begun.Add(l.warm)
	until := from.Add(max(l.lasts, time.Duration(leastDue/rate*float64(time.Second))))
	var t tally
	most := int64(max(rate*1.5, 64, float64(l.lanes)))
	var m *meter
	for due := begun.Add(l.gap(rate)); due.Before(until) && ctx.Err() == nil; due = due.Add(l.gap(rate)) {
		if ahead := time.Until(due); ahead > 0 {
			pause(max(ahead, l.grain))
		}
		if m == nil && !due.Before(from) {
			m = startMeter(l.watch)
		}
		if t.waiting.Load() > most {
			o.swamped = true
			break
		}
		counted := m != nil
		if counted {
			o.late.Record(time.Since(due))
		}
		t.waiting.Add(1)
		l.do(l.random.IntN(l.lanes), due, func(err error) {
			defer t.waiting.Add(-1)
			if err != nil {
				t.fail(err)
				return
			}
			if now := time.Now(); counted {
				o.latency.Record(now.Sub(due))
				if now.Before(until) {
					t.within.Add(1)
				}
			}
		})
	}
	if m == nil {
		m = startMeter(l.watch)
	}
	m.stop(&o)
	t.settle(ctx, &o)
	return o
}

// gap draws the time from one arrival to the next.
func (l load) gap(rate float64) time.Duration {
	return time.Duration(l.random.ExpFloat64() / rate * float64(time.Second))
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
