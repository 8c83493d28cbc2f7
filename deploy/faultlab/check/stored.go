package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// recalls returns what was recalled, which is read without its words.
func recalls(log []history.Record) map[wire.Seq]bool {
	list := map[wire.Seq]bool{}
	for _, r := range log {
		if r.Entry == wire.KindRecall {
			list[r.Target] = true
		}
	}
	return list
}

// unerased returns what the store has with what it erased after a recall in its place, as pages have it: without words.
func (c *conversation) unerased(stored []history.Record) []history.Record {
	there := map[wire.Seq]bool{}
	for _, r := range stored {
		there[r.Seq] = true
	}
	whole := slices.Clone(stored)
	for _, r := range c.truth[history.Forward] {
		if c.recalled[r.Seq] && !there[r.Seq] {
			whole = append(whole, r)
		}
	}
	if len(whole) > len(stored) {
		slices.SortStableFunc(whole, func(a, b history.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	return whole
}

// truth compares what the sources say of a conversation and makes its log. It reports whether there is one truth.
func (j *judge) truth(id subjects.Conversation, c *conversation) bool {
	sources := []history.Source{history.Stream, history.Forward, history.Backward, history.Fresh}
	base := c.truth[sources[0]]
	c.recalled = recalls(base)
	base = c.unerased(base)
	for _, source := range sources[1:] {
		list := slices.Clone(c.truth[source])
		if source == history.Backward {
			slices.Reverse(list)
		}
		for _, r := range list {
			if c.recalled[r.Seq] && r.Body != "" {
				j.findf(RecalledShown, id, r.Seq, 0, "", "%s reads %q, which was recalled", source, r.Body)
			}
		}
		if at, same := c.samePlace(base, list); !same {
			j.findf(TruthDiffers, id, wire.Seq(at+1), 0, "", "%s has %d entries and %s has %d; the first difference is at place %d", sources[0], len(base), source, len(list), at+1)
			return false
		}
	}
	c.log = make(map[wire.Seq]history.Record, len(base))
	whole := true
	for i, r := range base {
		if r.Seq != wire.Seq(i+1) {
			j.findf(TruthGap, id, r.Seq, 0, "", "entry %d stands at place %d", r.Seq, i+1)
			whole = false
			break
		}
		c.log[r.Seq] = r
		c.head = r.Seq
	}
	c.stays = c.findStays()
	return whole
}

// samePlace returns the first place at which two lists of entries differ.
func (c *conversation) samePlace(a, b []history.Record) (place int, same bool) {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || !c.sameEntry(a[i], b[i]) {
			return i, false
		}
	}
	return 0, true
}

func (c *conversation) sameEntry(a, b history.Record) bool {
	return a.Seq == b.Seq && a.From == b.From && a.Entry == b.Entry && (a.Body == b.Body || c.recalled[a.Seq]) && a.ClientID == b.ClientID && a.User == b.User && a.Change == b.Change
}

// sends compares what was acknowledged with what is there.
func (j *judge) sends(id subjects.Conversation, c *conversation) {
	stored := map[sendID]wire.Seq{}
	for seq := wire.Seq(1); seq <= c.head; seq++ {
		r := c.log[seq]
		if r.Entry != wire.KindMessage {
			continue
		}
		of := sendID{r.From, r.ClientID}
		if first, again := stored[of]; again {
			j.findf(Twice, id, seq, 0, string(r.From), "client id %s is entry %d and entry %d", r.ClientID, first, seq)
			continue
		}
		stored[of] = seq
		s := c.sends[of]
		switch {
		case s == nil:
			j.findf(Phantom, id, seq, 0, string(r.From), "nobody sent %q", r.Body)
		case s.body != r.Body && !(c.recalled[seq] && r.Body == ""): // what was recalled may have been erased
			j.findf(Altered, id, seq, s.began, string(r.From), "%q is stored as %q", s.body, r.Body)
		case len(s.acks) == 0 && s.unknown == 0 && s.rejects > 0:
			j.findf(RejectedStored, id, seq, s.last, string(r.From), "all %d tries were refused", s.rejects)
		}
	}
	for _, s := range c.sorted() {
		j.acknowledged(id, c, s, stored)
	}
}

func (j *judge) acknowledged(id subjects.Conversation, c *conversation, s *send, stored map[sendID]wire.Seq) {
	first, ok := s.acked()
	if !ok {
		return
	}
	for _, other := range s.acks[1:] {
		if other.seq != first.seq {
			j.findf(Disagreed, id, first.seq, other.at, string(s.user), "acknowledged as entry %d and as entry %d", first.seq, other.seq)
		}
	}
	seq, there := stored[s.sendID]
	switch {
	case there && seq != first.seq:
		j.findf(Moved, id, first.seq, first.at, string(s.user), "acknowledged as entry %d, stored as entry %d", first.seq, seq)
	case !there:
		j.findf(c.lost(first.seq), id, first.seq, first.at, string(s.user), "acknowledged at %v, and %q is not there", first.at, s.body)
	}
}

// lost says where in the conversation an acknowledged message is missing.
func (c *conversation) lost(seq wire.Seq) Defect {
	if seq > c.head {
		return LostLast
	}
	for other := wire.Seq(1); other < seq; other++ {
		if c.log[other].Entry == wire.KindMessage {
			return Lost
		}
	}
	return LostFirst
}

// order holds the stored order against the clock, and against the order in which each device made its sends.
func (j *judge) order(id subjects.Conversation, c *conversation) {
	var all []*send
	for _, s := range c.sorted() {
		if _, ok := s.acked(); ok {
			all = append(all, s)
		}
	}
	type done struct {
		at  time.Duration
		seq wire.Seq
	}
	ends := make([]done, len(all))
	for i, s := range all {
		ends[i] = done{s.acks[0].at, s.acks[0].seq}
	}
	slices.SortFunc(ends, func(a, b done) int { return int(a.at - b.at) })
	next, highest := 0, wire.Seq(0)
	newest := map[client]*send{}
	for _, s := range all { // by the begin of the first try
		for ; next < len(ends) && ends[next].at < s.began; next++ {
			highest = max(highest, ends[next].seq)
		}
		seq := s.acks[0].seq
		if seq < highest {
			j.findf(RealTimeOrder, id, seq, s.began, string(s.user), "it began after entry %d was acknowledged", highest)
		}
		who := client{s.user, s.device}
		if before := newest[who]; before != nil && before.acks[0].seq > seq {
			j.findf(DeviceOrder, id, seq, s.began, who.String(), "it was made after entry %d", before.acks[0].seq)
		}
		newest[who] = s
	}
}
