package check

import (
	"maps"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// reader is a user in one conversation.
type reader struct {
	user         subjects.User
	conversation subjects.Conversation
}

// floors is how far the mark of a reader is known to have come, by the time at which that was known: each is higher than the one before.
type floors []floor

type floor struct {
	at  time.Duration
	seq wire.Seq
}

// raise notes that a mark was seen.
func (f floors) raise(at time.Duration, seq wire.Seq) floors {
	if len(f) > 0 && f[len(f)-1].seq >= seq {
		return f
	}
	return append(f, floor{at, seq})
}

// before returns how far the mark had come for certain before a moment.
func (f floors) before(at time.Duration) wire.Seq {
	for _, one := range slices.Backward(f) {
		if one.at < at {
			return one.seq
		}
	}
	return 0
}

// marks finds read marks that went back: an answer below what any device of the user was told before the question was asked, or below a post of
// the user that was acknowledged before, which is the author's mark.
func (j *judge) marks() {
	type place struct {
		reader
		device subjects.Device
	}
	known, asked := map[reader]floors{}, map[place]time.Duration{}
	for _, r := range j.records {
		at := reader{r.User, r.Conversation}
		switch r.Kind {
		case history.Asked:
			if r.Change == "" {
				asked[place{at, r.Device}] = r.At
			}
		case history.OK:
			known[at] = known[at].raise(r.At, r.Seq)
		case history.Mark:
			from, ok := asked[place{at, r.Device}]
			if !ok {
				from = r.At // the answer came as the next thing after its question
			}
			if least := known[at].before(from); r.Seq < least {
				j.findf(MarkWentBack, r.Conversation, r.Seq, r.At, client{r.User, r.Device}.String(), "it was %d before", least)
			}
			known[at] = known[at].raise(r.At, r.Seq)
			j.marked++
		}
	}
}

// unread holds what clients read as unread at rest against what others said after the mark.
func (j *judge) unread() {
	for _, r := range j.records {
		c := j.conversations[r.Conversation]
		if r.Kind != history.Unread || c == nil || c.log == nil {
			continue
		}
		want := uint64(0)
		for seq := r.Seq + 1; seq <= c.head; seq++ {
			if e := c.log[seq]; e.Entry == wire.KindMessage && c.member(r.User, seq) {
				want++
			}
			if e := c.log[seq]; e.Entry == wire.KindMessage && e.From == r.User {
				j.findf(MarkWentBack, r.Conversation, r.Seq, r.At, client{r.User, r.Device}.String(), "its own post is entry %d", seq)
				break
			}
		}
		if want != r.Count {
			j.findf(UnreadWrong, r.Conversation, r.Seq, r.At, client{r.User, r.Device}.String(), "%d are unread, and %d messages are after the mark", r.Count, want)
		}
	}
}

// copies returns the messages that several devices tried at once, and the most tries at once of one.
func (j *judge) copies() (messages, most int) {
	type key struct {
		sendID
		in subjects.Conversation
	}
	tries := map[key]map[subjects.Device]span{}
	for _, a := range j.attempts {
		k := key{sendID{a.user, a.id}, a.conversation}
		if tries[k] == nil {
			tries[k] = map[subjects.Device]span{}
		}
		if _, before := tries[k][a.device]; !before {
			tries[k][a.device] = a.span
		}
	}
	for devices := range maps.Values(tries) {
		for _, s := range devices {
			n := 0
			for _, other := range devices {
				if other.from <= s.from && s.from < other.to {
					n++
				}
			}
			most = max(most, n)
		}
		if len(devices) > 1 {
			messages++
		}
	}
	return messages, most
}
