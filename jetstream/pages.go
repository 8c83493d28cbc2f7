package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Entry returns one entry as it now reads: with its newest body, its reactions, or recalled without a body. ErrNoEntry when the
// conversation has no such seq, ErrErased when retention took it. It knows of seq if that was ever acknowledged.
func (s *Store) Entry(ctx context.Context, c subjects.Conversation, seq wire.Seq) (wire.Entry, error) {
	tail, err := s.tailAtLeast(ctx, c, seq)
	if err != nil {
		return wire.Entry{}, err
	}
	e, err := s.reader(c, true).entry(ctx, tail, seq)
	if err != nil {
		return wire.Entry{}, fmt.Errorf("read entry %d of %s: %w", seq, c, err)
	}
	return e, nil
}

// Page returns the part of a conversation that a validated query asks for, of what is visible from the seq from on; 0 counts as 1. Entries are as they
// now read. A page beyond the visible range is empty, and its flags say where entries are. With AtLeast the answer knows of everything
// acknowledged before that seq was; without, at more than one replica, it may be a moment old. ErrErased when retention took what is asked for.
func (s *Store) Page(ctx context.Context, q wire.PageQuery, from wire.Seq) (wire.Page, error) {
	page, err := s.page(ctx, s.reader(q.Conversation, q.AtLeast > 0), q, max(from, 1))
	if err != nil {
		return wire.Page{}, fmt.Errorf("read a page of %s: %w", q.Conversation, err)
	}
	return page, nil
}

func (s *Store) page(ctx context.Context, r *reader, q wire.PageQuery, from wire.Seq) (wire.Page, error) {
	tail, err := s.tailAtLeast(ctx, r.c, known(q))
	if err != nil {
		return wire.Page{}, err
	}
	r.rounds++
	if q.Time != nil {
		first, err := r.around(ctx, tail, *q.Time, from)
		if err != nil {
			return wire.Page{}, err
		}
		q.Around = &first
	}
	lo, hi := window(q, from, tail.Seq)
	page := emptyPage(lo, hi, from, tail.Seq)
	if lo > hi {
		return page, nil
	}
	places, err := r.window(ctx, tail, lo, hi)
	if err != nil {
		return wire.Page{}, err
	}
	for _, p := range places {
		entry, there, err := r.raw(p)
		if err != nil {
			return wire.Page{}, err
		}
		if !there {
			continue
		}
		if page.First == 0 {
			page.First = p.seq
		}
		page.Last = p.seq
		page.Entries = append(page.Entries, entry)
	}
	if len(places) == 0 || places[0].seq > lo {
		page.MoreBefore = false // the rest was taken by retention
	}
	return page, nil
}

// emptyPage returns a page from lo to hi without its entries.
func emptyPage(lo, hi, from, tail wire.Seq) wire.Page {
	return wire.Page{Entries: []json.RawMessage{}, MoreBefore: lo > from && tail >= from, MoreAfter: hi < tail && tail >= from}
}

// around returns the seq that a page at a time is around: the first visible entry at or after it, or the one that comes next.
func (r *reader) around(ctx context.Context, tail Tail, at wire.Time, from wire.Seq) (wire.Seq, error) {
	first, err := r.seekTime(ctx, tail, at)
	if err == nil && first == 0 {
		first = tail.Seq + 1
	}
	return max(first, from), err
}

// window returns the ends of a page, lo > hi for an empty one. Visible are from to tail. An empty page's ends say what lies on which side:
// entries below lo and above hi.
func window(q wire.PageQuery, from, tail wire.Seq) (lo, hi wire.Seq) {
	n := wire.Seq(wire.ClampLimit(q.Limit, wire.DefaultPage, wire.MaxPage))
	switch {
	case q.After != nil:
		lo = max(min(*q.After, tail)+1, from)
		return lo, min(tail, lo+n-1)
	case q.Around != nil:
		middle := *q.Around
		if middle > tail {
			return tail + 1, tail
		}
		if middle < from {
			return from, from - 1
		}
		hi = min(tail, middle+n-n/2-1)
		lo = max(from, back(hi, n-1))
		return lo, min(tail, lo+n-1)
	case q.Before != nil:
		hi = min(tail, back(*q.Before, 1))
	default:
		hi = tail
	}
	if hi < from {
		return from, from - 1
	}
	return max(from, back(hi, n-1)), hi
}

