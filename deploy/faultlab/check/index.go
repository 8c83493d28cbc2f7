package check

import (
	"maps"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// run is a history in the order of questions.
type run struct {
	records       []history.Record
	conversations map[subjects.Conversation]*conversation
	clients       map[client]*line
	broken        []trouble // when something was broken
	attempts      []attempt // by their begin
	quiet         bool
}

// client is one device of a user.
type client struct {
	user   subjects.User
	device subjects.Device
}

func (c client) String() string { return string(c.user) + "/" + string(c.device) }

// line is when a client was connected: from each connect to the first close after it. A try to connect that failed is a close too.
type line struct {
	spans     []span
	connected bool
}

type span struct{ from, to time.Duration }

// forever ends what nobody has ended.
const forever = time.Duration(1<<63 - 1)

func (l *line) connect(at time.Duration) {
	if !l.connected {
		l.spans, l.connected = append(l.spans, span{at, forever}), true
	}
}

func (l *line) close(at time.Duration) {
	if l.connected {
		l.spans[len(l.spans)-1].to, l.connected = at, false
	}
}

// conversation is what happened in one.
type conversation struct {
	id    subjects.Conversation
	sends map[sendID]*send
	views map[client][]history.Record // Receive and Restart, in order
	truth map[history.Source][]history.Record
	log   map[wire.Seq]history.Record // the truth by seq, once all sources agree
	head  wire.Seq
	stays map[subjects.User][]stay
	outs  map[subjects.User][]span // when a user was certainly no member: from an acknowledged end to the next time somebody asks for it back

	recalled map[wire.Seq]bool
	founders []subjects.User
}

// sendID is what the store tells one send from another by.
type sendID struct {
	user subjects.User
	id   string
}

// send is one message on its way, over all its tries.
type send struct {
	sendID
	device  subjects.Device
	body    string
	number  int           // its place among all sends of the run, by the first try
	began   time.Duration // the first try
	last    time.Duration // the begin of the newest try
	acks    []ack
	rejects int
	unknown int
}

type ack struct {
	at, began time.Duration // of the answer, and of its try
	seq       wire.Seq
	duplicate bool
}

// acked returns the first acknowledgement, if there is one.
func (s *send) acked() (ack, bool) {
	if len(s.acks) == 0 {
		return ack{}, false
	}
	return s.acks[0], true
}

func index(records []history.Record) *run {
	r := &run{records: records, conversations: map[subjects.Conversation]*conversation{}, clients: map[client]*line{}, broken: breaks(records)}
	r.attempts = findAttempts(records)
	for _, rec := range records {
		switch rec.Kind {
		case history.Invoke, history.OK, history.Reject, history.Unknown:
			r.try(rec)
		case history.Receive, history.Restart:
			c, who := r.of(rec.Conversation), client{rec.User, rec.Device}
			c.views[who] = append(c.views[who], rec)
		case history.Truth:
			c := r.of(rec.Conversation)
			c.truth[rec.Source] = append(c.truth[rec.Source], rec)
		case history.Founder:
			c := r.of(rec.Conversation)
			c.founders = append(c.founders, rec.User)
		case history.Member:
			if ends(rec.Change) {
				c := r.of(rec.Conversation)
				c.outs[rec.User] = append(c.outs[rec.User], span{rec.At, forever})
			}
		case history.Asked:
			if out := r.of(rec.Conversation).outs[rec.User]; rec.Change != "" && !ends(rec.Change) && len(out) > 0 {
				out[len(out)-1].to = min(out[len(out)-1].to, rec.At)
			}
		case history.Connect:
			r.line(rec).connect(rec.At)
		case history.Close:
			r.line(rec).close(rec.At)
		case history.Quiet:
			r.quiet = true
		}
	}
	return r
}

// ends reports whether a change ends a membership.
func ends(change wire.MemberChange) bool {
	return change == wire.ChangeRemoved || change == wire.ChangeLeft || change == wire.ChangeBanned
}

// trouble is the time of a fault.
type trouble struct {
	span
	name string
}

// calmSince returns from when on no fault stood in the way of what had to happen from one moment on within a time; forever where one never ended.
func (r *run) calmSince(from, within time.Duration) time.Duration {
	for _, f := range r.broken {
		if f.from < from+within && f.to > from {
			from = max(from, f.to)
			if from == forever {
				return from
			}
		}
	}
	return from
}

func (r *run) of(id subjects.Conversation) *conversation {
	c := r.conversations[id]
	if c == nil {
		c = &conversation{id: id, sends: map[sendID]*send{}, views: map[client][]history.Record{}, truth: map[history.Source][]history.Record{}, outs: map[subjects.User][]span{}}
		r.conversations[id] = c
	}
	return c
}

func (r *run) line(rec history.Record) *line {
	who := client{rec.User, rec.Device}
	if r.clients[who] == nil {
		r.clients[who] = &line{}
	}
	return r.clients[who]
}

func (r *run) try(rec history.Record) {
	c, id := r.of(rec.Conversation), sendID{rec.User, rec.ClientID}
	s := c.sends[id]
	if s == nil {
		s = &send{sendID: id, device: rec.Device, body: rec.Body, number: len(c.sends), began: rec.At}
		c.sends[id] = s
	}
	switch rec.Kind {
	case history.Invoke:
		s.last = rec.At
	case history.OK:
		s.acks = append(s.acks, ack{at: rec.At, began: s.last, seq: rec.Seq, duplicate: rec.Duplicate})
	case history.Reject:
		s.rejects++
	case history.Unknown:
		s.unknown++
	}
}

func (r *run) conversationIDs() []subjects.Conversation {
	return slices.Sorted(maps.Keys(r.conversations))
}

// sorted returns the sends of a conversation in the order in which they were made.
func (c *conversation) sorted() []*send {
	return slices.SortedFunc(maps.Values(c.sends), func(a, b *send) int { return a.number - b.number })
}

// clients returns who looked at a conversation, in a fixed order.
func (c *conversation) clients() []client {
	return slices.SortedFunc(maps.Keys(c.views), func(a, b client) int {
		if a.user != b.user {
			return compare(a.user, b.user)
		}
		return compare(a.device, b.device)
	})
}

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
