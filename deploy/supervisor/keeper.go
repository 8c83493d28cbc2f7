package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of what a keeper does.
const (
	settle      = 50 * time.Millisecond // after a start, until the next decision on how many instances there should be
	lookEvery   = time.Second           // the most between two decisions
	startWithin = 30 * time.Second      // a child that is not up by then, or has been silent for that long, is killed
	silence     = 3 * time.Second       // after which an instance does not count, as callers do not count it either
	killAfter   = 5 * time.Second       // beyond the time of a drain
)

// keeper looks after the instances of one function. One goroutine, run, owns everything but heard, exits and ended.
type keeper struct {
	*supervisor
	entry Entry
	log   *slog.Logger
	heard chan heard
	exits chan exit
	ended chan struct{} // closed when run has returned

	children map[string]*child // by unit; until their end is known
	started  int
	crashes  crashes
	acted    time.Time // when children were started last
	said     time.Time // when broken was said last
	looked   time.Time // when news were taken in last
	deaf     time.Time // until when nothing could be heard
	surplus  time.Time // since when there have been more instances than wanted; zero = there are not
	ending   bool
}

// exit is the end of a child.
type exit struct {
	child *child
	err   error
}

func newKeeper(s *supervisor, e Entry) *keeper {
	return &keeper{
		supervisor: s, entry: e, log: s.Log.With("function", string(e.Function)), children: map[string]*child{},
		heard: make(chan heard, 64), exits: make(chan exit), ended: make(chan struct{}),
	}
}

// run keeps as many instances as there is work for until ctx ends, and returns when none is left.
func (k *keeper) run(ctx context.Context) {
	defer close(k.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		changed := k.watcher.Changed(k.entry.Function)
		now := time.Now()
		if k.listens(now) && now.Sub(k.acted) >= settle {
			k.decide(now)
		}
		if k.ending && len(k.children) == 0 {
			return
		}
		timer.Reset(k.pause(now))
		select {
		case <-stop:
			stop, k.ending = nil, true
			k.askAll()
		case <-changed:
		case h := <-k.heard:
			k.hear(h)
		case e := <-k.exits:
			k.gone(e)
		case <-timer.C:
		}
	}
}

