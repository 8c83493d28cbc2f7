package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
