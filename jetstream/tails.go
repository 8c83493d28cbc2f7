package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// Tails returns the last stream sequence of each partition, in their order; 0 where nothing is stored. While one stays the same, its
// conversations have nothing new. It may come from any replica: at more than one a number may be a moment old, and even go back.
func (s *Store) Tails(ctx context.Context) ([]uint64, error) {
	tails := make([]uint64, subjects.Partitions)
	failures := make([]error, subjects.Partitions)
	var all sync.WaitGroup
	for p := range subjects.Partitions {
		all.Go(func() {
			msg, err := s.lastOf(ctx, p)
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

// anyLast asks a stream for its last message under whatever subject. The server looks up its place for that; of the messages under a pattern it would
// look at the subjects one by one, which are as many as there are conversations.
var anyLast = []byte(`{"last_by_subj":">"}`)

// lastOf returns the last message of a partition from any replica, or ErrNotFound.
func (s *Store) lastOf(ctx context.Context, partition int) (*rawMsg, error) {
	stream := subjects.MessagesStream(partition)
	reply, err := s.request(ctx, &nats.Msg{Subject: subjects.DirectRead(stream), Data: anyLast})
	if err != nil {
		return nil, err
	}
	msg, err := directMsg(reply)
	if errors.Is(err, ErrNotFound) { // the last one was erased, or there is none
		return s.lastDirect(ctx, stream, subjects.PartitionMessages(partition))
	}
	return msg, err
}
