package jetstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	looks        = 3           // how often a place is looked at before what was found there counts
	lookPause    = time.Second // between two looks: longer than what is under way between two writes takes
	readersAtOne = 2           // partitions that are read at once
	maxFindings  = 1000        // that an audit names; it counts all
	waitingPairs = 250_000     // memberships of which one direction may wait in memory for the other; beyond, their bucket is read more than once
)

// Audit is what Verify found.
type Audit struct {
	Entries       uint64        `json:"entries"`
	Conversations int           `json:"conversations"`
	Memberships   int           `json:"memberships"`
	Marks         int           `json:"marks"`
	Defects       int           `json:"defects"`            // without what is unfinished
	Unfinished    int           `json:"unfinished"`         // what a crash left, and the next call about it finishes
	Findings      []Finding     `json:"findings,omitempty"` // the first of all of them
	Took          time.Duration `json:"took"`               // nanoseconds
}

// VerifyOptions says what Verify looks at. The zero value is everything.
type VerifyOptions struct {
	Conversation subjects.Conversation // this one alone
	Progress     func(entries uint64)  // called now and then, from one goroutine at a time, with how many entries were read
}

// Verify reads everything that is remembered of conversations, changes nothing, and returns what contradicts itself. It may run while others write: what
// it finds in one look and no more in the next was on its way, and so was a record that has been written again since: a log is read before the records
// about it, so only a record that was there before can be ahead of it. An error means that it could not look.
//
// It reads every stream once, in its order, and needs memory for each conversation, membership and changed message, not for each entry.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (Audit, error) {
	began := time.Now()
	look := &look{s: s, progress: o.Progress, waiting: waitingPairs}
	if o.Conversation != "" {
		look.only = func(c subjects.Conversation) bool { return c == o.Conversation }
		look.partitions = []int{o.Conversation.Partition()}
	} else {
		look.partitions = partitionsOf(nil)
	}
	before, err := look.ends(ctx)
	if err != nil {
		return Audit{}, fmt.Errorf("verify: %w", err)
	}
	audit, found, err := look.run(ctx)
	for range looks - 1 {
		if err != nil || len(found) == 0 {
			break
		}
		var now []streamEnd
		if now, err = look.ends(ctx); err != nil || slices.Equal(now, before) {
			break // nobody writes: what was found is no news on its way
		}
		select {
		case <-ctx.Done():
			return audit, natsError(ctx.Err())
		case <-time.After(lookPause):
		}
		var again []Finding
		if again, err = s.lookAgain(ctx, look, found); err == nil {
			found = both(found, again)
		}
	}
	if err != nil {
		return Audit{}, fmt.Errorf("verify: %w", err)
	}
	sortFindings(found)
	for _, f := range found {
		if f.Unfinished {
			audit.Unfinished++
		} else {
			audit.Defects++
		}
	}
	audit.Findings, audit.Took = found[:min(len(found), maxFindings)], time.Since(began)
	return audit, nil
}

// streamEnd is what of a stream changes with everything that is written or erased.
type streamEnd struct {
	First    uint64 `json:"first_seq"`
	Last     uint64 `json:"last_seq"`
	Messages uint64 `json:"messages"`
}

