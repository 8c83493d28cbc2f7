package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
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

// layoutRecord is what Declare leaves in IM_CONFIG for Open.
type layoutRecord struct {
	Layout     int   `json:"layout"`
	Partitions int   `json:"partitions"`
	Replicas   int   `json:"replicas"`
	DedupeMS   int64 `json:"dedupe_ms"`
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

// checkLayout reads the layout from the leader. An older one, or another number of partitions, counts as not declared or as too new:
// what this release would read or write there is not what others do.
func (s *Store) checkLayout(ctx context.Context) (layoutRecord, error) {
	var layout layoutRecord
	msg, err := s.lastFromLeader(ctx, subjects.BucketStream(subjects.BucketConfig), subjects.BucketSubject(subjects.BucketConfig, subjects.LayoutKey))
	if err != nil {
		return layout, err
	}
	if err := json.Unmarshal(msg.Data, &layout); err != nil {
		return layout, fmt.Errorf("read the layout: %w", err)
	}
	switch {
	case layout.Layout > Layout:
		return layout, newerLayout(layout.Layout)
	case layout.Layout < Layout:
		return layout, fmt.Errorf("%w in layout %d, only in %d; run this release's deployer", ErrNotDeclared, Layout, layout.Layout)
	case layout.Partitions != subjects.Partitions:
		return layout, fmt.Errorf("%w: %d partitions, and this release has %d; the number is fixed when the streams are made",
			ErrNewerLayout, layout.Partitions, subjects.Partitions)
	}
	return layout, nil
}

// writeLayout tells Open that all assets are there.
func (s *Store) writeLayout(ctx context.Context, p Profile) error {
	want := layoutRecord{Layout: Layout, Partitions: subjects.Partitions, Replicas: p.Replicas, DedupeMS: p.Dedupe.Milliseconds()}
	if have, err := s.checkLayout(ctx); err == nil && have == want {
		return nil
	}
	data, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	if _, err := s.publish(ctx, subjects.BucketSubject(subjects.BucketConfig, subjects.LayoutKey), nil, data); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	return nil
}
