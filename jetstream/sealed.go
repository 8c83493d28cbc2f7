package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// A full page of a log never changes, but for what is erased from it. IM_PAGES holds such pages sealed: all entries as they were stored, in one record, so that
// an old page costs one read in place of one for each entry. It is a cache: made from the log by those who read, and empty of anything that the log
// does not have. Two rules keep it so, whatever runs beside:
//
//	A page is sealed over a claim: an empty record of its key, read or written before the log was. The record replaces it, or nothing.
//	A recall, once the log is erased, erases what the keys of its pages hold: the record, or the claim of one that is on its way.
//
// So whoever claims after that reads a log without what was recalled, and whoever claimed before finds the claim gone. The record is erased and
// never overwritten, for what is overwritten stays on the disk. Emptying the whole bucket takes the claims as well, and is safe at any time.

// unsealTries is how often a recall looks at a key: a claim that the first look finds may be replaced by its record before it is erased, and then the
// second finds that record. Whatever comes later was claimed after the first look, and holds nothing that was recalled.
const unsealTries = 2

// errSealed means that a sealed page does not read as one: it is not believed, and the log is read.
var errSealed = errors.New("the sealed page is not of the form that history writes")

func sealedSubject(c subjects.Conversation, page uint64) string {
	return subjects.BucketSubject(subjects.BucketPages, subjects.PageKey(c, page))
}

// sealedMsg returns the record of a page: a JSON array of its entries, and headers that say where each stands in the array and in the log.
func sealedMsg(n node, entries [pageSize]json.RawMessage) (nats.Header, []byte) {
	var data, sizes []byte
	data = append(data, '[')
	for i, entry := range entries {
		if len(entry) > 0 && len(data) > 1 {
			data = append(data, ',')
		}
		data = append(data, entry...)
		if i > 0 {
			sizes = append(sizes, '.')
		}
		sizes = strconv.AppendInt(sizes, int64(len(entry)), 10)
	}
	data = append(data, ']')
	last := len(n.streams) - 1
	header := nats.Header{subjects.HeaderPage: {"last=" + strconv.FormatUint(n.streams[last], 10) + " sizes=" + string(sizes)}}
	header.Set(subjects.HeaderBack, backs{page: n.streams[:last], before: n.before}.String())
	return header, data
}

// parseSealed reads a sealed page. Any user of NATS can have a copy of something stored published here as the answer to a request, so what is not wholly of
// this page is errSealed.
func parseSealed(c subjects.Conversation, page uint64, msg *rawMsg) (*keptPage, error) {
	rest, ok1 := strings.CutPrefix(msg.Header.Get(subjects.HeaderPage), "last=")
	lastText, sizes, ok2 := strings.Cut(rest, " sizes=")
	last, err := strconv.ParseUint(lastText, 10, 63)
	if !ok1 || !ok2 || err != nil || msg.Subject != sealedSubject(c, page) {
		return nil, errSealed
	}
	b, err := parseBacks(msg.Header.Get(subjects.HeaderBack), lastOf(page))
	if err != nil || last <= b.page[pageSize-2] {
		return nil, errSealed
	}
	k := &keptPage{known: ^uint64(0)}
	copy(k.streams[:], b.page)
	k.streams[pageSize-1] = last
	data, open := bytes.CutPrefix(msg.Data, []byte("["))
	data, closed := bytes.CutSuffix(data, []byte("]"))
	if !open || !closed {
		return nil, errSealed
	}
	i := 0
	for text := range strings.SplitSeq(sizes, ".") {
		size, err := strconv.Atoi(text)
		if err != nil || size < 0 || i == pageSize {
			return nil, errSealed
		}
		if size > 0 {
			if k.size > 0 {
				if data, open = bytes.CutPrefix(data, []byte(",")); !open {
					return nil, errSealed
				}
			}
			if size > len(data) || !isEntryAt(c, firstOf(page)+wire.Seq(i), data[:size]) {
				return nil, errSealed
			}
			k.entries[i] = json.RawMessage(data[:size:size])
			k.size += size
			data = data[size:]
		}
		i++
	}
	if i != pageSize || len(data) > 0 {
		return nil, errSealed
	}
	return k, nil
}

// isEntryAt reports whether data, as it is stored, is the entry of a conversation with a seq.
func isEntryAt(c subjects.Conversation, seq wire.Seq, data []byte) bool {
	if !wire.IsEntryOf(c, data) || data[len(data)-1] != '}' {
		return false
	}
	rest, ok := bytes.CutPrefix(data[len(`{"conversation":""`)+len(c):], []byte(`,"seq":`))
	var text [20]byte
	number := strconv.AppendUint(text[:0], uint64(seq), 10)
	return ok && bytes.HasPrefix(rest, number) && len(rest) > len(number) && rest[len(number)] == ','
}

