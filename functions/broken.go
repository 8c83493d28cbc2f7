package functions

import (
	"encoding/json"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxBroken is the longest that a function counts as broken after somebody last said so: the word may come from another release, or from a
// clock that is wrong.
const maxBroken = time.Minute

// broken is what is known of a function that does not start.
type broken struct {
	until  time.Time
	reason string // for operators
}

// heardBroken believes it while no instance is up: one that is up answers, whatever becomes of others.
func (t *table) heardBroken(f subjects.Function, data []byte) {
	var said wire.Broken
	if err := json.Unmarshal(data, &said); err != nil {
		t.log.Debug("scaling event cannot be read", "function", string(f))
		return
	}
	if len(t.instances[f]) > 0 {
		return
	}
	lasts := retryAfter
	if said.RetryAfterMS > 0 {
		lasts = time.Duration(min(said.RetryAfterMS, maxBroken.Milliseconds())) * time.Millisecond
	}
	if t.broken[f] == nil {
		t.log.Warn("a function does not start", "function", string(f), "reason", said.Reason)
	}
	t.broken[f] = &broken{until: time.Now().Add(lasts), reason: said.Reason}
	t.publish(f)
}

// lapse forgets what was said of functions too long ago.
func (t *table) lapse(now time.Time) {
	for f, b := range t.broken {
		if now.After(b.until) {
			delete(t.broken, f)
			t.publish(f)
		}
	}
}

// refusal returns why a call to the function is to be refused at once, or nil.
func (s *snapshot) refusal(f subjects.Function, now time.Time) error {
	state := s.functions[f]
	if state == nil || state.broken == nil || !now.Before(state.broken.until) {
		return nil
	}
	wait := max(state.broken.until.Sub(now), time.Millisecond)
	return wire.RetryAfter(wire.Unavailable, wait, "The function %s does not start; its operator finds the reason in the logs.", f)
}

// refuse gives up all that is held, where the function does not start.
func (g *gate) refuse(snapshot *snapshot) {
	if len(g.queue) == 0 {
		return
	}
	if err := snapshot.refusal(g.function, time.Now()); err != nil {
		g.giveUp(err)
	}
}

// giveUp takes all calls out of the queue.
func (g *gate) giveUp(err error) {
	for _, h := range g.queue {
		g.left(h, err)
	}
	clear(g.queue)
	g.queue = g.queue[:0]
}
