package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/confab-im/confab/subjects"
)

// Heads returns the tails of many conversations; those without an entry are left out. All partitions are asked at once, each in one request
// for up to 1,024 conversations. The answer may come from any replica, so at more than one it may be a moment old.
func (s *Store) Heads(ctx context.Context, conversations []subjects.Conversation) (map[subjects.Conversation]Tail, error) {
	var names [subjects.Partitions][]string
	of := make(map[string]subjects.Conversation, len(conversations))
	for _, c := range conversations {
		name := subjects.Message(c)
		if _, doubled := of[name]; !doubled {
			of[name] = c
			names[c.Partition()] = append(names[c.Partition()], name)
		}
	}
	var (
		found    [subjects.Partitions][]*rawMsg
		failures [subjects.Partitions]error
		all      sync.WaitGroup
	)
	for p := range subjects.Partitions {
		if len(names[p]) > 0 {
			all.Go(func() { found[p], failures[p] = s.multiLast(ctx, subjects.MessagesStream(p), names[p]) })
		}
	}
	all.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		return nil, fmt.Errorf("read %d heads: %w", len(of), err)
	}
	heads := make(map[subjects.Conversation]Tail, len(of))
	for _, msg := range slices.Concat(found[:]...) {
		c := of[msg.Subject]
		tail, err := s.tailOf(ctx, c, msg, nil)
		if err != nil {
			return nil, err
		}
		if tail.Seq > 0 {
			heads[c] = tail
		}
	}
	return heads, nil
}

// Tails returns the last stream sequence of each partition, in their order; 0 where nothing is stored. While one stays the same, its
// conversations have nothing new. It may come from any replica: at more than one a number may be a moment old, and even go back.
func (s *Store) Tails(ctx context.Context) ([]uint64, error) {
	tails := make([]uint64, subjects.Partitions)
	failures := make([]error, subjects.Partitions)
	var all sync.WaitGroup
	for p := range subjects.Partitions {
		all.Go(func() {
			msg, err := s.lastDirect(ctx, subjects.MessagesStream(p), subjects.PartitionMessages(p))
			switch {
			case err == nil:
				tails[p] = msg.Sequence
			case !errors.Is(err, ErrNotFound):
				failures[p] = err
			}
		})
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, fmt.Errorf("read the tails of all partitions: %w", err)
	}
	return tails, nil
}
