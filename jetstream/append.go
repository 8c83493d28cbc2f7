package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// codeIDInFlight is JetStream's code for a repeat that overtakes the first one on its way to the replicas: this try was not stored.
const codeIDInFlight = 10158

// maxRecent is how many entries are searched for a repeat that the server cannot be asked for.
const maxRecent = 512

// Appended is the outcome of an Append.
type Appended struct {
	Entry     wire.Entry      // as it was stored; where a recall has erased it meanwhile, without its body and recalled
	Payload   json.RawMessage // the stored form of Entry; empty where it was erased
	Tail      Tail            // the tail after this entry; of a duplicate, the tail that was given
	Duplicate bool            // an earlier try was stored, and Entry is that one

	header nats.Header // of the publish, or as it was read
}

// Append stores a draft behind the given tail, once: with ErrTailMoved the caller reads the tail, decides again and tries again. Everything
// that depends on order follows from the tail, and the server stores the entry only if the tail is still the newest one.
//
// A repeat of a client id answers with the first entry, or ErrIDConflict where body, reply_to or target differ. A single server compares the
// tail before it compares ids, so a repeat shows up only on a fresh tail; a cluster compares ids first. Both come out the same here.
//
// An edit, a recall and a reaction need a target: ErrNoEntry, ErrNoMessage, ErrErased or ErrAmendsFull. What they change is recorded, and what
// a recall erases is erased, before Append returns; if that fails the entry is stored nevertheless, and the next Append or Amend does it.
func (s *Store) Append(ctx context.Context, c subjects.Conversation, tail Tail, d Draft) (Appended, error) {
	done, err := s.append(ctx, c, tail, d)
	if err != nil {
		return Appended{}, fmt.Errorf("append to %s: %w", c, err)
	}
	return done, nil
}

func (s *Store) append(ctx context.Context, c subjects.Conversation, tail Tail, d Draft) (Appended, error) {
	id := entryID(c, &d)
	if first, repeated := tail.spent.find(id); repeated {
		return Appended{Entry: first.entry(c, &d), Tail: tail, Duplicate: true}, nil
	}
	if tail.foreign > 0 { // what is no entry stands in the way of the next one, and is nobody's
		if err := s.erase(ctx, subjects.StreamOf(c), tail.foreign); err != nil {
			return Appended{}, fmt.Errorf("erase message %d, which is no entry: %w", tail.foreign, err)
		}
		return Appended{}, ErrTailMoved
	}
	var r *reader
	if tail.open != nil || amends(d.Kind) { // a message needs nothing of what went before
		r = s.reader(c, true)
	}
	if err := s.settle(ctx, r, &tail); err != nil {
		return Appended{}, err
	}
	erased, err := s.checkTarget(ctx, r, tail, &d)
	if (errors.Is(err, ErrErased) || errors.Is(err, ErrAmendsFull)) && id != "" {
		return s.recent(ctx, r, tail, &d, err)
	}
	if err != nil {
		return Appended{}, err
	}
	entry, next, dropped, err := s.compose(c, tail, &d, erased)
	if err != nil {
		return Appended{}, err
	}
	// Before the entry, so that each mark is in one place at least at any time.
	if err := s.keepMarks(ctx, c, dropped); err != nil {
		return Appended{}, err
	}
	e := next.newest
	expect(e.header, id, tail.stream)
	stored, err := s.publish(ctx, subjects.Message(c), e.header, e.payload)
	switch {
	case err != nil:
		return Appended{}, appendError(err)
	case stored.Duplicate:
		return s.first(ctx, c, tail, &d, stored.Sequence)
	}
	done := appendedAt(entry, next, stored.Sequence)
	if next.open != nil {
		_ = s.settle(ctx, r, &done.Tail) // the entry is stored: whoever appends next settles it, and readers fold the tail themselves
	}
	return done, nil
}

// appendedAt returns the outcome of an append whose place in the stream is known.
func appendedAt(entry wire.Entry, next Tail, stream uint64) Appended {
	e := next.newest
	e.stream, next.stream = stream, stream
	if next.open != nil {
		next.open.stream = stream
	}
	return Appended{Entry: entry, Payload: e.payload, Tail: next, header: e.header}
}