// ends returns the ends of all streams that a look reads.
func (l *look) ends(ctx context.Context) ([]streamEnd, error) {
	streams := []string{
		subjects.BucketStream(subjects.BucketAmends), subjects.BucketStream(subjects.BucketConversations),
		subjects.BucketStream(subjects.BucketMembers), subjects.BucketStream(subjects.BucketCursors),
	}
	for _, p := range l.partitions {
		streams = append(streams, subjects.MessagesStream(p))
	}
	all := make([]streamEnd, len(streams))
	for i, stream := range streams {
		var err error
		if all[i], err = l.s.end(ctx, stream); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// end returns, from the leader, where a stream ends.
func (s *Store) end(ctx context.Context, stream string) (streamEnd, error) {
	var answer struct {
		Error *apiError `json:"error"`
		State streamEnd `json:"state"`
	}
	err := s.ask(ctx, subjects.StreamInfo(stream), struct{}{}, &answer)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		return streamEnd{}, fmt.Errorf("look at the end of %s: %w", stream, err)
	}
	return answer.State, nil
}

// lookAgain looks at the conversations of findings alone.
func (s *Store) lookAgain(ctx context.Context, first *look, found []Finding) ([]Finding, error) {
	suspects := map[subjects.Conversation]bool{}
	for _, f := range found {
		suspects[f.Conversation] = true
	}
	next := &look{s: s, waiting: first.waiting, only: func(c subjects.Conversation) bool { return suspects[c] }, partitions: partitionsOf(suspects)}
	if suspects[""] { // what stands under a subject of no conversation
		next.partitions = first.partitions
	}
	_, again, err := next.run(ctx)
	return again, err
}

// both returns the findings that are in both lists, as the second has them.
func both(first, second []Finding) []Finding {
	known := map[Finding]bool{}
	for _, f := range first {
		known[f.place()] = true
	}
	return slices.DeleteFunc(second, func(f Finding) bool { return !known[f.place()] })
}

// partitionsOf returns the partitions of conversations, or all for nil.
func partitionsOf(conversations map[subjects.Conversation]bool) []int {
	var all []int
	for p := range subjects.Partitions {
		if conversations == nil {
			all = append(all, p)
		}
	}
	for c := range conversations {
		if c != "" && !slices.Contains(all, c.Partition()) {
			all = append(all, c.Partition())
		}
	}
	slices.Sort(all)
	return all
}

// look is one reading of the store.
type look struct {
	s          *Store
	only       func(subjects.Conversation) bool // nil = all
	partitions []int
	progress   func(uint64)
	waiting    int // memberships of which one direction may wait in memory for the other

	mu       sync.Mutex // guards what follows while partitions are read at once
	found    []Finding
	audit    Audit
	accounts map[subjects.Conversation]*account
	sums     map[amendsPage]amendsSum
}

// amendsPage names the record of what was changed in a page.
type amendsPage struct {
	conversation subjects.Conversation
	page         uint64
}

// amendsSum is what such a record must be: a digest of it, and another one where the newest entry of the conversation is recorded as well. A zero digest
// stands for no record.
type amendsSum struct{ settled, open [16]byte }

// amendsRecord is the digest of a record that the bucket has, and the message that it is.
type amendsRecord struct {
	digest  [16]byte
	message uint64
}

func (l *look) wanted(c subjects.Conversation) bool { return l.only == nil || l.only(c) }

func (l *look) report(f Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found = append(l.found, f)
}

// run reads the logs first and the buckets then: so what a bucket has too little of is no news that came after the log was read.
func (l *look) run(ctx context.Context) (Audit, []Finding, error) {
	l.accounts, l.sums = map[subjects.Conversation]*account{}, map[amendsPage]amendsSum{}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	turns := make(chan struct{}, readersAtOne)
	for _, p := range l.partitions {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if err := l.partition(ctx, p); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return l.audit, nil, err
	}
	l.audit.Conversations = len(l.accounts)
	for _, check := range []func(context.Context) error{l.amends, l.conversations, l.members, l.marks} {
		if err := check(ctx); err != nil {
			return l.audit, nil, err
		}
	}
	return l.audit, l.found, nil
}

// partition reads the stream of a partition.
func (l *look) partition(ctx context.Context, p int) error {
	led := newLedger(subjects.MessagesStream(p), l.s.Dedupe(), l.report)
	led.only = l.only
	seen := uint64(0)
	tell := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.audit.Entries += led.entries - seen
		seen = led.entries
		if l.progress != nil {
			l.progress(l.audit.Entries)
		}
	}
	n := 0
	_, err := l.s.scan(ctx, led.stream, 0, func(m *rawMsg) error {
		led.take(m)
		if n++; n%10_000 == 0 {
			tell()
		}
		return ctx.Err()
	})
	tell()
	if err != nil {
		return err
	}
	for _, a := range led.accounts {
		led.finish(a, l.keep)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.accounts, led.accounts)
	return nil
}

