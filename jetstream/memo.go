package jetstream

import (
	"bytes"
	"context"
	"maps"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// logMemo is what is remembered of the log of a conversation beside its pages. The mutex guards all fields.
type logMemo struct {
	mu     sync.Mutex
	state  *logState // nil = nothing yet
	seen   time.Time // when the tail of the state was last found to be the newest entry
	clean  []uint64  // a bit for each page that has no record as of the state
	swept  time.Time // when the oldest bit of clean may have been set
	proven wire.Seq  // an entry that was found in the log: retention takes from the beginning, so every later one is there, unless it was recalled
	proof  time.Time // when that was; zero = never
}

// logState is a tail, and which records of pages are as new as it is. It does not change.
type logState struct {
	tail    Tail
	chain   uint64            // changes where a tail does not follow the one that was seen before
	changed map[uint64]uint64 // how often the entries of the chain changed a page; pages that they did not are left out
}

// stamp says as of when a page's record was read: as long as it is that of the newest state, no entry has changed the page since.
type stamp struct{ chain, changes uint64 }

func (s *logState) stamp(page uint64) stamp { return stamp{s.chain, s.changed[page]} }

// maxChanged is how many pages a chain tells apart.
const maxChanged = 64

// log returns what is remembered of a conversation.
func (p *Pages) log(c subjects.Conversation) *logMemo {
	if memo, known := p.logs.get(c); known {
		return memo
	}
	memo := &logMemo{}
	p.logs.put(c, memo, 1)
	return memo
}

// state returns a tail that knows of a seq, as Store.tailAtLeast does. One that was read before is not parsed again.
func (p *Pages) state(ctx context.Context, c subjects.Conversation, memo *logMemo, seq wire.Seq) (*logState, error) {
	msg, err := p.s.lastDirect(ctx, subjects.StreamOf(c), subjects.Message(c))
	if err == nil {
		if state := memo.same(msg); state != nil && state.tail.Seq >= seq {
			return state, nil
		}
	}
	tail, err := p.s.tailOf(ctx, c, msg, err)
	if err == nil && tail.Seq < seq {
		tail, err = p.s.Tail(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	if tail.Seq == 0 || tail.foreign != 0 {
		return &logState{tail: tail, chain: p.chains.Add(1)}, nil
	}
	return memo.step(tail, p.chains.Add(1)), nil
}

// same returns the state where a message is its tail, or nil.
func (m *logMemo) same(msg *rawMsg) *logState {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == nil || m.state.tail.stream != msg.Sequence || !bytes.Equal(m.state.tail.Payload, msg.Data) {
		return nil
	}
	m.seen = time.Now()
	return m.state
}

// step goes on to a tail and returns the state with it, or with the newer one that somebody else has seen a moment ago. The tail that follows the last one
// says that what that one changed is recorded now, and that nothing else was; any other begins the chain with the given number.
func (m *logMemo) step(tail Tail, chain uint64) *logState {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	before := m.state
	if before != nil && tail.stream < before.tail.stream && now.Sub(m.seen) < trusted {
		return before
	}
	next := &logState{tail: tail, chain: chain}
	if before != nil && tail.follows(before.tail) && len(before.changed) < maxChanged {
		next.chain, next.changed = before.chain, before.changed
		if open := before.tail.open; open != nil {
			next.changed = maps.Clone(before.changed)
			if next.changed == nil {
				next.changed = map[uint64]uint64{}
			}
			for _, page := range open.pages() {
				next.changed[page]++
				m.soil(page)
			}
		}
	} else {
		m.clean = nil
	}
	m.state, m.seen = next, now
	return next
}

// follows reports whether a tail is the entry after another one.
func (t Tail) follows(before Tail) bool {
	if t.Seq != before.Seq+1 {
		return false
	}
	if n := len(t.backs.page); n > 0 {
		return t.backs.page[n-1] == before.stream
	}
	return len(t.backs.before) > 0 && t.backs.before[0] == before.stream
}

// soil forgets that a page has no record.
func (m *logMemo) soil(page uint64) {
	if word := page / 64; word < uint64(len(m.clean)) {
		m.clean[word] &^= 1 << (page % 64)
	}
}

// isClean reports whether a page is known to have no record as of a state, and since when.
func (m *logMemo) isClean(page uint64, state *logState) (since time.Time, clean bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == nil || m.state.stamp(page) != state.stamp(page) || page/64 >= uint64(len(m.clean)) {
		return time.Time{}, false
	}
	return m.swept, m.clean[page/64]&(1<<(page%64)) != 0
}

// cleaned notes that a page has no record as of a state.
func (m *logMemo) cleaned(page uint64, state *logState, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == nil || m.state.stamp(page) != state.stamp(page) {
		return
	}
	if m.clean == nil || now.Sub(m.swept) >= recordTrusted {
		m.clean, m.swept = make([]uint64, pageOf(m.state.tail.Seq)/64+1), now
	}
	for page/64 >= uint64(len(m.clean)) {
		m.clean = append(m.clean, 0)
	}
	m.clean[page/64] |= 1 << (page % 64)
}

// isProven reports whether the log was found to have all entries from a seq on a moment ago.
func (m *logMemo) isProven(from wire.Seq, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proven <= from && now.Sub(m.proof) < trusted
}

// found notes that the log has an entry.
func (m *logMemo) found(seq wire.Seq, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq <= m.proven || now.Sub(m.proof) >= trusted {
		m.proven, m.proof = seq, now
	}
}