// compose derives from the tail and the draft the entry, the tail that it becomes, and the authors who drop out of the posters.
func (s *Store) compose(c subjects.Conversation, tail Tail, d *Draft, erased []remnant) (wire.Entry, Tail, posters, error) {
	at := d.At
	if at.IsZero() {
		at = wire.At(time.Now())
	}
	if at = wire.At(at.Time); at.Before(tail.At.Time) {
		at = tail.At
	}
	next := Tail{Seq: tail.Seq + 1, Count: tail.Count, Epoch: tail.Epoch, At: at}
	next.backs = tail.backs.follow(tail.Seq, tail.stream)
	next.posters = tail.posters
	next.spent = tail.spent.follow(c, erased, at, s.Dedupe())
	var dropped posters
	switch d.Kind {
	case wire.KindMessage:
		next.Count++
		next.posters, dropped = tail.posters.follow(d.From, next.Mark())
	case wire.KindMember, wire.KindPolicy:
		next.Epoch = next.Seq
	}
	entry := wire.Entry{
		Conversation: c, Seq: next.Seq, Count: next.Count, Kind: d.Kind, From: d.From, At: at,
		ClientID: d.ClientID, Target: d.Target, ReplyTo: d.ReplyTo, Body: d.Body,
	}
	payload, err1 := wire.Marshal(&entry)
	remains, err2 := encodeRemnants(erased)
	about := wire.EntryHeader{Seq: next.Seq, Count: next.Count, Epoch: next.Epoch, Kind: d.Kind, From: d.From}
	written := about.String()
	next.newest = &logEntry{EntryHeader: about, payload: payload, header: next.header(written, remains)}
	next.Payload = payload
	var err3 error
	next.open, err3 = next.newest.amendment(entry)
	// What cannot be read back must not become the tail: nothing could be appended to it.
	_, err4 := wire.ParseEntryHeader(written)
	return entry, next, dropped, errors.Join(err1, err2, err3, err4)
}

// header returns the header of the entry that becomes the tail, with room for what expect adds.
func (t *Tail) header(about, remains string) nats.Header {
	h := make(nats.Header, len(ownHeaders)+2)
	values := make([]string, len(ownHeaders)) // one piece of memory for all
	for i, value := range [...]string{about, t.backs.String(), t.posters.String(), t.spent.String(), remains} {
		if value != "" {
			values[i] = value
			h[ownHeaders[i]] = values[i : i+1 : i+1]
		}
	}
	return h
}

// ownHeaders are the fields that confab writes with an entry.
var ownHeaders = [...]string{subjects.HeaderEntry, subjects.HeaderBack, subjects.HeaderPosters, subjects.HeaderSpent, subjects.HeaderErased}

// keepMarks writes the read marks of authors who drop out of the posters.
func (s *Store) keepMarks(ctx context.Context, c subjects.Conversation, dropped posters) error {
	if len(dropped) == 0 {
		return nil
	}
	failures := make([]error, len(dropped))
	var all sync.WaitGroup
	for i, one := range dropped {
		all.Go(func() { _, failures[i] = s.RaiseCursor(ctx, c, one.user, Cursor{Read: one.mark}) })
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("%w: keep the marks of %d authors: %w", ErrUnavailable, len(dropped), err)
	}
	return nil
}

// conditional returns a copy of a header to which expect has been done.
func conditional(h nats.Header, id string, last uint64) nats.Header {
	next := make(nats.Header, len(h)+2)
	maps.Copy(next, h)
	expect(next, id, last)
	return next
}

// expect makes a publish with the header fail unless the last message of its subject is the given one, and a repeat of the id, if there is one, be recognised.
func expect(h nats.Header, id string, last uint64) {
	if id != "" {
		h[nats.MsgIdHdr] = []string{id}
	}
	h[nats.ExpectedLastSubjSeqHdr] = []string{strconv.FormatUint(last, 10)}
}

func appendError(err error) error {
	if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeIDInFlight {
		return fmt.Errorf("%w: %w", ErrTailMoved, err)
	}
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: %w", ErrTailMoved, err)
	}
	return err
}

// first returns the outcome of a repeat: the first entry, by its stream sequence.
func (s *Store) first(ctx context.Context, c subjects.Conversation, tail Tail, d *Draft, stream uint64) (Appended, error) {
	msg, err := s.storedFromLeader(ctx, subjects.StreamOf(c), stream)
	if errors.Is(err, ErrNotFound) {
		return s.firstErased(ctx, c, tail, stream)
	}
	if err != nil {
		return Appended{}, err
	}
	e, err := parseEntry(msg)
	if err != nil {
		return Appended{}, err
	}
	return repeat(e, wire.Entry{}, tail, d)
}

