// Package load knows how much work there is for each function: which instances are up, what callers hold, how many calls ran at once, what
// events wait. It hears all of that on NATS and keeps no state beyond the last seconds, so that any number of watchers agree and one that
// starts anew knows everything within two seconds.
//
// Whoever starts instances decides with it: the supervisor on one machine, the scaler on Kubernetes. It starts nothing itself.
package load

import (
	"time"

	"github.com/confab-im/confab/deploy/manifest"
)

// eventsPerWorker is how many waiting events or jobs count as one call at work: they take milliseconds, and a further instance is not worth
// its start for what those that run have done by then.
const eventsPerWorker = 10

// Load is how much work there is for one function at a moment.
type Load struct {
	Instances   int           // that are up and have not said bye
	Names       []string      // of the instances, in ascending order
	Concurrency int           // calls that one instance works on at once, the least of those up; 0 = none is up
	Held        int           // calls that callers hold and that no instance has room for, over all callers
	Peak        int           // calls at work or waiting in instances at once, at most, over the last beat; passive ones do not count
	Lately      int           // the most that Peak was over the last 15 s while the same instances were up
	Backlog     int           // events and jobs that wait; 0 where nobody counts them
	IdleFor     time.Duration // since the newest call to any instance that is up, or its start; 0 = none is up
}

// Busy returns how many calls there are to work on at once, for those who look all the time; waiting events count a tenth.
func (l Load) Busy() int { return l.Peak + l.Held + l.events() }

// BusyLately is Busy for those who look a few times a minute and would miss a peak in between.
func (l Load) BusyLately() int { return max(l.Peak, l.Lately) + l.Held + l.events() }

func (l Load) events() int { return (l.Backlog + eventsPerWorker - 1) / eventsPerWorker }

// Waits reports whether there is work that nobody has begun.
func (l Load) Waits() bool { return l.Held > 0 || l.Backlog > 0 }

// Wanted returns how many instances there should be, from scale.Min to scale.Max: as many as work on all of Busy at once, and scale.Wake at
// least where work waits and none is up. Concurrency is how many calls one instance works on at once, from 1.
func (l Load) Wanted(scale manifest.Scale, concurrency int) int {
	concurrency = max(1, concurrency)
	wanted := (l.Busy() + concurrency - 1) / concurrency
	if l.Instances == 0 && l.Waits() {
		wanted = max(wanted, scale.Wake)
	}
	return min(max(wanted, scale.Min), scale.Max)
}
