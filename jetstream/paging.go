package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	// trusted is how long a page is answered from memory before it is looked whether the log still has it.
	trusted = 10 * time.Second
	// recordTrusted is how long a page's record is answered from memory where no entry has changed the page, as the tails say that were seen.
	recordTrusted = time.Minute
	// keptLogs is of how many conversations the tail is remembered, 2 to 4 KiB each.
	keptLogs = 2048
)

// Pages reads pages of conversations as Store.Page does, and cheaper the second time: it remembers pages in memory, and seals full ones in IM_PAGES. An
// answer holds what the log says at that moment: every one begins with a read of the tail, and what later entries changed is read again unless the tails
// that were seen since say that no entry changed it. Only what retention takes may be answered for 10 seconds more. It is safe for concurrent use.
type Pages struct {
	s      *Store
	kept   *lru[pageID, *keptPage]
	logs   *lru[subjects.Conversation, *logMemo]
	chains atomic.Uint64 // numbers of chains given so far
	sealer sealer
}

// NewPages returns a reader over a store that remembers pages of at most bytes of memory together.
func NewPages(s *Store, bytes int) *Pages {
	p := &Pages{s: s, kept: newLRU[pageID, *keptPage](bytes), logs: newLRU[subjects.Conversation, *logMemo](keptLogs)}
	p.sealer.init()
	return p
}

// Page returns the part of a conversation that a validated query asks for, as Store.Page does. The first visible seq, 0 counts as 1, is what see
// returns, which is called after the tail was read: so what it decides is not older than what is answered. Its error is returned as it is.
func (p *Pages) Page(ctx context.Context, q wire.PageQuery, see func(context.Context) (wire.Seq, error)) (wire.Page, error) {
	memo := p.log(q.Conversation)
	state, err := p.state(ctx, q.Conversation, memo, known(q))
	if err != nil {
		return wire.Page{}, fmt.Errorf("read a page of %s: %w", q.Conversation, err)
	}
	// What is remembered must not be what a replica had a moment ago: it would be answered for longer than a moment.
	leader := q.AtLeast > 0 || !p.s.alone()
	v := &viewing{p: p, r: p.s.reader(q.Conversation, leader), memo: memo, state: state, tail: state.tail, now: time.Now()}
	var (
		from    wire.Seq
		refusal error
	)
	if lo, hi := window(q, 1, v.tail.Seq); q.Time == nil && lo <= hi && !v.ready(lo, hi) {
		var seeing sync.WaitGroup
		seeing.Go(func() { from, refusal = see(ctx) })
		v.failed = v.provide(ctx, lo, hi)
		seeing.Wait()
	} else {
		from, refusal = see(ctx)
	}
	if refusal != nil {
		return wire.Page{}, refusal
	}
	page, err := v.page(ctx, q, max(from, 1))
	if err != nil {
		return wire.Page{}, fmt.Errorf("read a page of %s: %w", q.Conversation, err)
	}
	return page, nil
}

// viewing is one call of Page. One goroutine uses it.
type viewing struct {
	p      *Pages
	r      *reader
	memo   *logMemo
	state  *logState
	tail   Tail
	now    time.Time
	pages  map[uint64]*keptPage // what this call has found
	own    map[uint64]bool      // those of pages that nobody else sees yet
	lo, hi wire.Seq             // what was provided
	failed error                // why it was not
}

// kept returns what is known of a page, or nil.
func (v *viewing) kept(page uint64) *keptPage {
	if k := v.pages[page]; k != nil {
		return k
	}
	k, found := v.p.kept.get(pageID{v.r.c, page})
	if found {
		v.take(page, k)
	}
	return k
}

func (v *viewing) take(page uint64, k *keptPage) {
	if v.pages == nil {
		v.pages = make(map[uint64]*keptPage, 4)
	}
	v.pages[page] = k
}

// edit returns what is known of a page, to learn more.
func (v *viewing) edit(page uint64) *keptPage {
	k := v.kept(page)
	switch {
	case k == nil:
		k = &keptPage{proven: v.now}
	case v.own[page]:
		return k
	default:
		copied := *k
		k = &copied
	}
	if v.own == nil {
		v.own = make(map[uint64]bool, 4)
	}
	v.own[page] = true
	v.take(page, k)
	return k
}

// keep remembers what this call has learnt.
func (v *viewing) keep() {
	for page := range v.own {
		if k := v.pages[page]; k.known != 0 {
			v.p.kept.put(pageID{v.r.c, page}, k, k.cost())
		}
	}
	v.own = nil
}