// finish reports what only the end of the stream shows, hands over the records of what later entries changed, and drops what only the stream needed.
func (l *ledger) finish(a *account, record func(a *account, page uint64, settled, open *pageAmends)) {
	l.holes(a)
	for _, k := range a.kept {
		f := a.finding(DefectKept, k.seq, "entry %d recalls it, and it is still there as message %d", k.recall, k.stream)
		f.Unfinished = k.recall == a.head.Seq
		l.report(f)
	}
	var touched []uint64
	if a.open != nil {
		touched = a.open.pages()
	}
	for page, settled := range a.records {
		if !slices.Contains(touched, page) {
			record(a, page, settled, nil)
		}
	}
	settled := map[uint64]*pageAmends{}
	for _, page := range touched {
		settled[page] = a.records[page].clone()
	}
	l.settle(a)
	for _, page := range touched {
		record(a, page, settled[page], a.records[page])
	}
	a.trail = nil
}

// clone returns a record that shares nothing, or nil for none.
func (p *pageAmends) clone() *pageAmends {
	if p == nil {
		return nil
	}
	next := &pageAmends{Through: p.Through, Entries: map[wire.Seq]*amended{}}
	for seq, m := range p.Entries {
		one := *m
		one.Edits = slices.Clone(m.Edits)
		one.Reactions = nil
		for emoji, users := range m.Reactions {
			if one.Reactions == nil {
				one.Reactions = map[string][]subjects.User{}
			}
			one.Reactions[emoji] = slices.Clone(users)
		}
		next.Entries[seq] = &one
	}
	return next
}

// keep keeps the digests of the record of a page.
func (l *look) keep(a *account, page uint64, settled, open *pageAmends) {
	sum := amendsSum{settled: digestOf(settled), open: digestOf(open)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sums[amendsPage{a.id, page}] = sum
}

func digestOf(record *pageAmends) (sum [16]byte) {
	if record == nil {
		return sum
	}
	data, err := json.Marshal(record)
	if err != nil {
		return sum // a record that cannot be written is none
	}
	full := sha256.Sum256(data)
	return [16]byte(full[:16])
}

// amends compares the bucket of what later entries changed with what the logs say.
func (l *look) amends(ctx context.Context) error {
	stored := map[amendsPage]amendsRecord{}
	_, err := l.s.scan(ctx, subjects.BucketStream(subjects.BucketAmends), 0, func(m *rawMsg) error {
		c, page, err := subjects.ParseAmendsKey(m.key(subjects.BucketAmends))
		switch {
		case err != nil:
			if l.only == nil {
				l.report(Finding{Defect: DefectAmends, Message: m.Sequence, Text: "the key " + m.Subject + " is that of no page"})
			}
		case l.wanted(c):
			record, err := parseRecord(m)
			one := amendsRecord{message: m.Sequence}
			if err == nil && len(bytes.TrimSpace(m.Data)) > 0 {
				one.digest = digestOf(&record.pageAmends)
			}
			stored[amendsPage{c, page}] = one
		}
		return nil
	})
	if err != nil {
		return err
	}
	report := func(key amendsPage, text string) {
		l.report(Finding{Defect: DefectAmends, Conversation: key.conversation, Seq: firstOf(key.page), Message: stored[key].message, Text: fmt.Sprintf("of page %d: %s", key.page, text)})
	}
	for key, want := range l.sums {
		have, there := stored[key]
		switch {
		case have.digest == want.settled || want.open != [16]byte{} && have.digest == want.open:
		case there:
			report(key, "the record is not what the log says")
		default:
			report(key, "there is no record, and the log has changes")
		}
	}
	for key, have := range stored {
		if _, known := l.sums[key]; !known && have.digest != [16]byte{} {
			report(key, "there is a record, and the log has no changes")
		}
	}
	return nil
}
