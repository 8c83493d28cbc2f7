package load

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	sweepEvery  = 250 * time.Millisecond
	settleAfter = 1500 * time.Millisecond // beats and demands repeat every second, give or take a tenth
)

// Watcher hears of all functions. Its methods may be called at the same time. One goroutine, run, takes in what is heard; mu guards all
// fields below it, and is held for microseconds.
type Watcher struct {
	nc     *nats.Conn
	log    *slog.Logger
	began  time.Time
	events chan *nats.Msg // filled by the connection's reader; when it is full events are dropped, and the next beats and demands mend that
	subs   []*nats.Subscription
	done   chan struct{}
	wg     sync.WaitGroup

	mu        sync.Mutex
	functions map[subjects.Function]*function
	since     time.Time // when it began to hear without a break; zero = it is cut off
	counting  map[subjects.Function]context.CancelFunc
	closed    bool
}

// New returns a Watcher on an open connection, which stays the program's. Instances that are up are known within milliseconds, all that
// waits within two seconds.
func New(nc *nats.Conn, log *slog.Logger) (*Watcher, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{
		nc: nc, log: log, began: time.Now(), events: make(chan *nats.Msg, 4096), done: make(chan struct{}),
		functions: map[subjects.Function]*function{}, counting: map[subjects.Function]context.CancelFunc{},
	}
	// One channel for all, so that an instance's up and bye stay in order.
	for _, verb := range []subjects.Verb{subjects.Up, subjects.Bye, subjects.Demand} {
		sub, err := nc.ChanSubscribe(subjects.AllOf(verb), w.events)
		if err != nil {
			w.unsubscribe()
			return nil, fmt.Errorf("subscribe to %s: %w", verb, err)
		}
		w.subs = append(w.subs, sub)
	}
	connected := nc.StatusChanged(nats.CONNECTED)
	if nc.IsConnected() {
		w.since = w.began
	}
	w.wg.Go(func() {
		defer nc.RemoveStatusListener(connected)
		w.run(connected)
	})
	w.who(subjects.Everyone)
	return w, nil
}

// Close ends the Watcher's subscriptions and goroutines. It may be called more than once.
func (w *Watcher) Close() {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	for _, stop := range w.counting {
		stop()
	}
	w.mu.Unlock()
	if again {
		return
	}
	w.unsubscribe()
	close(w.done)
	w.wg.Wait()
}

// Of returns the load of a function; one that nobody has spoken of has none.
func (w *Watcher) Of(name subjects.Function) Load {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.functions[name]
	if f == nil {
		return Load{}
	}
	return f.load(time.Now(), w.began)
}

// Changed returns a channel that is closed at the next change of a function's load that is worth a decision: a caller holds more than
// before, an instance comes or goes, events begin to wait. Take it before you read Of.
func (w *Watcher) Changed(name subjects.Function) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.of(name)
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// Settled reports whether the Watcher has listened for long enough that silence means that there is nothing. It is false for the first 1.5 s,
// while the connection is down, and for 1.5 s after that.
func (w *Watcher) Settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.since.IsZero() && time.Since(w.since) >= settleAfter
}

// of returns the record of a function. mu is held.
func (w *Watcher) of(name subjects.Function) *function {
	f := w.functions[name]
	if f == nil {
		f = &function{}
		w.functions[name] = f
	}
	return f
}

// tell wakes those who wait for a change. mu is held.
func (f *function) tell() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (w *Watcher) unsubscribe() {
	for _, sub := range w.subs {
		_ = sub.Unsubscribe() // fails only where the connection has forgotten it already
	}
}

func (w *Watcher) run(connected <-chan nats.Status) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-w.done:
			return
		case msg := <-w.events:
			w.heard(msg)
		case <-connected:
			w.renew()
		case <-ticker.C:
			w.sweep()
		}
	}
}

// heard takes in an event. What cannot be read, or speaks of another function than its subject, is ignored.
func (w *Watcher) heard(msg *nats.Msg) {
	var event struct { // the fields of InstanceUp and InstanceBye, or of Demand
		wire.InstanceUp
		Caller string `json:"caller"`
		Held   int    `json:"held"`
	}
	if err := json.Unmarshal(msg.Data, &event); err != nil {
		w.log.Debug("scaling event cannot be read", "subject", msg.Subject)
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	f, changed := w.of(event.Function), false
	switch {
	case event.Instance != "" && msg.Subject == subjects.Scale(event.Function, subjects.Up):
		changed = f.up(event.InstanceUp, now, w.began)
	case event.Instance != "" && msg.Subject == subjects.Scale(event.Function, subjects.Bye):
		_, changed = f.instances[event.Instance]
		delete(f.instances, event.Instance)
	case event.Caller != "" && msg.Subject == subjects.Scale(event.Function, subjects.Demand):
		changed = f.demand(wire.Demand{Caller: event.Caller, Held: event.Held}, now)
	}
	if changed {
		f.tell()
	}
	if f.empty() {
		delete(w.functions, event.Function)
	}
}

// renew starts anew after a reconnect.
func (w *Watcher) renew() {
	now := time.Now()
	w.mu.Lock()
	w.since = now
	for _, f := range w.functions {
		f.renew(now)
	}
	w.mu.Unlock()
	w.who(subjects.Everyone)
}

// sweep forgets what nobody has repeated and asks those that have been silent. While the connection is down nothing can be heard, so
// nothing is forgotten.
func (w *Watcher) sweep() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.nc.IsConnected() {
		w.since = time.Time{}
		return
	}
	if w.since.IsZero() {
		return // renew comes
	}
	for name, f := range w.functions {
		gone, ask := f.sweep(now)
		if gone {
			f.tell()
		}
		if ask {
			w.who(name)
		}
		if f.empty() {
			delete(w.functions, name)
		}
	}
}

func (w *Watcher) who(f subjects.Function) {
	if err := w.nc.Publish(subjects.Scale(f, subjects.Who), nil); err != nil {
		w.log.Debug("question not sent", "function", string(f), "err", err)
	}
}
