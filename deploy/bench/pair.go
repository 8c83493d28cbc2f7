package bench

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// starting is how a scenario comes by its confab: up or prepare of a run.
type starting func(ctx context.Context, flags ...string) (*system, error)

// besideStreams starts a confab and the floor of bare streams, has them measured in turn, and ends them.
func (r *run) besideStreams(ctx context.Context, start starting, measure func(s *system, bare *process, nc *nats.Conn) error) (err error) {
	s, err := start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.down()) }()
	bare, nc, err := r.streams(ctx)
	if err != nil {
		return err
	}
	defer func() { nc.Close(); err = errors.Join(err, bare.stop()) }()
	return measure(s, bare, nc)
}

// besideRelay is besideStreams with the bare relay, which is at a URL.
func (r *run) besideRelay(ctx context.Context, start starting, measure func(s *system, relay *process, url string) error) (err error) {
	s, err := start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.down()) }()
	relay, url, err := r.floor(ctx, "relay")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, relay.stop()) }()
	return measure(s, relay, url)
}