// firstErased is first for an entry that a recall has erased; its body can no longer be compared. The tail that the repeat was
// appended to may be older than the recall, so a fresh one is read.
func (s *Store) firstErased(ctx context.Context, c subjects.Conversation, tail Tail, stream uint64) (Appended, error) {
	now, err := s.Tail(ctx, c)
	if err != nil {
		return Appended{}, err
	}
	r := s.reader(c, true)
	if err := s.settle(ctx, r, &now); err != nil {
		return Appended{}, err
	}
	seq, err := r.seqOf(ctx, now, stream)
	if err != nil {
		return Appended{}, err
	}
	entry, err := r.entry(ctx, now, seq)
	if err != nil {
		return Appended{}, err
	}
	return Appended{Entry: entry, Tail: tail, Duplicate: true}, nil
}

// entry returns what is left to say about an erased entry.
func (id spentID) entry(c subjects.Conversation, d *Draft) wire.Entry {
	return wire.Entry{
		Conversation: c, Seq: id.mark.Seq, Count: id.mark.Count, Kind: d.Kind, From: d.From, At: wire.At(time.UnixMilli(id.at)),
		ClientID: d.ClientID, Target: d.Target, ReplyTo: d.ReplyTo, Recalled: true,
	}
}

// recent looks for the first entry of a draft whose target cannot be changed any more, so that the server cannot be asked by trying, and
// returns why it cannot where there is none. It reads back as far as repeats are recognised, and maxRecent entries at most.
//
// Asking the server without storing, with an expectation that never holds, is no way: on 2.15.2 with three replicas an expected last id
// that does not hold leaves the subject blocked for good.
func (s *Store) recent(ctx context.Context, r *reader, tail Tail, d *Draft, verdict error) (Appended, error) {
	oldest := tail.At.Add(-s.Dedupe() - spentSlack)
	from := back(tail.Seq, maxRecent) + 1
	for n := tail.node(); ; {
		places := n.places(from, n.last())
		if err := r.load(ctx, places); err != nil {
			return Appended{}, err
		}
		for _, p := range slices.Backward(places) {
			entry, there, err := r.folded(p)
			switch {
			case err != nil:
				return Appended{}, err
			case there && entry.At.Before(oldest):
				return Appended{}, verdict
			case there && entry.From == d.From && entry.Kind == d.Kind && entry.ClientID == d.ClientID:
				return repeat(r.entries[p.stream], entry, tail, d)
			}
		}
		if n.page <= pageOf(from) {
			return Appended{}, verdict
		}
		next, err := r.step(ctx, n, 0)
		if errors.Is(err, ErrErased) { // retention took the rest
			return Appended{}, verdict
		}
		if err != nil {
			return Appended{}, err
		}
		n = next
	}
}

// repeat returns the outcome of a repeat whose first entry is known, as stored and as it now reads.
func repeat(stored *logEntry, entry wire.Entry, tail Tail, d *Draft) (Appended, error) {
	if stored == nil {
		return Appended{Entry: entry, Tail: tail, Duplicate: true}, nil // erased, and no longer to be compared
	}
	entry, err := stored.decode()
	if err != nil {
		return Appended{}, err
	}
	if entry.ReplyTo != d.ReplyTo || entry.Target != d.Target || !sameJSON(entry.Body, d.Body) {
		return Appended{}, ErrIDConflict
	}
	return Appended{Entry: entry, Payload: stored.payload, Tail: tail, Duplicate: true, header: stored.header}, nil
}

// Announce says an entry on the conversation's live subject again, with its headers and payload. The server does so only for what it stores
// itself: after a retry and for a duplicate nobody else does. An entry that was erased meanwhile is not announced.
func (s *Store) Announce(c subjects.Conversation, a Appended) error {
	if len(a.Payload) == 0 {
		return nil
	}
	if err := s.nc.PublishMsg(&nats.Msg{Subject: subjects.Live(c), Header: ownHeader(a.header), Data: a.Payload}); err != nil {
		return fmt.Errorf("announce entry %d of %s: %w", a.Entry.Seq, c, natsError(err))
	}
	return nil
}

// ownHeader returns the fields that say what an entry is, without those of its publish and those that the server adds on reading.
func ownHeader(h nats.Header) nats.Header {
	own := nats.Header{}
	for _, name := range ownHeaders {
		if value := h.Get(name); value != "" {
			own.Set(name, value)
		}
	}
	return own
}

// sameJSON reports whether two bodies mean the same: the same bytes once compacted, or the same values whatever the order of keys.
// Numbers are compared as they are written, so 1 and 1.0 differ.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err1 := values(a)
	y, err2 := values(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(x, y)
}

func values(data json.RawMessage) (any, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := dec.Decode(&v)
	return v, err
}
