package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// headRoundsAtOnce is how many rounds of reads of heads are on their way at once: calls that come meanwhile are answered together by the next one.
const headRoundsAtOnce = 2

// Head is what a list says of the newest entry of a conversation. The nil Head stands for a conversation without entries. It does not change.
type Head struct {
	Seq     wire.Seq        // of the newest entry
	Count   uint64          // messages up to it
	Payload json.RawMessage // the newest entry itself, a wire.Entry; nothing later can have changed it

	stream  uint64 // its stream sequence
	posters posters
}

// Poster returns the newest post of a user, as Tail.Poster does.
func (h *Head) Poster(u subjects.User) (wire.Mark, bool) { return h.posters.find(u) }

// lean returns a head of which only the seq is kept.
func (h *Head) lean() *Head { return &Head{Seq: h.Seq, stream: h.stream} }

// headRounds reads heads, in rounds for all calls that wait, and remembers them.
type headRounds struct {
	s  *Store
	mu sync.Mutex // guards all below, and the memos

	known   *lru[subjects.Conversation, *headMemo]
	next    *headRound // which is yet to begin; nil = there is none
	running int
}

// headMemo is the head of a conversation as of a sequence of its stream.
type headMemo struct {
	head  *Head // without a payload, only its seq is known
	asOf  uint64
	whole time.Time // when it was read without regard to what was known
}

// headRound is one read for some calls. Until it begins, the mutex of its rounds guards it, and then the caller that leads it owns it.
type headRound struct {
	heads map[subjects.Conversation]wanted
	begun bool          // it has its turn; until its leader plans it, it takes more
	turn  chan struct{} // closed with begun
	done  chan struct{} // closed when it has ended
	err   [subjects.Partitions]error
}

type wanted struct {
	head    *Head
	payload bool // somebody wants more than the seq
}

func newHeadRounds(s *Store, bytes int) headRounds {
	return headRounds{s: s, known: newLRU[subjects.Conversation, *headMemo](bytes)}
}

// Heads returns the heads of conversations in their order; nil for one without an entry. All partitions are asked at once. The answer may come from any
// replica, so at more than one it may be a moment old.
func (l *Lists) Heads(ctx context.Context, conversations []subjects.Conversation) ([]*Head, error) {
	return l.heads.read(ctx, conversations, true)
}

// Seqs returns the seqs of the newest entries of conversations in their order, as Heads does; 0 for a conversation without an entry.
func (l *Lists) Seqs(ctx context.Context, conversations []subjects.Conversation) ([]wire.Seq, error) {
	heads, err := l.heads.read(ctx, conversations, false)
	if err != nil {
		return nil, err
	}
	seqs := make([]wire.Seq, len(heads))
	for i, h := range heads {
		if h != nil {
			seqs[i] = h.Seq
		}
	}
	return seqs, nil
}

func (h *headRounds) read(ctx context.Context, conversations []subjects.Conversation, payload bool) ([]*Head, error) {
	if len(conversations) == 0 {
		return nil, nil
	}
	r, leads := h.join(conversations, payload)
	if leads {
		// Others may wait for it by then, so it is led to its end, which is near: every read of the store is bounded.
		<-r.turn
		h.lead(context.WithoutCancel(ctx), r)
	} else {
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("read %d heads: %w", len(conversations), natsError(ctx.Err()))
		}
	}
	heads := make([]*Head, len(conversations))
	for i, c := range conversations {
		if err := r.err[c.Partition()]; err != nil {
			return nil, fmt.Errorf("read %d heads: %w", len(conversations), err)
		}
		heads[i] = r.heads[c].head
	}
	return heads, nil
}

// join adds to the next round. Who began it leads it.
func (h *headRounds) join(conversations []subjects.Conversation, payload bool) (r *headRound, leads bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if leads = h.next == nil; leads {
		h.next = &headRound{heads: make(map[subjects.Conversation]wanted, len(conversations)), turn: make(chan struct{}), done: make(chan struct{})}
		h.startLocked()
	}
	for _, c := range conversations {
		h.next.heads[c] = wanted{payload: payload || h.next.heads[c].payload}
	}
	return h.next, leads
}

// startLocked gives the next round its turn if it may begin.
func (h *headRounds) startLocked() {
	if h.next != nil && !h.next.begun && h.running < headRoundsAtOnce {
		h.running++
		h.next.begun = true
		close(h.next.turn)
	}
}

