package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	seedBatch     = 500         // messages of a seed that are on their way at once
	seedersAtOnce = 4           // such batches
	seedPatience  = time.Minute // for the answers to one
)

// Seed is a direct conversation with what its first messages leave behind: entries, a listing for each of its users, and the marks of those who read it.
type Seed struct {
	Conversation subjects.Conversation
	Messages     []Draft         // of kind message, by one of the two users; one at least
	Readers      []subjects.User // whose marks are at the newest of them
}

// Seed stores many direct conversations at once, for measurements of a full store: nothing waits for the entry before but that of the same conversation, and no
// repeat is recognised. Users are not looked at. A conversation that has entries already is refused with ErrTailMoved; after any error some of the seeds are stored.
func (s *Store) Seed(ctx context.Context, seeds []Seed) error {
	tails := make([]Tail, len(seeds))
	for round := 0; ; round++ {
		var entries []*nats.Msg
		var of []int
		for i, seed := range seeds {
			if round >= len(seed.Messages) {
				continue
			}
			_, next, _, err := s.compose(seed.Conversation, tails[i], &seed.Messages[round], nil)
			if err != nil {
				return fmt.Errorf("seed %s: %w", seed.Conversation, err)
			}
			entries = append(entries, &nats.Msg{Subject: subjects.Message(seed.Conversation), Header: conditional(next.newest.header, "", tails[i].stream), Data: next.Payload})
			of, tails[i] = append(of, i), next
		}
		if len(entries) == 0 {
			break
		}
		places, err := s.publishMany(ctx, entries)
		if err != nil {
			return fmt.Errorf("seed: %w", appendError(err))
		}
		for k, i := range of {
			tails[i].stream = places[k]
		}
	}
	var records []*nats.Msg
	for i, seed := range seeds {
		more, err := seed.records(tails[i])
		if err != nil {
			return fmt.Errorf("seed %s: %w", seed.Conversation, err)
		}
		records = append(records, more...)
	}
	if _, err := s.publishMany(ctx, records); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	return nil
}

// records returns what buckets have of a conversation with this tail.
func (d Seed) records(tail Tail) (all []*nats.Msg, err error) {
	put := func(bucket, key string, value any) {
		data, failure := json.Marshal(value)
		err = cmp.Or(err, failure)
		all = append(all, &nats.Msg{Subject: subjects.BucketSubject(bucket, key), Data: data})
	}
	a, b, direct := d.Conversation.Pair()
	if !direct || tail.Seq == 0 {
		return nil, errors.New("only a direct conversation with a message can be seeded")
	}
	for _, u := range []subjects.User{a, b} {
		listing := Member{Conversation: d.Conversation, User: u, Role: wire.RoleMember, JoinedSeq: 1}
		put(subjects.BucketMembers, listing.listingKey(), listing)
	}
	for _, u := range d.Readers {
		mark := Cursor{Read: tail.Mark(), Delivered: tail.Seq}
		put(subjects.BucketCursors, subjects.CursorKey(u, d.Conversation), mark)
	}
	return all, err
}

// publishMany stores messages, many on their way at once and in no order, and returns their stream sequences.
func (s *Store) publishMany(ctx context.Context, messages []*nats.Msg) ([]uint64, error) {
	places := make([]uint64, len(messages))
	failures := make([]error, (len(messages)+seedBatch-1)/seedBatch)
	turns := make(chan struct{}, seedersAtOnce)
	var all sync.WaitGroup
	for at := 0; at < len(messages); at += seedBatch {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			end := min(at+seedBatch, len(messages))
			failures[at/seedBatch] = s.publishBatch(ctx, messages[at:end], places[at:end])
		})
	}
	all.Wait()
	return places, errors.Join(failures...)
}

// publishBatch is publishMany for as many as may be on their way at once.
func (s *Store) publishBatch(ctx context.Context, messages []*nats.Msg, places []uint64) error {
	var failure error
	left := len(messages)
	err := s.replies.gatherWithin(ctx, seedPatience, messages, func(i int, m *nats.Msg) bool {
		var a ack
		a, failure = readAck(m)
		if i < len(places) {
			places[i] = a.Sequence
		}
		left--
		return failure != nil || left == 0
	})
	return cmp.Or(err, failure)
}
