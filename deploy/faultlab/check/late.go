package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// late finds entries that a connected client showed long after somebody else had them, with nothing broken meanwhile that would explain it: a live
// copy was lost, and nobody missed it. What is lost when a client's own connection breaks is looked for from its next connect on.
func (j *judge) late(id subjects.Conversation, c *conversation) {
	known := c.known()
	for _, who := range c.clients() {
		before := wire.Seq(0) // the newest late one: those right after it came with it
		for _, r := range c.views[who] {
			if r.Kind != history.Receive {
				continue
			}
			due, ok := j.due(who, known[r.Seq], r.At)
			if !ok {
				continue
			}
			waited := r.At - due
			j.latest = max(j.latest, waited)
			if waited <= j.bounds.Heal {
				continue
			}
			if r.Seq != before+1 {
				j.findf(ViewLate, id, r.Seq, r.At, who.String(), "shown %v after it was known, or after all was whole again", waited.Round(time.Millisecond))
			}
			before = r.Seq
		}
	}
}

// known returns when each entry was first acknowledged or shown to anybody.
func (c *conversation) known() map[wire.Seq]time.Duration {
	first := map[wire.Seq]time.Duration{}
	note := func(seq wire.Seq, at time.Duration) {
		if known, ok := first[seq]; !ok || at < known {
			first[seq] = at
		}
	}
	for _, s := range c.sends {
		for _, a := range s.acks {
			note(a.seq, a.at)
		}
	}
	for _, view := range c.views {
		for _, r := range view {
			if r.Kind == history.Receive {
				note(r.Seq, r.At)
			}
		}
	}
	return first
}

// due returns from when on a client can be expected to show what was known at a time and was shown at another: after every fault that overlaps
// the time in which it should have come, and since the client's connect. Not ok where there is no such moment before it was shown.
func (j *judge) due(who client, known, shown time.Duration) (time.Duration, bool) {
	at := known
	for again := true; again; {
		again = false
		for _, f := range j.broken {
			if f.from < at+j.bounds.Heal && f.to > at {
				at, again = f.to, true
			}
		}
		spans := j.line(history.Record{User: who.user, Device: who.device}).spans
		i := slices.IndexFunc(spans, func(s span) bool { return s.to > at && s.to >= shown })
		if i < 0 {
			return 0, false
		}
		if spans[i].from > at {
			at, again = spans[i].from, true
		}
	}
	return at, at < shown
}

// breaks returns when something was broken: from each fault to the heal of the same name, or to the end.
func breaks(records []history.Record) []trouble {
	var all []trouble
	open := map[string][]int{}
	for _, r := range records {
		switch r.Kind {
		case history.Fault:
			open[r.Fault] = append(open[r.Fault], len(all))
			all = append(all, trouble{span{r.At, forever}, r.Fault})
		case history.Heal:
			if list := open[r.Fault]; len(list) > 0 {
				all[list[0]].to, open[r.Fault] = r.At, list[1:]
			}
		}
	}
	slices.SortFunc(all, func(a, b trouble) int { return cmp.Compare(a.from, b.from) })
	return all
}
