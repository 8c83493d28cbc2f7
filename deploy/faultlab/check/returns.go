package check

import (
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects/wire"
)

// back is a client that was away, on its way to the head.
type back struct {
	from   time.Duration
	seq    wire.Seq
	missed wire.Seq
}

// returns finds clients that were away and did not come to the head in time. While a fault lasts the time does not count.
func (j *judge) returns() {
	type view struct {
		client
		reader
	}
	open, shown := map[view]back{}, map[view]wire.Seq{}
	late := func(v view, b back, at time.Duration) {
		if from := j.calmSince(b.from, at-b.from); from != forever && at > from+j.bounds.Return {
			j.findf(ReturnLate, v.conversation, b.seq, b.from, v.String(), "it came back at %v and was not at entry %d within %v", b.from, b.seq, j.bounds.Return)
		}
	}
	for _, r := range j.records {
		v := view{client{r.User, r.Device}, reader{r.User, r.Conversation}}
		switch r.Kind {
		case history.Return:
			open[v] = back{r.At, r.Seq, r.Seq - min(r.Seq, shown[v])}
		case history.Receive:
			shown[v] = r.Seq
			if b, ok := open[v]; ok && r.Seq >= b.seq {
				late(v, b, r.At)
				j.caughtUp = append(j.caughtUp, r.At-b.from)
				j.missed = max(j.missed, int(b.missed))
				delete(open, v)
			}
		}
	}
	for v, b := range open {
		late(v, b, forever)
	}
}
