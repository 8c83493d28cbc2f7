package functions

import (
	"encoding/json"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// How a gate looks after what it holds. No single message matters: a lost answer is asked for again after askEvery, a lost demand repeated
// after askEvery * askPerDemand.
const (
	askEvery     = 250 * time.Millisecond // how often it is asked who is up while calls are held for a function that sleeps
	askPerDemand = 4
	tellAgain    = 8 // times as many held as was said last are said at once: whoever starts instances must not learn of a burst a second late
)

// pump releases what is held when the table changes, asks who is up, and says demand, until a tick finds nothing held any more. It ends a
// tick late on purpose: a queue that fills and empties all the time is one demand and not many.
func (g *gate) pump() {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for ticks := 0; ; {
		changed := g.all.table.now().changed
		g.mu.Lock()
		g.release()
		g.urge()
		g.mu.Unlock()
		select {
		case <-changed:
			continue
		case <-g.all.done:
			return
		case <-ticker.C:
		}
		ticks++
		if !g.tick(ticks%askPerDemand == 0) {
			return
		}
	}
}

// tick reports whether the pump goes on.
func (g *gate) tick(demand bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		if g.told > 0 {
			g.tell()
		}
		g.pumping = false
		return false
	}
	if g.all.table.now().asleep(g.function) {
		g.all.table.ask(g.function)
	}
	if demand {
		g.tell()
	}
	return true
}

// urge says demand for the first call that is held in a sleep, and asks whether it is one; then again for each tellAgain times as many.
func (g *gate) urge() {
	snapshot := g.all.table.now()
	if len(g.queue) == 0 || !snapshot.asleep(g.function) {
		return
	}
	var waking uint64
	if state := snapshot.functions[g.function]; state != nil {
		waking = state.waking
	}
	if g.told > 0 && g.urged == waking {
		if len(g.queue) >= tellAgain*g.told {
			g.tell()
		}
		return
	}
	g.urged = waking
	g.all.table.ask(g.function)
	g.tell()
}

// tell says demand. mu is held, so that the last demand says what is.
func (g *gate) tell() {
	d := wire.Demand{Function: g.function, Caller: g.all.caller, Held: len(g.queue), Peak: g.peak}
	if len(g.queue) > 0 {
		d.OldestMS = time.Since(g.queue[0].since).Milliseconds()
	}
	g.told, g.peak = len(g.queue), len(g.queue)
	body, _ := json.Marshal(d) // a struct of strings and numbers always encodes
	if err := g.all.nc.Publish(subjects.Scale(g.function, subjects.Demand), body); err != nil {
		g.all.log.Debug("demand not sent", "function", string(g.function), "err", err)
	}
}
