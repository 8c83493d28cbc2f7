package functions

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// beatEvery is how often an instance repeats that it is up, give or take a tenth. Three missed beats end its lease in callers' tables.
const beatEvery = time.Second

// announcer says up and bye for an instance. mu makes sure that no up follows the bye. It owns the goroutine of the beat.
type announcer struct {
	nc       *nats.Conn
	log      *slog.Logger
	up       wire.InstanceUp // without what changes from beat to beat
	activity *activity
	subs     []*nats.Subscription
	done     chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex // also guards up.Impaired
	begun bool       // callers may hear of the instance
	ended bool
}

func newAnnouncer(nc *nats.Conn, log *slog.Logger, up wire.InstanceUp, activity *activity) *announcer {
	return &announcer{nc: nc, log: log, up: up, activity: activity, done: make(chan struct{})}
}

// start says up for the first time as soon as the server knows all subscriptions made before, so that a call that follows finds them.
func (a *announcer) start(ctx context.Context) error {
	for _, f := range []subjects.Function{a.up.Function, subjects.Everyone} {
		sub, err := a.nc.Subscribe(subjects.Scale(f, subjects.Who), func(*nats.Msg) { a.sayUp() })
		if err != nil {
			a.stop()
			return fmt.Errorf("subscribe to who: %w", err)
		}
		a.subs = append(a.subs, sub)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := cmp.Or(a.nc.FlushWithContext(ctx), ctx.Err()); err != nil { // both may be there: who is to end says no up
		a.stop()
		return fmt.Errorf("flush subscriptions: %w", err)
	}
	a.mu.Lock()
	a.begun = true
	a.mu.Unlock()
	a.sayUp()
	a.wg.Go(a.beat)
	return nil
}

// impair says at once that the calls of the instance cannot succeed, and why, or that they can again.
func (a *announcer) impair(reason string) {
	a.mu.Lock()
	changed, begun := a.up.Impaired != reason, a.begun
	a.up.Impaired = reason
	a.mu.Unlock()
	switch {
	case !changed:
		return
	case reason == "":
		a.log.Info("calls can succeed again", "instance", a.up.Instance)
	default:
		a.log.Warn("calls cannot succeed", "instance", a.up.Instance, "reason", reason)
	}
	if begun {
		a.sayUp()
	}
}

func (a *announcer) beat() {
	timer := time.NewTimer(beatEvery)
	defer timer.Stop()
	for {
		select {
		case <-a.done:
			return
		case <-timer.C:
			a.sayUp()
			timer.Reset(beatEvery - beatEvery/10 + rand.N(beatEvery/5))
		}
	}
}

func (a *announcer) sayUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		up := a.up
		up.Peak, up.IdleMS = a.activity.beat(), a.activity.idle().Milliseconds()
		a.publish(subjects.Up, up)
	}
}

// publish leaves an error to the log: the next beat repeats an up, and a lost bye is mended by the lease.
func (a *announcer) publish(verb subjects.Verb, said any) {
	body, _ := json.Marshal(said) // structs of strings and numbers always encode
	if err := a.nc.Publish(subjects.Scale(a.up.Function, verb), body); err != nil {
		a.log.Debug("announcement not sent", "verb", string(verb), "err", err)
	}
}

// stop says bye, once, and ends the beat. The caller flushes.
func (a *announcer) stop() {
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	a.ended = true
	a.publish(subjects.Bye, wire.InstanceBye{Function: a.up.Function, Instance: a.up.Instance})
	a.mu.Unlock()
	close(a.done)
	for _, sub := range a.subs {
		if err := sub.Unsubscribe(); err != nil && !a.nc.IsClosed() {
			a.log.Warn("unsubscribe from who", "err", err)
		}
	}
	a.wg.Wait()
}
