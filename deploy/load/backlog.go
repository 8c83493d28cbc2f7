package load

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// How often it is counted what waits.
const (
	countEvery   = time.Second
	countTimeout = 2 * time.Second
	countAgain   = 50 * time.Millisecond // what was said may be stored, and so counted, a little later
)

// Counter returns how many events and jobs wait for a function, from 0.
type Counter func(ctx context.Context, f subjects.Function) (int, error)

// Count has the Watcher count what waits for a function until ctx ends or the Watcher is closed, and returns at once. It counts every second, and at once
// when an entry or a job is stored while no instance is up. A count that fails leaves the one before; the first failure in a row is
// logged. For a function that is counted already nothing changes.
func (w *Watcher) Count(ctx context.Context, name subjects.Function, count Counter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, counts := w.counting[name]; counts || w.closed {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w.counting[name] = cancel
	w.wg.Go(func() {
		defer cancel()
		w.count(ctx, name, count)
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.counting, name)
		w.waiting(name, 0)
	})
}

func (w *Watcher) count(ctx context.Context, name subjects.Function, count Counter) {
	moved := make(chan *nats.Msg, 4)
	var subs []*nats.Subscription
	disarm := func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // it may have had its message
		}
		subs = nil
	}
	defer disarm()
	failed := false
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-moved:
			disarm()
			wait = countAgain
		case <-time.After(wait):
			wait = countEvery - countEvery/10 + rand.N(countEvery/5)
		}
		waits, err := w.ask(ctx, name, count)
		if err != nil && !failed && ctx.Err() == nil {
			w.log.Warn("events that wait cannot be counted", "function", string(name), "err", err)
		}
		if failed = err != nil; failed {
			continue
		}
		w.mu.Lock()
		asleep := w.waiting(name, waits)
		w.mu.Unlock()
		switch {
		case !asleep || waits > 0:
			disarm()
		case len(subs) == 0:
			subs = w.arm(moved)
		}
	}
}

func (w *Watcher) ask(ctx context.Context, name subjects.Function, count Counter) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	return count(ctx, name)
}

// waiting notes a count and reports whether no instance is up. mu is held.
func (w *Watcher) waiting(name subjects.Function, waits int) (asleep bool) {
	f := w.of(name)
	rose := f.backlog == 0 && waits > 0
	f.backlog = min(max(waits, 0), most)
	if rose {
		f.tell()
	}
	asleep = len(f.instances) == 0
	if f.empty() {
		delete(w.functions, name)
	}
	return asleep
}

// arm has the next entry and the next job reported, once: a Watcher does not listen to all that is said to find out whether anything is.
func (w *Watcher) arm(moved chan *nats.Msg) (subs []*nats.Subscription) {
	for _, subject := range []string{subjects.AllLive, subjects.AllJobs} {
		sub, err := w.nc.ChanSubscribe(subject, moved)
		if err != nil {
			continue // counting every second goes on
		}
		_ = sub.AutoUnsubscribe(1) // fails only where the connection is closed
		subs = append(subs, sub)
	}
	return subs
}
