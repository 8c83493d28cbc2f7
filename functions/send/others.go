package send

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of what an instance hears of others' appends.
const (
	// hearFor is how long a conversation is heard after an append to it came too late: while other instances append to it a remembered tail is behind
	// every other time, and each such try costs a publish, a read and a pause.
	hearFor = time.Minute
	// hearSweep is how often those are forgotten that were heard for long enough.
	hearSweep = 10 * time.Second
	// maxHeard is how many conversations are heard at once, at about 300 bytes each; what is beyond goes on as if there were none.
	maxHeard = 4096
	// heardWaiting is how many live copies wait to be read. When it is full the client library drops some: tails are then behind, as without them.
	heardWaiting = 1024
)

// others keeps remembered tails fresh where other instances append too, by the live copies of what they append. Where one instance does all, no
// remembered tail is ever behind, and nothing is heard. mu guards heard; one goroutine, run, reads copies.
type others struct {
	s      *sender
	copies chan *nats.Msg

	mu    sync.Mutex
	ended bool
	heard map[subjects.Conversation]*heard
}

type heard struct {
	sub   *nats.Subscription
	until time.Time
}

func newOthers(s *sender) *others {
	return &others{s: s, copies: make(chan *nats.Msg, heardWaiting), heard: map[subjects.Conversation]*heard{}}
}

// hear begins to hear a conversation, or goes on.
func (o *others) hear(c subjects.Conversation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h := o.heard[c]; h != nil {
		h.until = time.Now().Add(hearFor)
		return
	}
	if o.ended || len(o.heard) >= maxHeard {
		return
	}
	sub, err := o.s.nats.ChanSubscribe(subjects.Live(c), o.copies)
	if err != nil {
		o.s.log.Debug("live copies not subscribed", "conv", string(c), "err", err)
		return
	}
	o.heard[c] = &heard{sub: sub, until: time.Now().Add(hearFor)}
}

// run reads copies until ctx ends.
func (o *others) run(ctx context.Context) {
	ticker := time.NewTicker(hearSweep)
	defer ticker.Stop()
	for {
		select {
		case msg := <-o.copies:
			o.learn(msg)
		case now := <-ticker.C:
			o.forget(now)
		case <-ctx.Done():
			o.end()
			return
		}
	}
}

// learn replaces a remembered tail by that of a newer live copy.
func (o *others) learn(msg *nats.Msg) {
	c, err := subjects.ParseLive(msg.Subject)
	if err != nil {
		return
	}
	about, err := wire.ParseEntryHeader(msg.Header.Get(subjects.HeaderEntry))
	if err != nil {
		return
	}
	o.s.tails.change(c, func(tail jetstream.Tail) jetstream.Tail {
		if about.Seq <= tail.Seq { // what this instance appended itself, mostly
			return tail
		}
		if newer, ok := o.s.store.LiveTail(c, msg); ok && newer.Seq > tail.Seq {
			return newer.Lean()
		}
		return tail
	})
}

// forget ends the hearing of what was heard for long enough.
func (o *others) forget(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c, h := range o.heard {
		if now.After(h.until) {
			_ = h.sub.Unsubscribe() // fails only where the connection has forgotten it already
			delete(o.heard, c)
		}
	}
}

func (o *others) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for _, h := range o.heard {
		_ = h.sub.Unsubscribe()
	}
	clear(o.heard)
}