// back returns seq-n, or 0.
func back(seq, n wire.Seq) wire.Seq { return seq - min(seq, n) }

// window loads the entries from lo to hi, what was changed in them, and the bodies of their edits.
func (r *reader) window(ctx context.Context, tail Tail, lo, hi wire.Seq) ([]place, error) {
	var (
		records map[uint64]*storedAmends
		failure error
		reading sync.WaitGroup
	)
	reading.Go(func() { records, failure = r.s.readRecords(ctx, r.c, pageOf(lo), pageOf(hi), r.leader) })
	places, err := r.gather(ctx, tail, lo, hi)
	reading.Wait()
	if err := cmp.Or(err, failure); err != nil {
		return nil, err
	}
	for page, record := range records {
		// One that was read on the way is newer: an erased entry led to it.
		if r.records[page] == nil {
			r.records[page] = record
		}
	}
	r.foldTail(tail)
	return places, r.loadEdits(ctx, places)
}

// readRecords returns the records of a range of pages.
func (s *Store) readRecords(ctx context.Context, c subjects.Conversation, from, to uint64, leader bool) (map[uint64]*storedAmends, error) {
	records := make(map[uint64]*storedAmends, to-from+1)
	names := make([]string, 0, to-from+1)
	of := make(map[string]uint64, to-from+1)
	for page := from; page <= to; page++ {
		if leader {
			record, err := s.readRecord(ctx, c, page, true)
			if err != nil {
				return nil, err
			}
			records[page] = record
			continue
		}
		name := amendsSubject(c, page)
		records[page], of[name], names = &storedAmends{}, page, append(names, name)
	}
	found, err := s.multiLast(ctx, subjects.BucketStream(subjects.BucketAmends), names)
	if err != nil {
		return nil, err
	}
	for _, msg := range found {
		if records[of[msg.Subject]], err = parseRecord(msg); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// raw is folded for entries that go to clients: what nothing changed goes as it was stored.
func (r *reader) raw(p place) (json.RawMessage, bool, error) {
	if m, stored := r.amended(p.seq), r.entries[p.stream]; m == nil && stored != nil {
		return stored.payload, true, nil
	}
	e, there, err := r.folded(p)
	if err != nil || !there {
		return nil, there, err
	}
	data, err := wire.Marshal(&e)
	return data, true, err
}

// Fill returns the entries after a seq as they were stored, at most limit of them and MaxPage, without those that were erased: the answer covers
// the seqs up to its To, which is after+limit or the head, whichever is less. It comes from the leader, since who asks has seen that there is more.
func (s *Store) Fill(ctx context.Context, c subjects.Conversation, after wire.Seq, limit int) (wire.Filled, error) {
	filled := wire.Filled{Entries: []json.RawMessage{}}
	tail, err := s.Tail(ctx, c)
	if err != nil {
		return filled, err
	}
	filled.Head = tail.Seq
	lo, hi := window(wire.PageQuery{After: &after, Limit: limit}, 1, tail.Seq)
	if lo > hi {
		filled.To = after
		return filled, nil
	}
	filled.To = hi
	r := s.reader(c, true)
	places, err := r.gather(ctx, tail, lo, hi)
	if err != nil {
		return filled, fmt.Errorf("fill %s after %d: %w", c, after, err)
	}
	for _, p := range places {
		if e := r.entries[p.stream]; e != nil {
			filled.Entries = append(filled.Entries, e.payload)
		}
	}
	return filled, nil
}

// known returns the largest seq that a query shows its sender to know of.
func known(q wire.PageQuery) wire.Seq {
	seq := q.AtLeast
	for _, end := range []*wire.Seq{q.After, q.Around, q.Before} {
		if end != nil {
			seq = max(seq, *end)
		}
	}
	return seq
}
