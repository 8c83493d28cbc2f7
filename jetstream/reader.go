package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// reader reads in one conversation during one call and keeps what it has read. Entries never change, and what is erased stays erased, so
// they may come from any replica; one that a replica does not have is asked of the leader. One goroutine uses a reader.
type reader struct {
	s       *Store
	c       subjects.Conversation
	leader  bool                     // read records as they are now: a replica's may be a moment old
	entries map[uint64]*logEntry     // by stream sequence; nil = erased
	records map[uint64]*storedAmends // by page
	rounds  int                      // reads that had to wait for one before
}

func (s *Store) reader(c subjects.Conversation, leader bool) *reader {
	return &reader{s: s, c: c, leader: leader, entries: map[uint64]*logEntry{}, records: map[uint64]*storedAmends{}}
}

// place is where an entry is.
type place struct {
	seq    wire.Seq
	stream uint64
}

// load reads the entries at places, all at once, into r.entries. An entry that is nowhere becomes nil, and its page's record then is the
// leader's, so that it says whether a recall erased it.
func (r *reader) load(ctx context.Context, places []place) error {
	if err := r.fetch(ctx, places); err != nil {
		return err
	}
	for _, p := range places {
		if err := r.ask(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// fetch is load from a replica, which may not have all.
func (r *reader) fetch(ctx context.Context, places []place) error {
	wanted := make([]uint64, 0, len(places))
	for _, p := range places {
		if _, known := r.entries[p.stream]; !known {
			wanted = append(wanted, p.stream)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	r.rounds++
	found, err := r.s.bySequences(ctx, subjects.StreamOf(r.c), wanted)
	if err != nil {
		return err
	}
	for _, msg := range found {
		if err := r.keep(msg); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) keep(msg *rawMsg) error {
	if msg == nil {
		return nil
	}
	if msg.Subject != subjects.Message(r.c) {
		return fmt.Errorf("message %d is not of %s", msg.Sequence, r.c)
	}
	e, err := parseEntry(msg)
	if err != nil {
		return err
	}
	r.entries[msg.Sequence] = e
	return nil
}

// ask settles what fetch left open: whether an entry was erased or had not arrived at the replica yet.
func (r *reader) ask(ctx context.Context, p place) error {
	if _, known := r.entries[p.stream]; known {
		return nil
	}
	record, err := r.record(ctx, pageOf(p.seq))
	if err != nil {
		return err
	}
	if m := record.Entries[p.seq]; m == nil || m.Left == nil {
		r.rounds++
		msg, err := r.s.storedFromLeader(ctx, subjects.StreamOf(r.c), p.stream)
		if err == nil {
			return r.keep(msg)
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if r.records[pageOf(p.seq)], err = r.s.readRecord(ctx, r.c, pageOf(p.seq), true); err != nil {
			return err
		}
	}
	r.entries[p.stream] = nil
	return nil
}

// record returns what later entries changed in a page.
func (r *reader) record(ctx context.Context, page uint64) (*storedAmends, error) {
	if record := r.records[page]; record != nil {
		return record, nil
	}
	r.rounds++
	record, err := r.s.readRecord(ctx, r.c, page, r.leader)
	if err == nil {
		r.records[page] = record
	}
	return record, err
}

func (s *Store) readRecord(ctx context.Context, c subjects.Conversation, page uint64, leader bool) (*storedAmends, error) {
	read := s.lastDirect
	if leader {
		read = s.newest
	}
	msg, err := read(ctx, subjects.BucketStream(subjects.BucketAmends), amendsSubject(c, page))
	if errors.Is(err, ErrNotFound) {
		return &storedAmends{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the amends of page %d: %w", page, err)
	}
	return parseRecord(msg)
}

func parseRecord(msg *rawMsg) (*storedAmends, error) {
	record := &storedAmends{revision: msg.Sequence, size: len(msg.Data)}
	if len(msg.Data) == 0 { // a deleted key
		return record, nil
	}
	if err := json.Unmarshal(msg.Data, &record.pageAmends); err != nil {
		return nil, fmt.Errorf("read the amends %s: %w", msg.Subject, err)
	}
	return record, nil
}

// remains returns the remnants of the entries at places, which were loaded.
func (r *reader) remains(places []place) ([]remnant, error) {
	all := make([]remnant, 0, len(places))
	for _, p := range places {
		e := r.entries[p.stream]
		if e == nil {
			return nil, fmt.Errorf("entry %d: %w", p.seq, ErrErased)
		}
		left, err := e.remains()
		if err != nil {
			return nil, err
		}
		all = append(all, left)
	}
	return all, nil
}

// foldTail folds what the tail changes, in memory, into the records read so far. It is the one entry that may not be recorded yet.
func (r *reader) foldTail(tail Tail) {
	if tail.open == nil {
		return
	}
	r.entries[tail.stream] = tail.newest
	for _, page := range tail.open.pages() {
		if record := r.records[page]; record != nil {
			record.fold(page, tail.open)
		}
	}
}

// entry returns one entry as it now reads; ErrErased when it is gone without a recall.
func (r *reader) entry(ctx context.Context, tail Tail, seq wire.Seq) (wire.Entry, error) {
	if seq == 0 || seq > tail.Seq {
		return wire.Entry{}, ErrNoEntry
	}
	page := pageOf(seq)
	n, err := r.seek(ctx, tail, page)
	if err != nil {
		return wire.Entry{}, err
	}
	p := place{seq, n.streamOf(seq)}
	if err := r.load(ctx, []place{p}); err != nil {
		return wire.Entry{}, err
	}
	if _, err := r.record(ctx, page); err != nil {
		return wire.Entry{}, err
	}
	r.foldTail(tail)
	if err := r.loadEdits(ctx, []place{p}); err != nil {
		return wire.Entry{}, err
	}
	e, there, err := r.folded(p)
	if err == nil && !there {
		err = ErrErased
	}
	return e, err
}

// loadEdits reads the newest bodies of those of the entries that were edited.
func (r *reader) loadEdits(ctx context.Context, places []place) error {
	var edits []place
	for _, p := range places {
		if newest, ok := r.amended(p.seq).newest(); ok {
			edits = append(edits, place{newest.Seq, newest.Stream})
		}
	}
	return r.load(ctx, edits)
}

// amended returns what the records read so far say of an entry, or nil.
func (r *reader) amended(seq wire.Seq) *amended {
	if record := r.records[pageOf(seq)]; record != nil {
		return record.Entries[seq]
	}
	return nil
}

// folded returns an entry that was loaded with its page's record and its newest edit, as it now reads; there is false when it is gone
// without a recall.
func (r *reader) folded(p place) (e wire.Entry, there bool, err error) {
	m, stored := r.amended(p.seq), r.entries[p.stream]
	if m != nil && m.Left != nil {
		return m.Left.entry(r.c), true, nil
	}
	if stored == nil {
		return e, false, nil
	}
	if e, err = stored.decode(); err != nil || m == nil {
		return e, true, err
	}
	if newest, ok := m.newest(); ok && r.entries[newest.Stream] != nil {
		changed, err := r.entries[newest.Stream].decode()
		if err != nil {
			return e, true, err
		}
		e.Body, e.EditedAt = changed.Body, &newest.At
	}
	e.Reactions = m.Reactions
	return e, true, nil
}
