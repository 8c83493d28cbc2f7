package jetstream

import (
	"encoding/json"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// pageID names one page of a log.
type pageID struct {
	c    subjects.Conversation
	page uint64
}

// keptPage is what is remembered of a page: its entries as they were stored, which never change, and what later entries changed in them as of a
// tail. A keptPage does not change once others can see it; who learns more keeps a copy.
type keptPage struct {
	streams [pageSize]uint64          // where the entries are; 0 = not known
	entries [pageSize]json.RawMessage // nil = not known, or erased
	known   uint64                    // a bit for each entry: it was read, or found to be erased
	size    int                       // bytes of the entries
	amends  keptAmends
	proven  time.Time // when its entries were last found in the log: what retention takes must not live on here
}

// keptAmends is a page's record as the bucket has it.
type keptAmends struct {
	record *storedAmends // nil = not known; never changed
	stamp  stamp         // of a tail that was read before the record
	read   time.Time
}

// lack returns the entries from one seq to another, both in the page, that are not known.
func (k *keptPage) lack(from, to wire.Seq) uint64 {
	return maskOf(from, to) &^ k.known
}

// maskOf returns a bit for each entry from one seq to another of the same page.
func maskOf(from, to wire.Seq) uint64 {
	first := uint(from-1) % pageSize
	return ^uint64(0) >> (pageSize - 1 - uint(to-from)) << first
}

// places returns where the entries of a mask are, ascending, and whether all of these places are known.
func (k *keptPage) places(page, mask uint64) (all []place, known bool) {
	for ; mask != 0; mask &= mask - 1 {
		i := bits.TrailingZeros64(mask)
		if k.streams[i] == 0 {
			return nil, false
		}
		all = append(all, place{firstOf(page) + wire.Seq(i), k.streams[i]})
	}
	return all, true
}

// set notes what was read at a place; nil stands for an erased entry.
func (k *keptPage) set(p place, payload json.RawMessage) {
	i := int(p.seq-1) % pageSize
	k.size += len(payload) - len(k.entries[i])
	k.streams[i], k.entries[i] = p.stream, payload
	k.known |= 1 << i
}

// sample returns the first entry that was not erased, to look whether it is still in the log.
func (k *keptPage) sample(page uint64) (p place, payload json.RawMessage) {
	for i, payload := range k.entries {
		if payload != nil {
			return place{firstOf(page) + wire.Seq(i), k.streams[i]}, payload
		}
	}
	return place{}, nil
}

// cost returns about how many bytes of memory the page takes.
func (k *keptPage) cost() int {
	cost := k.size + 2560 // the struct with its slices, its place in the map and in the list
	if r := k.amends.record; r != nil {
		cost += 128 + 4*r.size
	}
	return cost
}

// clone returns a copy that may be folded into.
func (a *storedAmends) clone() *storedAmends {
	next := *a
	next.Entries = make(map[wire.Seq]*amended, len(a.Entries))
	for seq, m := range a.Entries {
		one := *m
		one.Edits = slices.Clone(m.Edits)
		one.Reactions = maps.Clone(m.Reactions)
		for emoji, users := range one.Reactions {
			one.Reactions[emoji] = slices.Clone(users)
		}
		next.Entries[seq] = &one
	}
	return &next
}