// lead does a round.
func (h *headRounds) lead(ctx context.Context, r *headRound) {
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running--
		h.startLocked()
		close(r.done)
	}()
	whole := time.Now()
	reads, again := h.plan(r, whole), []*lastsRead(nil)
	h.s.lasts(ctx, reads)
	for _, read := range reads {
		if read.err == nil && read.upTo < read.since && h.s.layout.Replicas <= 1 {
			// It is not the stream that it was. One of several replicas may just be behind: then what is known is newer.
			again = append(again, &lastsRead{partition: read.partition, conversations: read.conversations})
		}
	}
	h.s.lasts(ctx, again)
	for _, read := range slices.Concat(reads, again) {
		if read.err == nil {
			read.err = h.take(ctx, r, read, whole)
		}
		r.err[read.partition] = errors.Join(r.err[read.partition], read.err)
	}
}

// plan begins a round: what is known is put into it, to be completed by what has come since, and the rest is to be read whole.
func (h *headRounds) plan(r *headRound, now time.Time) []*lastsRead {
	var whole, since [subjects.Partitions]*lastsRead
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = nil
	for c, w := range r.heads {
		p := c.Partition()
		reads := &whole
		memo, known := h.known.get(c)
		if known = known && now.Sub(memo.whole) < listTrusted && (memo.head.Payload != nil || !w.payload); known {
			reads = &since
			w.head = memo.head
			r.heads[c] = w
		}
		if reads[p] == nil {
			reads[p] = &lastsRead{partition: p}
		}
		if known && (reads[p].since == 0 || memo.asOf < reads[p].since) {
			reads[p].since = memo.asOf
		}
		reads[p].conversations = append(reads[p].conversations, c)
	}
	return slices.DeleteFunc(slices.Concat(whole[:], since[:]), func(read *lastsRead) bool { return read == nil })
}

// take puts what was read into the round, and remembers it.
func (h *headRounds) take(ctx context.Context, r *headRound, read *lastsRead, now time.Time) error {
	if read.since == 0 {
		for _, c := range read.conversations {
			r.heads[c] = wanted{payload: r.heads[c].payload}
		}
	}
	var foreign map[subjects.Conversation]bool
	for _, m := range read.found {
		c, err := subjects.ParseMessage(m.Subject)
		if err != nil {
			return err
		}
		w, asked := r.heads[c]
		if !asked || w.head != nil && w.head.stream >= m.Sequence {
			continue
		}
		if w.head, err = headOf(c, m); err != nil {
			tail, err := h.s.tailOf(ctx, c, m, nil) // what is no entry is looked behind
			if err != nil {
				return err
			}
			if foreign == nil {
				foreign = map[subjects.Conversation]bool{}
			}
			w.head, foreign[c] = tail.Head(), true
		}
		r.heads[c] = w
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range read.conversations {
		if w := r.heads[c]; w.head == nil || foreign[c] {
			h.known.drop(c)
		} else {
			h.rememberLocked(c, w, read, now)
		}
	}
	return nil
}

// rememberLocked remembers a head as of a read.
func (h *headRounds) rememberLocked(c subjects.Conversation, w wanted, read *lastsRead, now time.Time) {
	memo, known := h.known.get(c)
	switch {
	case known && memo.asOf > read.upTo: // somebody else has read it since
	case known && read.since > 0 && memo.head == w.head:
		memo.asOf = read.upTo
	default:
		next := &headMemo{head: w.head, asOf: read.upTo, whole: now}
		if known && read.since > 0 {
			next.whole = memo.whole
		}
		if !w.payload && (!known || memo.head.Payload == nil) {
			next.head = w.head.lean()
		}
		h.known.put(c, next, next.cost(c))
	}
}

// cost returns about how many bytes a memo takes.
func (m *headMemo) cost(c subjects.Conversation) int {
	return 320 + 2*len(c) + len(m.head.Payload) + 40*cap(m.head.posters)
}

// headOf reads the head that a message is, if it is an entry of the conversation.
func headOf(c subjects.Conversation, m *rawMsg) (*Head, error) {
	e, err := wire.ParseEntryHeader(m.Header.Get(subjects.HeaderEntry))
	if err == nil && !wire.IsEntryOf(c, m.Data) {
		err = ErrNoEntry
	}
	if err != nil {
		return nil, err
	}
	p, err := parsePosters(m.Header.Get(subjects.HeaderPosters))
	if err != nil {
		return nil, err
	}
	// The answer's bytes hold the headers as well; what may be remembered for long is taken out of them.
	return &Head{Seq: e.Seq, Count: e.Count, Payload: bytes.Clone(m.Data), stream: m.Sequence, posters: slices.Clip(p)}, nil
}

// Head returns what a list says of the tail.
func (t Tail) Head() *Head {
	if t.Seq == 0 {
		return nil
	}
	return &Head{Seq: t.Seq, Count: t.Count, Payload: t.Payload, stream: t.stream, posters: t.posters}
}
