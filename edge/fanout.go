package edge

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// entry is one entry of a conversation on its way to the members.
type entry struct {
	seq     wire.Seq
	kind    wire.EntryKind
	author  subjects.User // "" where it did not come live
	payload []byte        // as stored
}

// laneLength is how many live entries wait for one of the fan-out's goroutines. When it is full the feed waits, and then overflows.
const laneLength = 1024

// liveEntry is an entry that came live.
type liveEntry struct {
	conversation subjects.Conversation
	entry
}

// fanOut spreads live entries over a few goroutines, each conversation to one, so that a busy conversation uses one processor and its
// entries stay in order. It ends with ctx.
type fanOut struct {
	edge  *Edge
	lanes []chan liveEntry
}

func newFanOut(e *Edge, lanes int) *fanOut {
	f := &fanOut{edge: e, lanes: make([]chan liveEntry, lanes)}
	for i := range f.lanes {
		f.lanes[i] = make(chan liveEntry, laneLength)
	}
	return f
}

// route reads one live message and gives it to its conversation's goroutine.
func (f *fanOut) route(ctx context.Context, msg *nats.Msg) {
	id, err := subjects.ParseLive(msg.Subject)
	if err != nil {
		f.edge.log.Warn("live subject cannot be read", "err", err)
		return
	}
	header, err := wire.ParseEntryHeader(msg.Header.Get(subjects.HeaderEntry))
	if err != nil {
		f.edge.log.Warn("live entry cannot be read", "conv", string(id), "err", err)
		return
	}
	if !wire.IsEntryOf(id, msg.Data) {
		f.edge.log.Warn("live entry is another conversation's", "conv", string(id))
		return
	}
	live := liveEntry{id, entry{header.Seq, header.Kind, header.From, msg.Data}}
	select {
	case f.lanes[hash(id)%uint32(len(f.lanes))] <- live:
		f.edge.heard.note(id, msg)
	case <-ctx.Done():
	}
}

// hash spreads conversations; it is another function than the partition's, so that the conversations of one partition use all lanes.
func hash(id subjects.Conversation) uint32 {
	var h uint32 = 5381
	for i := range len(id) {
		h = h*33 + uint32(id[i])
	}
	return h
}

// work delivers what comes on one lane until ctx ends.
func (f *fanOut) work(ctx context.Context, lane chan liveEntry) {
	for {
		select {
		case <-ctx.Done():
			return
		case live := <-lane:
			f.edge.receive(live)
		}
	}
}

// receive delivers a live entry if it is the next one, keeps it if it lies beyond a hole, and drops it if it was delivered before.
func (e *Edge) receive(live liveEntry) {
	c := e.conversations.find(live.conversation)
	if live.conversation.Kind() == subjects.KindDirect {
		c = e.direct(live.conversation)
	}
	if c == nil {
		return
	}
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	if !c.placed && c.id.Kind() == subjects.KindDirect {
		// Nothing before this entry was promised to anybody here, and clients see by its seq what they lack.
		c.placed, c.last = true, live.seq-1
	}
	fill := e.takeLocked(c, live.entry)
	ended := len(c.members) == 0
	c.mu.Unlock()
	if ended {
		e.conversations.tidy(c)
	}
	if fill {
		e.startFill(c)
	}
}

// takeLocked handles one entry of a conversation; it reports whether a hole must be filled, which the caller then begins.
func (e *Edge) takeLocked(c *conversation, en entry) (fill bool) {
	c.target = max(c.target, en.seq)
	switch {
	case c.placed && en.seq <= c.last:
	case c.placed && en.seq == c.last+1:
		e.deliverLocked(c, en)
		e.drainLocked(c)
	default:
		if len(c.pending) < maxPending && c.bytes+len(en.payload) <= maxPendingBytes {
			if c.pending == nil {
				c.pending = map[wire.Seq]entry{}
			}
			if _, twice := c.pending[en.seq]; !twice {
				c.pending[en.seq] = en
				c.bytes += len(en.payload)
			}
		}
	}
	return c.wantLocked()
}

// placeLocked says where the conversation stands: entries up to last need not be delivered, and those up to head are there.
func (e *Edge) placeLocked(c *conversation, last, head wire.Seq) {
	c.placed, c.last, c.target = true, last, max(c.target, head)
	e.drainLocked(c)
	if c.announce && c.last > 0 {
		c.headLocked()
	}
	c.announce = false
}

// wantLocked reports whether a hole is there that nobody fills yet. Then the caller must begin to fill it, and the conversation is held for that.
func (c *conversation) wantLocked() bool {
	if c.filling || !c.placed || c.last >= c.target {
		return false
	}
	c.filling = true
	c.holds++
	return true
}

// drainLocked delivers what waited beyond a hole, as far as it is whole now.
func (e *Edge) drainLocked(c *conversation) {
	for len(c.pending) > 0 {
		en, ok := c.pending[c.last+1]
		if !ok {
			break
		}
		e.deliverLocked(c, en)
	}
	for seq, en := range c.pending {
		if seq <= c.last {
			delete(c.pending, seq)
			c.bytes -= len(en.payload)
		}
	}
}

// deliverLocked queues the next entry to the local members. An entry that begins a membership is the first that the member gets, and one
// that ends it the last.
func (e *Edge) deliverLocked(c *conversation, en entry) {
	c.last = en.seq
	var leaver *user
	if en.kind == wire.KindMember {
		leaver = e.applyLocked(c, en)
	}
	frame := eventFrame(wire.EventEntry, en.payload)
	sent := 0
	for u, from := range c.members {
		if en.seq >= from {
			sent += u.entry(frame, c.id, en.author)
		}
	}
	if leaver != nil {
		c.partLocked(leaver)
	}
	e.metrics.deliveries.Add(float64(sent))
}

// applyLocked applies a change of membership to the local members. It returns the one to be taken out after the entry.
func (e *Edge) applyLocked(c *conversation, en entry) (leaver *user) {
	var stored struct {
		Body wire.MemberBody `json:"body"`
	}
	if err := json.Unmarshal(en.payload, &stored); err != nil {
		e.log.Error("member entry cannot be read", "conv", string(c.id), "seq", uint64(en.seq), "err", err)
		return nil
	}
	u := e.users.find(stored.Body.User)
	if u == nil {
		return nil
	}
	begins, ended := stored.Body.Change.Begins(), stored.Body.Change.Ends()
	if !begins && !ended {
		return nil
	}
	u.mu.Lock()
	if u.changed != nil {
		u.changed[c.id] = struct{}{}
	}
	u.mu.Unlock()
	if _, member := c.members[u]; ended && member {
		return u
	} else if begins && !member {
		c.joinLocked(u, en.seq)
	}
	return nil
}
