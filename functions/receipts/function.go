package receipts

import (
	"context"
	"errors"
	"fmt"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Name is the name of the function.
const Name subjects.Function = "receipts"

// Config is the function's configuration; there is nothing to configure yet.
type Config struct{}

// Validate returns nil.
func (Config) Validate() error { return nil }

// Function returns the function receipts.
func Function(Config) functions.Function {
	return functions.Function{
		Name:        Name,
		Description: "Marks what was read",
		Methods: []functions.Method{
			{Name: "mark", Description: "Moves the caller's marks forward", Public: true, Idempotent: true, Request: wire.MarkQuery{}, Response: wire.Marked{}},
			{Name: "who", Description: "Tells who has read an entry", Public: true, Idempotent: true, Request: wire.ReadersQuery{}, Response: wire.Readers{}},
		},
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			store, err := jetstream.Open(ctx, env.NATS)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, store.Close)
			s := &service{store: store, env: env, audiences: newAudiences(env.Now)}
			return functions.Handlers{"mark": functions.Handle(s.mark), "who": functions.Handle(s.who)}, nil
		},
	}
}

type service struct {
	store     *jetstream.Store
	env       functions.Env
	audiences *audiences
}

// member returns the user's membership, with the first seq that the user sees. Who is not in a conversation, or asks for one that is not
// there, gets the same NotFound.
func (s *service) member(ctx context.Context, c subjects.Conversation, u subjects.User) (jetstream.Member, error) {
	if c.Kind() == subjects.KindDirect {
		if _, in := c.Peer(u); !in {
			return jetstream.Member{}, errNotFound
		}
		return jetstream.Member{Conversation: c, User: u, JoinedSeq: 1}, nil
	}
	m, err := s.store.Member(ctx, c, u)
	if err == nil && m.Role == "" { // about to begin, or to end
		err = jetstream.ErrNotFound
	}
	return m, codeOf(err)
}

// existing returns the tail of a conversation, from the leader. Every conversation begins with its first entry.
func (s *service) existing(ctx context.Context, c subjects.Conversation) (jetstream.Tail, error) {
	tail, err := s.store.Tail(ctx, c)
	if err != nil {
		return tail, codeOf(err)
	}
	if tail.Seq == 0 {
		return tail, errNotFound
	}
	return tail, nil
}

var errNotFound = wire.Errorf(wire.NotFound, "There is no such conversation or entry, or it is not visible to you.")

// codeOf gives an error of the store the code that the caller sees; what has none becomes internal.
func codeOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrNotFound), errors.Is(err, jetstream.ErrNoEntry):
		return errNotFound
	case errors.Is(err, jetstream.ErrErased):
		return wire.Errorf(wire.Gone, "The entry was erased.")
	case errors.Is(err, jetstream.ErrUnavailable), errors.Is(err, jetstream.ErrConflict):
		return fmt.Errorf("%w: %w", wire.Errorf(wire.StorageUnavailable, "The store did not confirm; try again."), err)
	}
	return err
}
