package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/confab-im/confab/subjects"
)

// RebuildAmends writes the records of what later entries changed in a conversation anew, from its log alone, and returns how many of them
// differed from what was stored. It reads the whole log once, a page at a time, and may run beside appends and readers.
func (s *Store) RebuildAmends(ctx context.Context, c subjects.Conversation) (changed int, err error) {
	for range settleTries {
		n, err := s.rebuild(ctx, c)
		changed += n
		if !errors.Is(err, ErrConflict) {
			if err != nil {
				err = fmt.Errorf("rebuild the amends of %s: %w", c, err)
			}
			return changed, err
		}
	}
	return changed, fmt.Errorf("rebuild the amends of %s: %w", c, ErrConflict)
}

func (s *Store) rebuild(ctx context.Context, c subjects.Conversation) (changed int, err error) {
	tail, err := s.Tail(ctx, c)
	if err != nil || tail.Seq == 0 {
		return 0, err
	}
	amendments, err := s.reader(c, true).amendments(ctx, tail)
	if err != nil {
		return 0, err
	}
	rebuilt := map[uint64]*pageAmends{}
	for _, a := range slices.Backward(amendments) {
		for _, page := range a.pages() {
			if rebuilt[page] == nil {
				rebuilt[page] = &pageAmends{}
			}
			rebuilt[page].fold(page, a)
		}
	}
	for _, page := range slices.Sorted(maps.Keys(rebuilt)) {
		differs, err := s.replaceRecord(ctx, c, page, rebuilt[page])
		if err != nil {
			return changed, err
		}
		if differs {
			changed++
		}
	}
	return changed, s.settle(ctx, s.reader(c, true), &tail)
}

// replaceRecord writes a record where the stored one differs. One that knows of later entries was changed meanwhile: ErrConflict.
func (s *Store) replaceRecord(ctx context.Context, c subjects.Conversation, page uint64, record *pageAmends) (differs bool, err error) {
	stored, err := s.readRecord(ctx, c, page, true)
	if err != nil {
		return false, err
	}
	if stored.Through > record.Through {
		return false, fmt.Errorf("page %d: %w", page, ErrConflict)
	}
	have, err1 := json.Marshal(stored.pageAmends)
	want, err2 := json.Marshal(record)
	if err := errors.Join(err1, err2); err != nil {
		return false, fmt.Errorf("write the amends: %w", err)
	}
	if bytes.Equal(have, want) {
		return false, nil
	}
	return true, s.writeRecord(ctx, c, page, &storedAmends{pageAmends: *record, revision: stored.revision})
}

// amendments returns everything in a log that changes earlier entries, the newest first. The reader must be new: in place of the stored
// records it goes by what the recalls say, each of which comes before the entries that it erased, on the way back.
func (r *reader) amendments(ctx context.Context, tail Tail) ([]*amendment, error) {
	var all []*amendment
	for n := tail.node(); ; {
		places := n.places(firstOf(n.page), n.last())
		r.provide(n.page)
		if err := r.fetch(ctx, places); err != nil {
			return nil, err
		}
		for _, p := range slices.Backward(places) {
			if err := r.ask(ctx, p); err != nil {
				return nil, err
			}
			a, err := r.amendmentAt(p)
			if err != nil {
				return nil, err
			}
			if a != nil {
				all = append(all, a)
			}
		}
		if n.page == 0 {
			return all, nil
		}
		r.provide(n.page - 1)
		next, err := r.step(ctx, n, 0)
		if errors.Is(err, ErrErased) {
			return all, nil // retention took the rest
		}
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			delete(r.entries, p.stream)
		}
		n = next
	}
}

// provide makes sure that a page has a record that is not read from the bucket.
func (r *reader) provide(page uint64) {
	if r.records[page] == nil {
		r.records[page] = &storedAmends{}
	}
}

// amendmentAt returns what a loaded entry changes, or nil, and notes what it erased.
func (r *reader) amendmentAt(p place) (*amendment, error) {
	e := r.entries[p.stream]
	if e == nil || !amends(e.Kind) {
		return nil, nil
	}
	entry, err := e.decode()
	if err != nil {
		return nil, err
	}
	a, err := e.amendment(entry)
	if err != nil {
		return nil, err
	}
	for _, left := range a.erased {
		page := pageOf(left.Seq)
		r.provide(page)
		*r.records[page].of(left.Seq) = amended{Recall: a.seq, Left: &left}
	}
	return a, nil
}
