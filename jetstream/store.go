package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// openPoll is how often Open looks whether the store is declared.
const openPoll = 50 * time.Millisecond

// Store reads and writes everything that confab remembers, over one NATS connection that it does not own. It is safe for concurrent
// use. Every method that waits returns ErrUnavailable when NATS does not answer before the context ends, or within 5 seconds.
type Store struct {
	nc      *nats.Conn
	replies *replies
	layout  layoutRecord
}

// Open returns a store over nc. It makes nothing: it waits until Declare has run, bounded by ctx (ErrNotDeclared), and refuses a newer
// layout (ErrNewerLayout). Close it before nc.
func Open(ctx context.Context, nc *nats.Conn) (*Store, error) {
	s, err := newStore(nc)
	if err != nil {
		return nil, err
	}
	for {
		s.layout, err = s.checkLayout(ctx)
		if err == nil {
			return s, nil
		}
		if errors.Is(err, ErrNewerLayout) || nc.IsClosed() {
			s.Close()
			return nil, fmt.Errorf("open the store: %w", err)
		}
		select {
		case <-ctx.Done():
			s.Close()
			return nil, fmt.Errorf("open the store: %w: %w", ErrNotDeclared, err)
		case <-time.After(openPoll):
		}
	}
}

// Close ends the store's one subscription. The connection stays open.
func (s *Store) Close() { s.replies.close() }

// Dedupe returns how long a repeated entry is recognised, as it was declared.
func (s *Store) Dedupe() time.Duration { return time.Duration(s.layout.DedupeMS) * time.Millisecond }

func newStore(nc *nats.Conn) (*Store, error) {
	r, err := newReplies(nc)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", natsError(err))
	}
	return &Store{nc: nc, replies: r}, nil
}