// pause returns for how long no decision is due unless something happens.
func (k *keeper) pause(now time.Time) time.Duration {
	next := now.Add(lookEvery)
	for _, at := range []time.Time{k.acted.Add(settle), k.crashes.until} {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	return next.Sub(now)
}

// listens reports whether silence means something. While the connection is down, and after this process was stopped itself, nobody can be heard: children get
// the whole time again to speak.
func (k *keeper) listens(now time.Time) bool {
	stopped := !k.looked.IsZero() && now.Sub(k.looked) > silence
	k.looked = now
	if !stopped && k.NATS.IsConnected() {
		return true
	}
	k.deaf = now
	return k.ending
}

// quiet returns for how long a child could have spoken and has not.
func (k *keeper) quiet(c *child, now time.Time) time.Duration {
	last := c.seen
	if c.upSince.IsZero() {
		last = c.begun
	}
	if k.deaf.After(last) {
		last = k.deaf
	}
	return now.Sub(last)
}

// decide starts what is missing, ends what is too much or does not work, and tells callers where starting does not help.
func (k *keeper) decide(now time.Time) {
	k.watch(now)
	if k.ending {
		return
	}
	l := k.watcher.Of(k.entry.Function)
	wanted := l.Wanted(k.entry.Scale, k.entry.Concurrency)
	have := k.have(now) + k.outside(l)
	k.shrink(now, have-wanted)
	if have >= wanted || k.stale(l) && !l.Waits() {
		return
	}
	if now.Before(k.crashes.until) {
		k.sayBroken(now, l)
		return
	}
	missing := wanted - have
	if k.crashes.row > 0 { // one is enough to see whether it works again
		missing = min(missing, 1-k.starting())
	}
	for range min(missing, k.room()) {
		k.start()
		k.acted = now
	}
}

// have counts the children that take calls or soon will.
func (k *keeper) have(now time.Time) int {
	n := 0
	for _, c := range k.children {
		if !c.leaving && !c.slow && (c.upSince.IsZero() || k.quiet(c, now) < silence) {
			n++
		}
	}
	return n
}

// room returns how many more children there may be beside those that leave.
func (k *keeper) room() int {
	room := k.entry.Scale.Max
	for _, c := range k.children {
		if !c.leaving {
			room--
		}
	}
	return max(0, room)
}

// stale reports whether an instance that leaves still counts in a load: what it works on needs no other.
func (k *keeper) stale(l load.Load) bool {
	for _, c := range k.children {
		if c.leaving && slices.Contains(l.Names, c.instance) {
			return true
		}
	}
	return false
}

func (k *keeper) starting() int {
	n := 0
	for _, c := range k.children {
		if !c.leaving && c.upSince.IsZero() {
			n++
		}
	}
	return n
}

// outside counts the instances that are up and not children. While children start it cannot be told whose the newest are.
func (k *keeper) outside(l load.Load) int {
	own := map[string]bool{}
	for _, c := range k.children {
		own[c.instance] = true
	}
	n := 0
	for _, name := range l.Names {
		if !own[name] {
			n++
		}
	}
	return max(0, n-k.starting())
}

// start begins a child.
func (k *keeper) start() {
	kept := 0
	for _, c := range k.children {
		if c.kept && !c.leaving {
			kept++
		}
	}
	k.started++
	unit := fmt.Sprintf("%s-%d", k.entry.Function, k.started)
	keep := kept < k.entry.Scale.Min
	c := newChild(k.entry, unit, k.environment(k.entry, unit, keep), k.Log)
	c.kept = keep
	k.children[unit] = c
	k.log.Info("instance is started", "unit", unit)
	go func() {
		err := c.run(k.starter)
		k.exits <- exit{c, err}
	}()
}

// hear takes in what an instance says. One that does not know its unit is taken for the child that has started for longest.
func (k *keeper) hear(h heard) {
	c := k.children[h.unit]
	if h.unit == "" {
		c = k.find(h.instance, h.bye)
	}
	switch {
	case c == nil, c.instance != "" && c.instance != h.instance:
	case h.bye:
		c.leaving = true
	default:
		now := time.Now()
		c.seen = now
		if c.upSince.IsZero() {
			c.instance, c.upSince = h.instance, now
			k.crashes.up()
			k.log.Debug("instance of a child is up", "unit", c.unit, "instance", h.instance, "took", now.Sub(c.begun))
		}
	}
}

// find returns the child of an instance, or for a new one the child that has started for longest.
func (k *keeper) find(instance string, known bool) *child {
	var oldest *child
	for _, c := range k.children {
		if c.instance == instance {
			return c
		}
		if c.instance == "" && !c.leaving && (oldest == nil || c.begun.Before(oldest.begun)) {
			oldest = c
		}
	}
	if known {
		return nil
	}
	return oldest
}

// gone takes in the end of a child. In the place of one that could not say bye the supervisor does, so that callers need not find out.
func (k *keeper) gone(e exit) {
	now, c := time.Now(), e.child
	delete(k.children, c.unit)
	if c.instance != "" && !c.leaving {
		k.say(subjects.Bye, wire.InstanceBye{Function: k.entry.Function, Instance: c.instance})
	}
	reason := c.verdict(e.err)
	if reason == "" {
		if e.err != nil {
			k.log.Warn("instance left with an error", "unit", c.unit, "err", e.err)
		} else {
			k.log.Info("instance left", "unit", c.unit)
		}
		return
	}
	var up time.Duration
	if !c.upSince.IsZero() {
		up = max(1, now.Sub(c.upSince))
	}
	k.crashes.crashed(now, c.begun, up, reason)
	k.log.Warn("instance crashed", "unit", c.unit, "up", up, "next", k.crashes.wait, "err", reason)
	if k.crashes.wait == 0 {
		k.acted = time.Time{} // its replacement need not settle
	}
}

// watch kills what does not do what it was asked for: to come up, to go on saying so, to end.
func (k *keeper) watch(now time.Time) {
	for _, c := range k.children {
		switch {
		case !c.killAt.IsZero() && now.After(c.killAt):
			k.log.Warn("instance did not end and is killed", "unit", c.unit)
			c.kill()
			c.killAt = now.Add(killAfter)
		case c.leaving || c.slow:
		case k.quiet(c, now) > startWithin:
			k.log.Warn("instance does not say that it is up and is killed", "unit", c.unit)
			c.slow = true
			c.kill()
		}
		if c.leaving && c.killAt.IsZero() { // it said bye by itself
			c.killAt = now.Add(k.entry.Drain + killAfter)
		}
	}
}

// shrink asks instances to leave that have not been needed for as long as it takes an idle one to leave: calls are spread over all that are up, so
// that none of many may ever idle.
func (k *keeper) shrink(now time.Time, surplus int) {
	if surplus <= 0 {
		k.surplus = time.Time{}
		return
	}
	if k.surplus.IsZero() {
		k.surplus = now
	}
	if now.Sub(k.surplus) < k.IdleTimeout {
		return
	}
	k.surplus = now
	for _, c := range k.children {
		if surplus == 0 {
			return
		}
		if !c.kept && !c.leaving && !c.upSince.IsZero() {
			k.log.Info("instance is not needed any more", "unit", c.unit)
			k.ask(c, now)
			surplus--
		}
	}
}

func (k *keeper) ask(c *child, now time.Time) {
	c.leaving, c.killAt = true, now.Add(k.entry.Drain+killAfter)
	c.ask()
}

func (k *keeper) askAll() {
	for _, c := range k.children {
		if c.killAt.IsZero() {
			k.ask(c, time.Now())
		}
	}
}

// sayBroken tells callers, once a second while they hold calls, that starting does not work.
func (k *keeper) sayBroken(now time.Time, l load.Load) {
	left, broken := k.crashes.broken(now)
	if !broken || l.Instances > 0 || now.Sub(k.said) < lookEvery && l.Held == 0 {
		return
	}
	if k.said.IsZero() || now.Sub(k.said) >= lookEvery {
		k.log.Error("function does not start", "crashes", k.crashes.count, "next", left, "err", k.crashes.reason)
	}
	k.said = now
	k.say(subjects.Broken, wire.Broken{Function: k.entry.Function, Reason: k.crashes.reason, RetryAfterMS: left.Milliseconds()})
}

// say publishes an event. A lost one is repeated, or mended by a lease.
func (k *keeper) say(verb subjects.Verb, event any) {
	body, _ := json.Marshal(event) // structs of strings and numbers always encode
	if err := k.NATS.Publish(subjects.Scale(k.entry.Function, verb), body); err != nil {
		k.log.Debug("scaling event not sent", "verb", string(verb), "err", err)
	}
}
