package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// settleTries bounds how often a record is tried that others change at the same time. They can only be settling the same tail, so one of
// them succeeds.
const settleTries = 8

// Amend records what the tail changes in earlier entries, and erases what it recalls, if that was not done yet, and returns the tail as
// settled. Append does so by itself; this is for those who want it done without appending.
func (s *Store) Amend(ctx context.Context, c subjects.Conversation, tail Tail) (Tail, error) {
	if err := s.settle(ctx, s.reader(c, true), &tail); err != nil {
		return tail, fmt.Errorf("amend %s: %w", c, err)
	}
	return tail, nil
}

// settle is Amend; the reader's records, if it has read them, are those to begin with.
func (s *Store) settle(ctx context.Context, r *reader, tail *Tail) error {
	if tail.open == nil {
		return nil
	}
	for _, page := range tail.open.pages() {
		if err := s.record(ctx, r, page, tail.open); err != nil {
			return fmt.Errorf("record entry %d in page %d: %w", tail.Seq, page, err)
		}
	}
	// Only now: until it is recorded what they were, erased entries could not be told from lost ones. None of them is the tail, since the
	// recall comes after them, and the newest entry must never vanish: its seq would be given twice.
	for _, gone := range tail.open.erased {
		if err := s.erase(ctx, subjects.StreamOf(r.c), gone.Stream); err != nil {
			return fmt.Errorf("erase entry %d: %w", gone.Seq, err)
		}
	}
	// And last the sealed forms of the pages: who seals one from now on reads a log without what is gone.
	if len(tail.open.erased) > 0 {
		for _, page := range tail.open.pages() {
			if err := s.unseal(ctx, r.c, page); err != nil {
				return err
			}
		}
	}
	tail.open = nil
	return nil
}

// record folds an amendment into the record of one page.
func (s *Store) record(ctx context.Context, r *reader, page uint64, a *amendment) error {
	var conflict error
	for range settleTries {
		record, err := r.record(ctx, page)
		if err != nil {
			return err
		}
		if !record.fold(page, a) {
			return nil
		}
		err = s.writeRecord(ctx, r.c, page, record)
		if err == nil {
			return nil
		}
		delete(r.records, page)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		conflict = err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, conflict)
}

// storedAmends is a record with its place in the bucket, 0 where there is none yet.
type storedAmends struct {
	pageAmends
	revision uint64
	size     int // bytes
}

func (s *Store) writeRecord(ctx context.Context, c subjects.Conversation, page uint64, record *storedAmends) error {
	data, err := json.Marshal(record.pageAmends)
	if err != nil {
		return fmt.Errorf("write the amends: %w", err)
	}
	stored, err := s.publish(ctx, amendsSubject(c, page), expecting(record.revision), data)
	if err != nil {
		return err
	}
	record.revision, record.size = stored.Sequence, len(data)
	return nil
}

func amendsSubject(c subjects.Conversation, page uint64) string {
	return subjects.BucketSubject(subjects.BucketAmends, subjects.AmendsKey(c, page))
}

// checkTarget makes sure that the target of a draft can be changed as of the tail, and returns what a recall will erase.
func (s *Store) checkTarget(ctx context.Context, r *reader, tail Tail, d *Draft) ([]remnant, error) {
	if !amends(d.Kind) {
		return nil, nil
	}
	if d.Target == 0 || d.Target > tail.Seq {
		return nil, s.noEntry(ctx, r.c, tail)
	}
	page := pageOf(d.Target)
	record, err := r.record(ctx, page)
	if err != nil {
		return nil, err
	}
	m := record.Entries[d.Target]
	if m != nil && m.Recall != 0 {
		return nil, ErrErased
	}
	n, err := r.seek(ctx, tail, page)
	if err != nil {
		return nil, err
	}
	places := []place{{d.Target, n.streamOf(d.Target)}}
	if m != nil && d.Kind == wire.KindRecall {
		for _, e := range m.Edits {
			places = append(places, place{e.Seq, e.Stream})
		}
	}
	if err := r.load(ctx, places); err != nil {
		return nil, err
	}
	target := r.entries[places[0].stream]
	switch {
	case target == nil:
		return nil, ErrErased
	case target.Kind != wire.KindMessage:
		return nil, ErrNoMessage
	case d.Kind == wire.KindRecall:
		return r.remains(places)
	case record.size > maxAmends, d.Kind == wire.KindEdit && m != nil && len(m.Edits) >= MaxEdits:
		return nil, ErrAmendsFull
	}
	return nil, nil
}

// noEntry returns ErrNoEntry, or ErrTailMoved where the given tail was too old to say so.
func (s *Store) noEntry(ctx context.Context, c subjects.Conversation, tail Tail) error {
	now, err := s.Tail(ctx, c)
	switch {
	case err != nil:
		return err
	case now.Seq > tail.Seq:
		return ErrTailMoved
	}
	return ErrNoEntry
}
