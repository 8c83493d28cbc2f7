package presence

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
const Name subjects.Function = "presence"

// Config is the function's configuration; there is nothing to configure yet.
type Config struct{}

// Validate returns nil.
func (Config) Validate() error { return nil }

// Function returns the function presence.
func Function(Config) functions.Function {
	return functions.Function{
		Name:        Name,
		Description: "Knows who is there",
		Methods: []functions.Method{
			{Name: "set", Description: "Stores what others see of the caller", Public: true, Idempotent: true, Request: wire.PresenceSetting{}, Response: wire.Empty{}},
			{Name: "get", Description: "Tells the presence of users", Public: true, Idempotent: true, Request: wire.UsersQuery{}, Response: wire.Presences{}},
			{Name: "records", Description: "Gives edges the records of users", Idempotent: true, Request: wire.UsersQuery{}, Response: wire.PresenceRecords{}},
		},
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			store, err := jetstream.Open(ctx, env.NATS)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, store.Close)
			s := &service{store: store, env: env}
			return functions.Handlers{
				"set": functions.Handle(s.set), "get": functions.Handle(s.get), "records": functions.Handle(s.records),
			}, nil
		},
	}
}

type service struct {
	store *jetstream.Store
	env   functions.Env
}

// set stores what the caller wants others to see, over all devices. For a user who becomes invisible it keeps what others saw last, so that
// from then on the user looks like one who left at that moment.
func (s *service) set(ctx context.Context, call *functions.Call, in *wire.PresenceSetting) (wire.Empty, error) {
	in.Seen = nil // the server's to say
	if in.State == wire.StateInvisible {
		records, err := s.store.PresenceRecords(ctx, []subjects.User{call.User})
		if err != nil {
			return wire.Empty{}, codeOf(err)
		}
		now := s.env.Now()
		seen, _ := records.Users[call.User].Seen(records.Leases, now)
		in.Seen = seen.LastSeen
		if seen.State != wire.StateOffline {
			at := wire.At(now)
			in.Seen = &at
		}
	}
	return wire.Empty{}, codeOf(s.store.SetPresence(ctx, call.User, *in))
}

// get tells the presence of users. Users who are not there look like those who never connected; the caller sees the own true state.
func (s *service) get(ctx context.Context, call *functions.Call, in *wire.UsersQuery) (wire.Presences, error) {
	records, err := s.store.PresenceRecords(ctx, in.Users)
	if err != nil {
		return wire.Presences{}, codeOf(err)
	}
	now := s.env.Now()
	answer := wire.Presences{Users: make(map[subjects.User]wire.Presence, len(records.Users))}
	for u, record := range records.Users {
		view := record.Seen
		if u == call.User {
			view = record.Own
		}
		answer.Users[u], _ = view(records.Leases, now)
	}
	return answer, nil
}

// records gives an edge what is known of users, also of invisible ones: the edge decides what its clients see.
func (s *service) records(ctx context.Context, _ *functions.Call, in *wire.UsersQuery) (wire.PresenceRecords, error) {
	records, err := s.store.PresenceRecords(ctx, in.Users)
	return records, codeOf(err)
}

// codeOf gives an error of the store the code that the caller sees; what has none becomes internal.
func codeOf(err error) error {
	if errors.Is(err, jetstream.ErrUnavailable) || errors.Is(err, jetstream.ErrConflict) {
		return fmt.Errorf("%w: %w", wire.Errorf(wire.StorageUnavailable, "The store did not confirm; try again."), err)
	}
	return err
}
