// Package conversations is the function that says which groups and channels there are, and who is in them with what role.
//
// A membership is a record, which decides, and entries of the log, which tell everybody and order the change among the messages. What
// restricts (a removal, a lower role, a policy) changes the record first and the log second; what permits (an addition, a higher role) does it
// the other way round. Both steps may be repeated: a change that a crash cut in two is finished by the same call once more.
//
// The log itself is left to function send, which is asked to append; reading is left to function history.
package conversations

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Name is the name of the function.
const Name subjects.Function = "conversations"

// The methods of the function.
const (
	MethodCreate      subjects.Method = "create"
	MethodGet         subjects.Method = "get"
	MethodUpdate      subjects.Method = "update"
	MethodMembers     subjects.Method = "members"
	MethodJoin        subjects.Method = "join"
	MethodLeave       subjects.Method = "leave"
	MethodAdd         subjects.Method = "add"
	MethodRemove      subjects.Method = "remove"
	MethodRole        subjects.Method = "role"
	MethodMine        subjects.Method = "mine"
	MethodMemberships subjects.Method = "memberships"
	MethodEnrol       subjects.Method = "enrol"
)

// The call by which the log is changed.
const (
	sender       subjects.Function = "send"
	senderAppend subjects.Method   = "append"
)

// createTimeout is how long making a conversation may take: with a thousand founders it is a few thousand writes.
const createTimeout = 15 * time.Second

// changeTries bounds how often a change is decided anew because somebody else changed the same record.
const changeTries = 8

// retryAfter is what a caller is told whose change lost against others changeTries times.
const retryAfter = 200 * time.Millisecond

// Config tunes the function. There is nothing to tune yet.
type Config struct{}

// Validate returns nil: an empty Config has nothing that could be wrong.
func (Config) Validate() error { return nil }

// Function returns the function.
func Function(Config) functions.Function {
	return functions.Function{
		Name:        Name,
		Description: "Groups, channels, members",
		Methods: []functions.Method{
			{Name: MethodCreate, Description: "Makes a group or a channel", Public: true, Timeout: createTimeout,
				Request: wire.Create{}, Response: wire.ConversationInfo{}},
			{Name: MethodGet, Description: "Says what a conversation is", Public: true, Idempotent: true,
				Request: wire.ConversationQuery{}, Response: wire.ConversationInfo{}},
			{Name: MethodUpdate, Description: "Changes title and policy", Public: true, Idempotent: true,
				Request: wire.Update{}, Response: wire.Changed{}},
			{Name: MethodMembers, Description: "Lists members", Public: true, Idempotent: true,
				Request: wire.MembersQuery{}, Response: wire.Members{}},
			{Name: MethodJoin, Description: "Joins a channel", Public: true, Idempotent: true,
				Request: wire.ConversationQuery{}, Response: wire.Changed{}},
			{Name: MethodLeave, Description: "Leaves a conversation", Public: true,
				Request: wire.ConversationQuery{}, Response: wire.Changed{}},
			{Name: MethodAdd, Description: "Adds a member", Public: true, Idempotent: true,
				Request: wire.MemberUpdate{}, Response: wire.Changed{}},
			{Name: MethodRemove, Description: "Removes a member", Public: true,
				Request: wire.MemberUpdate{}, Response: wire.Changed{}},
			{Name: MethodRole, Description: "Gives a member another role", Public: true, Idempotent: true,
				Request: wire.MemberUpdate{}, Response: wire.Changed{}},
			{Name: MethodMine, Description: "Lists a user's memberships", Idempotent: true,
				Request: wire.UserQuery{}, Response: wire.Memberships{}},
			{Name: MethodMemberships, Description: "Lists many users' memberships", Idempotent: true,
				Request: wire.MembershipsQuery{}, Response: wire.MembershipsOf{}},
			{Name: MethodEnrol, Description: "Puts a user into the default group", Idempotent: true,
				Request: wire.UserQuery{}, Response: wire.Empty{}},
		},
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			store, err := jetstream.Open(ctx, env.NATS)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, store.Close)
			s := &service{store: store, env: env}
			return functions.Handlers{
				MethodCreate:      functions.Handle(s.create),
				MethodGet:         functions.Handle(s.get),
				MethodUpdate:      functions.Handle(s.update),
				MethodMembers:     functions.Handle(s.members),
				MethodJoin:        functions.Handle(s.join),
				MethodLeave:       functions.Handle(s.leave),
				MethodAdd:         functions.Handle(s.add),
				MethodRemove:      functions.Handle(s.remove),
				MethodRole:        functions.Handle(s.role),
				MethodMine:        functions.Handle(s.mine),
				MethodMemberships: functions.Handle(s.memberships),
				MethodEnrol:       functions.Handle(s.enrol),
			}, nil
		},
	}
}

// service is one instance. It keeps no state: whatever it decides follows from the store.
type service struct {
	store *jetstream.Store
	env   functions.Env
}

// retry runs a change until nobody else changed the same record at the same time.
func retry(ctx context.Context, change func() (wire.Seq, error)) (wire.Changed, error) {
	for try := 1; ; try++ {
		seq, err := change()
		if err == nil {
			return wire.Changed{Seq: seq}, nil
		}
		if !errors.Is(err, jetstream.ErrConflict) && !errors.Is(err, jetstream.ErrExists) {
			return wire.Changed{}, coded(err)
		}
		if try == changeTries {
			// An unknown code: the first half of the change may stand.
			return wire.Changed{}, fmt.Errorf("%w (%w)", wire.RetryAfter(wire.Unavailable, retryAfter, "Others change the same at the same time; try again."), err)
		}
		select {
		case <-ctx.Done():
			return wire.Changed{}, ctx.Err()
		case <-time.After(rand.N(time.Duration(try) * 4 * time.Millisecond)):
		}
	}
}

// coded gives an error of the store the code that clients see; what has a code keeps it.
func coded(err error) error {
	if errors.Is(err, jetstream.ErrUnavailable) {
		return fmt.Errorf("%w (%w)", wire.Errorf(wire.StorageUnavailable, "The store did not confirm in time; try again."), err)
	}
	return err
}
