package load

import (
	"maps"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// How long what was heard counts.
const (
	lease     = 3 * time.Second        // of an instance, since its last beat, and of a caller's word; both repeat every second
	doubt     = 2 * time.Second        // of silence, after which an instance is asked
	wholeBeat = 850 * time.Millisecond // less than that lies between two beats only if somebody asked
	window    = 15                     // seconds of Lately, as long as a horizontal autoscaler looks away
	most      = 1 << 20                // calls in one event: more is nonsense and would overflow sums
	longest   = 1000 * time.Hour       // likewise of being idle
	second    = int64(time.Second)
)

// function is what is known of one function. The Watcher's lock guards it.
type function struct {
	instances map[string]*instance
	callers   map[string]word
	backlog   int
	changed   chan struct{} // nil = nobody waits
}

// word is what a caller said last.
type word struct {
	held int
	at   time.Time
}

// instance is one that is up.
type instance struct {
	came        time.Time
	seen        time.Time // of its newest beat
	concurrency int
	idle        time.Duration // at seen
	peak        int           // of its newest whole beat
	peaked      time.Time     // when peak was said
	peaks       [window]mark  // by second
}

// mark is the high-water mark of a second, counted from the start of the Watcher.
type mark struct {
	second int64
	peak   int
}

// up notes a beat and reports whether the instance is new. began is the start of the Watcher.
func (f *function) up(up wire.InstanceUp, now, began time.Time) bool {
	if f.instances == nil {
		f.instances = map[string]*instance{}
	}
	in, known := f.instances[up.Instance]
	if !known {
		in = &instance{came: now, seen: now}
		f.instances[up.Instance] = in
	}
	peak := min(max(up.Peak, 0), most)
	// A beat that was asked for comes soon after the one before and speaks of less time than a second.
	if peak >= in.peak || now.Sub(in.peaked) > wholeBeat {
		in.peak, in.peaked = peak, now
	}
	from, to := int64(in.seen.Sub(began))/second, int64(now.Sub(began))/second
	for s := max(from, to-window+1); s <= to; s++ {
		in.note(s, peak)
	}
	in.seen, in.concurrency = now, min(max(up.Concurrency, 1), most)
	in.idle = time.Duration(min(max(up.IdleMS, 0), longest.Milliseconds())) * time.Millisecond
	return !known
}

func (in *instance) note(second int64, peak int) {
	m := &in.peaks[second%window]
	if m.second != second {
		*m = mark{second: second}
	}
	m.peak = max(m.peak, peak)
}

// demand notes a caller's word and reports whether it holds more than before.
func (f *function) demand(d wire.Demand, now time.Time) bool {
	before := f.callers[d.Caller].held
	if d.Held <= 0 {
		delete(f.callers, d.Caller)
		return false
	}
	if f.callers == nil {
		f.callers = map[string]word{}
	}
	f.callers[d.Caller] = word{held: min(d.Held, most), at: now}
	return d.Held > before
}

// sweep forgets what nobody has repeated, and reports whether an instance is gone and whether one should be asked.
func (f *function) sweep(now time.Time) (gone, ask bool) {
	before := len(f.instances)
	maps.DeleteFunc(f.instances, func(_ string, in *instance) bool { return now.Sub(in.seen) > lease })
	maps.DeleteFunc(f.callers, func(_ string, w word) bool { return now.Sub(w.at) > lease })
	for _, in := range f.instances {
		ask = ask || now.Sub(in.seen) > doubt
	}
	return len(f.instances) < before, ask
}

// renew makes everything count as heard now: nothing could be heard before.
func (f *function) renew(now time.Time) {
	for _, in := range f.instances {
		in.idle += now.Sub(in.seen)
		in.seen = now
	}
	for name, w := range f.callers {
		f.callers[name] = word{w.held, now}
	}
}

// empty reports whether there is nothing worth remembering.
func (f *function) empty() bool {
	return len(f.instances) == 0 && len(f.callers) == 0 && f.backlog == 0 && f.changed == nil
}

// load sums up.
func (f *function) load(now, began time.Time) Load {
	l := Load{Instances: len(f.instances), Names: slices.Sorted(maps.Keys(f.instances)), Backlog: f.backlog, Held: f.held()}
	for _, in := range f.instances {
		idle := in.idle + now.Sub(in.seen)
		if l.Concurrency == 0 || idle < l.IdleFor {
			l.IdleFor = idle
		}
		if l.Concurrency == 0 || in.concurrency < l.Concurrency {
			l.Concurrency = in.concurrency
		}
		l.Peak += in.peak
	}
	for s, to := max(0, int64(now.Sub(began))/second-window+1), int64(now.Sub(began))/second; s <= to; s++ {
		sum := 0
		for _, in := range f.instances {
			if m := in.peaks[s%window]; m.second == s {
				sum += m.peak
			}
		}
		l.Lately = max(l.Lately, sum)
	}
	return l
}

// held sums up the callers' words. Each caller sends at once what an instance that comes up has room for, and says so up to a second later:
// until then that much is not counted, or it would be counted twice.
func (f *function) held() int {
	sum := 0
	for _, w := range f.callers {
		left := w.held
		for _, in := range f.instances {
			if in.came.After(w.at) {
				left -= in.concurrency
			}
		}
		sum += max(0, left)
	}
	return sum
}
