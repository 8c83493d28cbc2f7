package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/confab-im/confab/subjects/wire"
)

// node is what an entry knows of the log: where the entries of its page are up to itself, and where older pages end.
type node struct {
	page    uint64
	streams []uint64 // of the page's entries, from its first
	before  []uint64 // of the last entries of older pages, see backs
	at      wire.Time
}

// streamOf returns the stream sequence of an entry of the node's page that the node knows.
func (n node) streamOf(seq wire.Seq) uint64 { return n.streams[seq-firstOf(n.page)] }

// last returns the seq of the node's own entry.
func (n node) last() wire.Seq { return firstOf(n.page) + wire.Seq(len(n.streams)) - 1 }

func newNode(seq wire.Seq, stream uint64, b backs, at wire.Time) node {
	return node{page: pageOf(seq), streams: append(slices.Clone(b.page), stream), before: b.before, at: at}
}

func (t Tail) node() node { return newNode(t.Seq, t.stream, t.backs, t.At) }

// seek returns the node of the newest entry of a page, at most the tail's, in as many reads as there are pages on the way.
func (r *reader) seek(ctx context.Context, tail Tail, page uint64) (node, error) {
	n := tail.node()
	for n.page > page {
		level := 0
		for level+1 < len(n.before) && pointee(n.page, level+1) >= page {
			level++
		}
		next, err := r.step(ctx, n, level)
		if err != nil {
			return node{}, fmt.Errorf("look for page %d: %w", page, err)
		}
		n = next
	}
	return n, nil
}

// pointed returns where the pointer of a level leads.
func (n node) pointed(level int) place {
	return place{lastOf(pointee(n.page, level)), n.before[level]}
}

// step follows one pointer of a node.
func (r *reader) step(ctx context.Context, n node, level int) (node, error) {
	p := n.pointed(level)
	if err := r.load(ctx, []place{p}); err != nil {
		return node{}, err
	}
	return r.nodeAt(ctx, p)
}

// nodeAt returns the node of the last entry of a page, which was loaded. Where a recall erased it, the page's record has what it knew.
func (r *reader) nodeAt(ctx context.Context, p place) (node, error) {
	if e := r.entries[p.stream]; e != nil {
		b, err := e.backs()
		if err != nil {
			return node{}, err
		}
		at, err := e.at()
		return newNode(p.seq, p.stream, b, at), err
	}
	record, err := r.record(ctx, pageOf(p.seq))
	if err != nil {
		return node{}, err
	}
	if m := record.Entries[p.seq]; m != nil && m.Left != nil {
		b, err := parseBacks(m.Left.Back, p.seq)
		return newNode(p.seq, p.stream, b, m.Left.At), err
	}
	return node{}, fmt.Errorf("entry %d: %w", p.seq, ErrErased)
}

// seekTime returns the seq of the first entry at or after a time, or 0 where there is none. All pointers of a page are read at once, so
// there is one wait a page on the way.
func (r *reader) seekTime(ctx context.Context, tail Tail, at wire.Time) (wire.Seq, error) {
	if tail.Seq == 0 || tail.At.Before(at.Time) {
		return 0, nil
	}
	n := tail.node()
	for {
		next, found, err := r.farthest(ctx, n, at)
		if err != nil {
			return 0, err
		}
		if !found {
			return r.firstAt(ctx, n, at)
		}
		n = next
	}
}

// farthest returns the oldest of the pages that a node points at whose last entry is at or after a time. Pages that are gone count as older.
func (r *reader) farthest(ctx context.Context, n node, at wire.Time) (next node, found bool, err error) {
	places := make([]place, len(n.before))
	for level := range n.before {
		places[level] = n.pointed(level)
	}
	if err := r.load(ctx, places); err != nil {
		return node{}, false, err
	}
	for _, p := range slices.Backward(places) {
		next, err := r.nodeAt(ctx, p)
		switch {
		case errors.Is(err, ErrErased):
		case err != nil:
			return node{}, false, err
		case !next.at.Before(at.Time):
			return next, true, nil
		}
	}
	return node{}, false, nil
}

// firstAt returns the seq of the first entry in a node's page at or after a time; the node's own entry is.
func (r *reader) firstAt(ctx context.Context, n node, at wire.Time) (wire.Seq, error) {
	places := n.places(firstOf(n.page), n.last())
	if err := r.load(ctx, places); err != nil {
		return 0, err
	}
	for _, p := range places {
		e, there, err := r.folded(p)
		if err != nil {
			return 0, err
		}
		if there && !e.At.Before(at.Time) {
			return p.seq, nil
		}
	}
	return n.last(), nil
}

// places returns where the entries of a range are, as far as the node's page holds them, ascending.
func (n node) places(from, to wire.Seq) []place {
	from, to = max(from, firstOf(n.page)), min(to, n.last())
	var all []place
	for seq := from; seq <= to; seq++ {
		all = append(all, place{seq, n.streamOf(seq)})
	}
	return all
}

// seqOf returns the seq of the entry with a stream sequence, without reading what does not lead to it; ErrNoEntry where there is none.
func (r *reader) seqOf(ctx context.Context, tail Tail, stream uint64) (wire.Seq, error) {
	if tail.Seq == 0 {
		return 0, ErrNoEntry
	}
	for n := tail.node(); ; {
		level := len(n.before) - 1
		for level >= 0 && n.before[level] < stream {
			level--
		}
		if level < 0 {
			i, found := slices.BinarySearch(n.streams, stream)
			if !found {
				return 0, ErrNoEntry
			}
			return firstOf(n.page) + wire.Seq(i), nil
		}
		next, err := r.step(ctx, n, level)
		if err != nil {
			return 0, err
		}
		n = next
	}
}

// gather returns where the entries from one seq to another are, ascending, and loads them: a page at a time, each together with the
// node of the page before. Pages that retention took are left out.
func (r *reader) gather(ctx context.Context, tail Tail, from, to wire.Seq) ([]place, error) {
	n, err := r.seek(ctx, tail, pageOf(to))
	if err != nil {
		return nil, err
	}
	var all []place
	for {
		places := n.places(from, to)
		all = append(slices.Clone(places), all...)
		more := n.page > pageOf(from)
		if more {
			places = append(places, n.pointed(0))
		}
		if err := r.load(ctx, places); err != nil {
			return nil, err
		}
		if !more {
			return all, nil
		}
		n, err = r.nodeAt(ctx, n.pointed(0))
		if errors.Is(err, ErrErased) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
