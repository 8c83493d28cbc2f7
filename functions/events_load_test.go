package functions_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// fleet is instances that come and go, each on a connection of its own.
type fleet struct {
	l       *log
	f       functions.Function
	running []*member
	wg      sync.WaitGroup
}

type member struct {
	nc     *nats.Conn
	cancel context.CancelFunc
}

// start starts an instance and does not wait for it.
func (fl *fleet) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{nc: fl.l.server.Connect(fl.l), cancel: cancel}
	fl.running = append(fl.running, m)
	fl.wg.Go(func() {
		env := functions.Env{NATS: m.nc, Log: functionstest.Log(fl.l)}
		err := functions.Run(ctx, fl.f, env, functions.Options{Concurrency: 8, DrainTimeout: patient})
		if err != nil && !errors.Is(err, functions.ErrDisconnected) {
			fl.l.Errorf("an instance ended: %v", err)
		}
	})
}

// leave asks the oldest instance to end.
func (fl *fleet) leave() {
	fl.running[0].cancel()
	fl.running = fl.running[1:]
}

// kill takes the connection of the oldest instance, which then can neither finish nor give back what it has.
func (fl *fleet) kill() {
	fl.running[0].nc.Close()
	fl.leave()
}

func (fl *fleet) end() {
	for len(fl.running) > 0 {
		fl.leave()
	}
	fl.wg.Wait()
}

// missing returns which of n entries in each of the conversations were never handed over, and how many handings over there were too many.
func (s *seen) missing(conversations []subjects.Conversation, n int) (missing []string, extra int) {
	for _, c := range conversations {
		got := s.of(c)
		unique := slices.Compact(slices.Sorted(slices.Values(got)))
		extra += len(got) - len(unique)
		for seq := wire.Seq(1); seq <= wire.Seq(n); seq++ {
			if _, found := slices.BinarySearch(unique, seq); !found {
				missing = append(missing, fmt.Sprintf("%s/%d", c, seq))
			}
		}
	}
	return missing, extra
}

var rooms = []subjects.Conversation{"g.a", "g.b", "g.general", "c.news", "d.ada.bob", "g.busy"}

// TestReplacementsLoseNoEntry replaces instances under load. Nothing may be left to the time after which the server takes an entry from who has it: that
// would be a wait of 15 s, and an instance that drains gives back or finishes all it has.
func TestReplacementsLoseNoEntry(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var s seen
	fl := &fleet{l: l, f: counter(&s, func(context.Context, *functions.Call, *wire.Entry) error {
		time.Sleep(rand.N(4 * time.Millisecond))
		return nil
	})}
	const each, replacements = 100, 20
	fl.start()
	fl.start()
	for i := range each {
		for _, c := range rooms {
			l.say(c, fmt.Sprint(i))
		}
		if i%(each/replacements) == 0 {
			fl.start()
			fl.leave()
		}
	}
	said := time.Now()
	l.done()
	took := time.Since(said)
	missing, extra := s.missing(rooms, each)
	t.Logf("%d entries, %d replacements: %d missing, %d twice, quiet after %v", each*len(rooms), replacements, len(missing), extra, took)
	if len(missing) > 0 || extra > 0 {
		t.Errorf("missing %q, %d twice", missing, extra)
	}
	if took > wire.HandTime-3*time.Second {
		t.Errorf("it took %v until nothing was left: an entry waited to be taken from an instance that was gone", took)
	}
	fl.end()
}

// TestWhateverHappensEveryEntryIsHandedOver starts, ends and kills instances at random, restarts the server, and lets handlers fail.
func TestWhateverHappensEveryEntryIsHandedOver(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{HandTime: time.Second})
	var good seen // what handlers ended without an error
	f := counter(&seen{}, func(ctx context.Context, call *functions.Call, e *wire.Entry) error {
		select {
		case <-time.After(rand.N(10 * time.Millisecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
		if rand.N(20) == 0 {
			return errors.New("bad luck")
		}
		good.add(call, e)
		return nil
	})
	f.Retry.Attempts = 50
	fl := &fleet{l: l, f: f}
	const each = 60
	kills := 0
	for i := range each {
		for _, c := range rooms {
			l.say(c, fmt.Sprint(i))
		}
		switch n := rand.N(8); {
		case len(fl.running) < 4 && n < 4:
			fl.start()
		case len(fl.running) > 0 && n < 5:
			fl.leave()
		case len(fl.running) > 0 && n < 6:
			fl.kill()
			kills++
		}
		if i == each/2 {
			l.server.Restart(t)
		}
	}
	fl.start()
	l.done()
	missing, extra := good.missing(rooms, each)
	t.Logf("%d entries, %d kills: %d missing, %d handed over more than once", each*len(rooms), kills, len(missing), extra)
	if len(missing) > 0 {
		t.Errorf("missing: %q", missing)
	}
	if letters := l.dead(0); len(letters) > 0 {
		t.Errorf("%d dead letters", len(letters))
	}
	fl.end()
}

// TestAStreamThatRanDryKeepsNoRoom lets one stream after another have a burst, so that the instance has asked each for many entries at once, and then none.
func TestAStreamThatRanDryKeepsNoRoom(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var s seen
	functionstest.Run(t, l.nc, counter(&s, nil), functions.Options{Concurrency: 8})
	const burst = 11 // odd, so that of two that were asked for one at least does not come
	var all []subjects.Conversation
	began := time.Now()
	for n := range 3 * subjects.Partitions {
		c := subjects.Conversation(fmt.Sprintf("g.burst-%d", n))
		all = append(all, c)
		for i := range burst {
			l.say(c, fmt.Sprint(i))
		}
		waitFor(t, "entries", func() bool { return s.count() == len(all)*burst })
	}
	if took := time.Since(began); took > patient/2 {
		t.Errorf("%d bursts took %v", len(all), took)
	}
	if missing, extra := s.missing(all, burst); len(missing) > 0 || extra > 0 {
		t.Errorf("missing %q, %d twice", missing, extra)
	}
}
