package check

import (
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// attempt is one try of a send on one device, from its begin to what came of it.
type attempt struct {
	span
	client
	conversation subjects.Conversation
	id           string
	seq          wire.Seq     // of an acknowledgement
	outcome      history.Kind // OK, Reject or Unknown; Invoke = none yet
	code         wire.Code
	duplicate    bool
	again        bool // the device had tried it before, in vain
}

// findAttempts returns all tries in the order of their begins. A device tries a send once at a time.
func findAttempts(records []history.Record) []attempt {
	type key struct {
		client
		id string
	}
	var list []attempt
	open, failed := map[key]int{}, map[key]bool{}
	for _, r := range records {
		k := key{client{r.User, r.Device}, r.ClientID}
		switch r.Kind {
		case history.Invoke:
			open[k] = len(list)
			list = append(list, attempt{span: span{r.At, forever}, client: k.client, conversation: r.Conversation, id: r.ClientID, outcome: r.Kind, again: failed[k]})
		case history.OK, history.Reject, history.Unknown:
			i, ok := open[k]
			if !ok {
				continue
			}
			a := &list[i]
			a.to, a.outcome, a.seq, a.code, a.duplicate = r.At, r.Kind, r.Seq, r.Code, r.Duplicate
			failed[k] = r.Kind == history.Unknown
		}
	}
	return list
}

// took returns how long a try took.
func (a attempt) took() time.Duration { return a.to - a.from }
