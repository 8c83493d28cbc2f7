package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// needs is what has to be read for a range of a log.
type needs struct {
	stale  []uint64 // pages whose record has to be read
	sealed []uint64 // full pages that may be sealed
	single []place  // entries whose places are known
	proof  []uint64 // pages that have to be found in the log again
}

// provide reads what is missing of a range, all at once: what later entries changed, sealed pages, entries whose places are known, and proof that
// what is remembered is still in the log. What is not sealed is then read by the way of the log.
func (v *viewing) provide(ctx context.Context, lo, hi wire.Seq) error {
	v.lo, v.hi, v.failed = lo, hi, nil
	n := v.needs(lo, hi)
	var (
		records  map[uint64]*storedAmends
		sealed   map[uint64]*keptPage
		failures [3]error
		reading  sync.WaitGroup
	)
	if len(n.stale) > 0 {
		reading.Go(func() {
			records, failures[0] = v.p.s.readRecords(ctx, v.r.c, n.stale[0], n.stale[len(n.stale)-1], v.r.leader)
		})
	}
	if len(n.sealed) > 0 {
		// Where they cannot be read, there is the log.
		reading.Go(func() { sealed, _ = v.p.s.readSealed(ctx, v.r.c, n.sealed) })
	}
	if len(n.proof) > 0 {
		reading.Go(func() { failures[1] = v.prove(ctx, n.proof) })
	}
	failures[2] = v.r.load(ctx, n.single)
	reading.Wait()
	if err := cmp.Or(failures[:]...); err != nil {
		return err
	}
	for page, record := range records {
		v.edit(page).amends = keptAmends{record: record, stamp: v.state.stamp(page), read: v.now}
		if record.revision == 0 {
			v.memo.cleaned(page, v.state, v.now)
		}
	}
	v.learn(n.single)
	if err := v.unseal(ctx, sealed); err != nil {
		return err
	}
	if err := v.walk(ctx, lo, hi); err != nil {
		return err
	}
	v.forget()
	v.keep()
	return nil
}

// needs looks what is missing of a range.
func (v *viewing) needs(lo, hi wire.Seq) needs {
	var n needs
	for page := pageOf(lo); page <= pageOf(hi); page++ {
		k := v.kept(page)
		if page == pageOf(v.tail.Seq) && (k == nil || k.streams[int(v.tail.Seq-1)%pageSize] != v.tail.stream) {
			k = v.edit(page)
			copy(k.streams[:], v.tail.backs.page)
			k.set(place{v.tail.Seq, v.tail.stream}, v.tail.Payload)
		}
		if k == nil {
			k = v.edit(page)
		}
		if !v.current(page, k) {
			if since, clean := v.memo.isClean(page, v.state); clean && v.now.Sub(since) < recordTrusted {
				k = v.edit(page)
				k.amends = keptAmends{record: &storedAmends{}, stamp: v.state.stamp(page), read: since}
			} else {
				n.stale = append(n.stale, page)
			}
		}
		if k.known != 0 && !v.proven(page, k) {
			n.proof = append(n.proof, page)
		}
		if places, known := k.places(page, k.lack(max(lo, firstOf(page)), min(hi, lastOf(page)))); known {
			n.single = append(n.single, places...)
		} else if !v.p.sealer.absent.Load() {
			n.sealed = append(n.sealed, page)
		}
	}
	return n
}

// learn notes entries that the reader has loaded.
func (v *viewing) learn(places []place) {
	for _, p := range places {
		e, loaded := v.r.entries[p.stream]
		switch {
		case !loaded:
		case e == nil:
			v.edit(pageOf(p.seq)).set(p, nil)
		default:
			v.edit(pageOf(p.seq)).set(p, bytes.Clone(e.payload)) // not with the whole message that it came in
		}
	}
}

// unseal takes over sealed pages that the log proves.
func (v *viewing) unseal(ctx context.Context, sealed map[uint64]*keptPage) error {
	if len(sealed) == 0 {
		return nil
	}
	var open []uint64
	for page, found := range sealed {
		k := v.edit(page)
		found.amends = k.amends
		*k = *found
		if !v.memo.isProven(firstOf(page), v.now) {
			open = append(open, page)
		}
	}
	if open == nil {
		return nil
	}
	return v.prove(ctx, open)
}

// prove looks for one entry of each page in the log. A page that is not there any more, since retention took it, is forgotten, also where it is sealed.
func (v *viewing) prove(ctx context.Context, pages []uint64) error {
	asked := make([]uint64, 0, len(pages))
	samples := make([][]byte, 0, len(pages))
	places := make([]place, 0, len(pages))
	for _, page := range pages {
		p, payload := v.pages[page].sample(page)
		asked, samples, places = append(asked, max(p.stream, 1)), append(samples, payload), append(places, p)
	}
	found, err := v.p.s.bySequences(ctx, subjects.StreamOf(v.r.c), asked)
	if err != nil {
		return err
	}
	for i, page := range pages {
		k := v.edit(page)
		if samples[i] == nil { // all of it was recalled
			k.proven = v.now
			continue
		}
		if found[i] != nil && bytes.Equal(found[i].Data, samples[i]) {
			k.proven = v.now
			v.memo.found(places[i].seq, v.now)
			continue
		}
		*k = keptPage{amends: k.amends, proven: v.now}
		v.p.sealer.add(sealJob{pageID{v.r.c, page}, true})
	}
	return nil
}

// walk reads what is still missing of a range from the log, and has the full pages among it sealed.
func (v *viewing) walk(ctx context.Context, lo, hi wire.Seq) error {
	var from, to wire.Seq
	for page := pageOf(lo); page <= pageOf(hi); page++ {
		first, last := max(lo, firstOf(page)), min(hi, lastOf(page))
		if v.pages[page].lack(first, last) == 0 {
			continue
		}
		if from == 0 {
			from = first
		}
		to = last
		if lastOf(page) <= v.tail.Seq {
			v.p.sealer.add(sealJob{pageID{v.r.c, page}, false})
		}
	}
	if from == 0 {
		return nil
	}
	places, err := v.r.gather(ctx, v.tail, from, to)
	if errors.Is(err, ErrErased) && to < hi { // of a page that retention took only what comes after it is answered
		return nil
	}
	if err != nil {
		return err
	}
	v.learn(places)
	return nil
}

// forget drops the bodies of what was recalled, and has them erased where they are sealed: the recall did so itself, unless it came from a release that knew of
// no sealed pages.
func (v *viewing) forget() {
	for page, k := range v.pages {
		if k.amends.record == nil {
			continue
		}
		for seq, m := range k.amends.record.Entries {
			i := int(seq-1) % pageSize
			if m.Left != nil && k.entries[i] != nil {
				k = v.edit(page)
				k.set(place{seq, k.streams[i]}, nil)
				v.p.sealer.add(sealJob{pageID{v.r.c, page}, true})
			}
		}
	}
}