// current reports whether no entry can have changed a page since its record was read. What the tail itself changes is folded for each answer.
func (v *viewing) current(page uint64, k *keptPage) bool {
	return k.amends.record != nil && k.amends.stamp == v.state.stamp(page) && v.now.Sub(k.amends.read) < recordTrusted
}

// proven reports whether a page was found in the log a moment ago.
func (v *viewing) proven(page uint64, k *keptPage) bool {
	return v.now.Sub(k.proven) < trusted || v.memo.isProven(firstOf(page), v.now)
}

// ready reports whether all of a range can be answered from memory, and takes it from there.
func (v *viewing) ready(lo, hi wire.Seq) bool {
	if v.failed == nil && v.lo != 0 && v.lo <= lo && hi <= v.hi {
		return true // what is unknown now, retention took
	}
	all := true
	for page := pageOf(lo); page <= pageOf(hi); page++ {
		k := v.kept(page)
		all = all && k != nil && v.current(page, k) && v.proven(page, k) && k.lack(max(lo, firstOf(page)), min(hi, lastOf(page))) == 0
	}
	return all
}

// page answers from what is there, and provides what is not.
func (v *viewing) page(ctx context.Context, q wire.PageQuery, from wire.Seq) (wire.Page, error) {
	if q.Time != nil {
		first, err := v.r.around(ctx, v.tail, *q.Time, from)
		if err != nil {
			return wire.Page{}, err
		}
		q.Around = &first
	}
	lo, hi := window(q, from, v.tail.Seq)
	page := emptyPage(lo, hi, from, v.tail.Seq)
	if lo > hi {
		return page, nil
	}
	if !v.ready(lo, hi) {
		if err := v.provide(ctx, lo, hi); err != nil {
			return wire.Page{}, err
		}
	}
	if err := v.fold(ctx, lo, hi); err != nil {
		return wire.Page{}, err
	}
	page.Entries = make([]json.RawMessage, 0, hi-lo+1)
	for seq := lo; seq <= hi; seq++ {
		entry, there, err := v.raw(seq)
		if err != nil {
			return wire.Page{}, err
		}
		if !there {
			continue
		}
		if page.First == 0 {
			page.First = seq
		}
		page.Last = seq
		page.Entries = append(page.Entries, entry)
	}
	if v.pages[pageOf(lo)].lack(lo, lo) != 0 {
		page.MoreBefore = false // the rest was taken by retention
	}
	return page, nil
}

// fold prepares the reader for those entries of a range that were changed: with the records of the pages, what the tail changes, and the newest bodies.
func (v *viewing) fold(ctx context.Context, lo, hi wire.Seq) error {
	var changed []place
	for page := pageOf(lo); page <= pageOf(hi); page++ {
		record := v.pages[page].amends.record
		if newer := v.r.records[page]; newer != nil { // read on the way: an erased entry led to it
			record = newer
		}
		if v.tail.open.changes(page) {
			record = record.clone()
			record.fold(page, v.tail.open)
			v.r.entries[v.tail.stream] = v.tail.newest
		}
		v.r.records[page] = record
		for seq, m := range record.Entries {
			if seq < lo || seq > hi {
				continue
			}
			v.lend(place{seq, v.pages[page].streams[int(seq-1)%pageSize]})
			if newest, ok := m.newest(); ok {
				changed = append(changed, place{newest.Seq, newest.Stream})
				v.lend(place{newest.Seq, newest.Stream})
			}
		}
	}
	if changed == nil {
		return nil
	}
	return v.r.load(ctx, changed)
}

// lend gives the reader an entry that is known.
func (v *viewing) lend(p place) {
	k := v.kept(pageOf(p.seq))
	if k == nil || k.lack(p.seq, p.seq) != 0 || v.r.entries[p.stream] != nil {
		return
	}
	v.r.entries[p.stream] = nil
	if payload := k.entries[int(p.seq-1)%pageSize]; payload != nil {
		v.r.entries[p.stream] = &logEntry{EntryHeader: wire.EntryHeader{Seq: p.seq}, stream: p.stream, payload: payload}
	}
}

// raw returns an entry as it goes to clients: what nothing changed goes as it was stored.
func (v *viewing) raw(seq wire.Seq) (json.RawMessage, bool, error) {
	k, i := v.pages[pageOf(seq)], int(seq-1)%pageSize
	if v.r.amended(seq) == nil {
		return k.entries[i], k.entries[i] != nil, nil
	}
	return v.r.raw(place{seq, k.streams[i]})
}