// readSealed returns those of the pages that are sealed, from any replica.
func (s *Store) readSealed(ctx context.Context, c subjects.Conversation, pages []uint64) (map[uint64]*keptPage, error) {
	names := make([]string, len(pages))
	of := make(map[string]uint64, len(pages))
	for i, page := range pages {
		names[i] = sealedSubject(c, page)
		of[names[i]] = page
	}
	found, err := s.lastOfEach(ctx, subjects.BucketStream(subjects.BucketPages), names)
	if err != nil {
		return nil, err
	}
	sealed := make(map[uint64]*keptPage, len(found))
	for _, msg := range found {
		if len(msg.Data) == 0 { // a claim
			continue
		}
		page := of[msg.Subject]
		if k, err := parseSealed(c, page, msg); err == nil {
			sealed[page] = k
		}
	}
	return sealed, nil
}

// lastOfEach is multiLast, with the cheaper request where there is one subject.
func (s *Store) lastOfEach(ctx context.Context, stream string, names []string) ([]*rawMsg, error) {
	if len(names) != 1 {
		return s.multiLast(ctx, stream, names)
	}
	msg, err := s.lastDirect(ctx, stream, names[0])
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last message of %s: %w", stream, err)
	}
	return []*rawMsg{msg}, nil
}

// claim returns the revision of the claim of a page, which it writes where there is none; 0 where the page is sealed already.
func (s *Store) claim(ctx context.Context, c subjects.Conversation, page uint64) (revision uint64, err error) {
	subject := sealedSubject(c, page)
	msg, err := s.lastFromLeader(ctx, subjects.BucketStream(subjects.BucketPages), subject)
	switch {
	case err == nil && len(msg.Data) > 0:
		if _, err := parseSealed(c, page, msg); err == nil {
			return 0, nil
		}
		return 0, s.erase(ctx, subjects.BucketStream(subjects.BucketPages), msg.Sequence)
	case err == nil:
		return msg.Sequence, nil
	case !errors.Is(err, ErrNotFound):
		return 0, err
	}
	stored, err := s.publish(ctx, subject, expecting(0), nil)
	return stored.Sequence, err
}

// sealing is a full page that was read to be sealed.
type sealing struct {
	page   *keptPage
	claim  uint64 // the revision of the claim that stood there before the log was read
	header nats.Header
	data   []byte
}

// seal writes the record of a full page and returns the page, or nil where it is sealed already or not full yet. The error wraps ErrConflict where a recall
// came between, and ErrErased where retention took a part of it.
func (s *Store) seal(ctx context.Context, c subjects.Conversation, page uint64) (*keptPage, error) {
	sealing, err := s.beginSeal(ctx, c, page)
	if err == nil && sealing != nil {
		err = s.endSeal(ctx, c, page, sealing)
	}
	if err != nil {
		return nil, fmt.Errorf("seal page %d of %s: %w", page, c, err)
	}
	if sealing == nil {
		return nil, nil
	}
	return sealing.page, nil
}

// beginSeal claims a page and reads it: the log from any replica and, after it, what was recalled from the leader.
func (s *Store) beginSeal(ctx context.Context, c subjects.Conversation, page uint64) (*sealing, error) {
	claim, err := s.claim(ctx, c, page)
	if err != nil || claim == 0 {
		return nil, err
	}
	tail, err := s.Tail(ctx, c)
	if err != nil || tail.Seq < lastOf(page) {
		return nil, err
	}
	r := s.reader(c, true)
	n, err := r.seek(ctx, tail, page)
	if err != nil {
		return nil, err
	}
	places := n.places(firstOf(page), lastOf(page))
	if err := r.load(ctx, places); err != nil {
		return nil, err
	}
	record, err := s.readRecord(ctx, c, page, true)
	if err != nil {
		return nil, err
	}
	k := &keptPage{}
	for _, p := range places {
		e, m := r.entries[p.stream], record.Entries[p.seq]
		switch {
		case m != nil && m.Left != nil: // recalled, if perhaps not erased yet
			k.set(p, nil)
		case e == nil:
			return nil, fmt.Errorf("entry %d: %w", p.seq, ErrErased)
		case !isEntryAt(c, p.seq, e.payload) || !json.Valid(e.payload):
			return nil, fmt.Errorf("entry %d: %w", p.seq, errSealed)
		default:
			k.set(p, e.payload)
		}
	}
	header, data := sealedMsg(n, k.entries)
	return &sealing{page: k, claim: claim, header: header, data: data}, nil
}

// endSeal writes the record in the place of its claim, and nowhere else.
func (s *Store) endSeal(ctx context.Context, c subjects.Conversation, page uint64, sealing *sealing) error {
	header := conditional(sealing.header, "", sealing.claim)
	_, err := s.publish(ctx, sealedSubject(c, page), header, sealing.data)
	return err
}

// unseal erases the record of a page, and the claim of one that is on its way.
func (s *Store) unseal(ctx context.Context, c subjects.Conversation, page uint64) error {
	stream := subjects.BucketStream(subjects.BucketPages)
	for range unsealTries {
		msg, err := s.lastFromLeader(ctx, stream, sealedSubject(c, page))
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotDeclared) { // a store that an older release declared has no such bucket
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for the sealed page %d: %w", page, err)
		}
		if err := s.erase(ctx, stream, msg.Sequence); err != nil {
			return fmt.Errorf("erase the sealed page %d: %w", page, err)
		}
	}
	return nil
}
