package functions

import (
	"sync"
	"time"
)

// activity is what an instance notes of the calls that are not passive: how many are in its hands, at work or waiting, the most there were, and
// since when there has been none. Passive calls are not seen here, so that a caller that asks again and again keeps no instance awake.
type activity struct {
	mu    sync.Mutex
	busy  int
	peak  int       // the most at once since the last beat
	since time.Time // when the newest call ended, or the instance came up
}

// up starts the count: what came before the instance was ready is no idleness.
func (a *activity) up() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since = time.Now()
}

// begin notes a call that was handed over; end must follow.
func (a *activity) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy++
	a.peak = max(a.peak, a.busy)
}

func (a *activity) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy--
	a.since = time.Now()
}

// idle returns for how long there has been no call, 0 while there is one.
func (a *activity) idle() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy > 0 {
		return 0
	}
	return time.Since(a.since)
}

// beat returns the most calls at once since it was asked last.
func (a *activity) beat() (peak int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	peak, a.peak = a.peak, a.busy
	return peak
}
