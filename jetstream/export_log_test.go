package jetstream

import (
	"context"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// What tests of the log see of this package, as in export_raw_test.go.

const PageSize = pageSize

// PageRounds is Page and returns how many reads had to wait for one before.
func (s *Store) PageRounds(ctx context.Context, q wire.PageQuery, from wire.Seq) (wire.Page, int, error) {
	r := s.reader(q.Conversation, q.AtLeast > 0)
	page, err := s.page(ctx, r, q, max(from, 1))
	return page, r.rounds, err
}

// Stream returns the stream sequence of the tail.
func (t Tail) Stream() uint64 { return t.stream }

// Settled reports whether nothing is left to record for the tail.
func (t Tail) Settled() bool { return t.open == nil }

// HeaderBytes returns how many bytes the headers of the tail take, by name.
func (t Tail) HeaderBytes() map[string]int {
	sizes := map[string]int{}
	for name, values := range ownHeader(t.newest.header) {
		sizes[name] = len(name) + len(": ") + len(values[0]) + len("\r\n")
	}
	return sizes
}

// AppendAll is Append for many messages at once, in a partition where nobody else writes: their stream sequences are known beforehand, and the
// server's comparison with the tail proves it.
func (s *Store) AppendAll(ctx context.Context, c subjects.Conversation, tail Tail, drafts []Draft) (Tail, error) {
	tails, err := s.Tails(ctx)
	if err != nil {
		return tail, err
	}
	stream := tails[c.Partition()]
	for window := range slices.Chunk(drafts, maxPipelined) {
		messages := make([]*nats.Msg, 0, len(window))
		for _, d := range window {
			_, next, _, err := s.compose(c, tail, &d, nil)
			if err != nil {
				return tail, err
			}
			messages = append(messages, &nats.Msg{Subject: subjects.Message(c), Header: conditional(next.newest.header, "", tail.stream), Data: next.Payload})
			stream++
			next.stream = stream
			tail = next
		}
		if err := s.publishAll(ctx, messages); err != nil {
			return tail, err
		}
	}
	return tail, nil
}

// Seals reports whether the reader has found the bucket of sealed pages.
func (p *Pages) Seals() bool { return !p.sealer.absent.Load() }

// Distrust has the reader look for everything in the log that it remembers.
func (p *Pages) Distrust() {
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	for e := p.kept.order.Front(); e != nil; e = e.Next() {
		item := e.Value.(lruItem[pageID, *keptPage])
		k := *item.value
		k.proven = k.proven.Add(-trusted)
		item.value = &k
		e.Value = item
	}
	p.logs.mu.Lock()
	defer p.logs.mu.Unlock()
	for e := p.logs.order.Front(); e != nil; e = e.Next() {
		memo := e.Value.(lruItem[subjects.Conversation, *logMemo]).value
		memo.mu.Lock()
		memo.proof = memo.proof.Add(-trusted)
		memo.mu.Unlock()
	}
}

// First returns the message that would be the first entry of a conversation.
func (s *Store) First(c subjects.Conversation, d Draft) (*nats.Msg, error) {
	_, next, _, err := s.compose(c, Tail{}, &d, nil)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: subjects.Message(c), Header: next.newest.header, Data: next.Payload}, nil
}

// BeginSeal claims and reads a page, and returns what writes its record.
func (s *Store) BeginSeal(ctx context.Context, c subjects.Conversation, page uint64) (end func() error, err error) {
	sealing, err := s.beginSeal(ctx, c, page)
	if err != nil {
		return nil, err
	}
	return func() error { return s.endSeal(ctx, c, page, sealing) }, nil
}

// VerifyWaiting is one look of Verify in which so many pairs of a bucket may wait in memory for their other direction.
func (s *Store) VerifyWaiting(ctx context.Context, waiting int) (Audit, []Finding, error) {
	l := &look{s: s, waiting: waiting, partitions: partitionsOf(nil)}
	return l.run(ctx)
}
