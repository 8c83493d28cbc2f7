package conversations

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// actor returns the membership by which a user may change something, and the epoch that was read before it. Who is in no such conversation, or in
// one that is still being made, is not told which of the two it is.
func (s *service) actor(ctx context.Context, c subjects.Conversation, u subjects.User) (jetstream.Member, wire.Seq, error) {
	m, epoch, err := s.standing(ctx, c, u)
	if err == nil && !isMember(m) {
		err = errNoConversation
	}
	return m, epoch, err
}

// standing is actor that also returns the record of who is no member, if there is one.
func (s *service) standing(ctx context.Context, c subjects.Conversation, u subjects.User) (jetstream.Member, wire.Seq, error) {
	if _, ok := c.Peer(u); ok {
		return jetstream.Member{}, 0, errDirect
	}
	tail, err := s.store.Tail(ctx, c)
	if err != nil {
		return jetstream.Member{}, 0, err
	}
	m, err := s.member(ctx, c, u)
	if err == nil && tail.Seq == 0 {
		err = errNoConversation
	}
	return m, tail.Epoch, err
}

// member returns a user's record, the zero Member where there is none.
func (s *service) member(ctx context.Context, c subjects.Conversation, u subjects.User) (jetstream.Member, error) {
	m, err := s.store.Member(ctx, c, u)
	if errors.Is(err, jetstream.ErrNotFound) {
		return jetstream.Member{}, nil
	}
	return m, err
}

// join makes the caller a reader of a channel. In a group only those who are in it already get an answer.
func (s *service) join(ctx context.Context, call *functions.Call, in *wire.ConversationQuery) (wire.Changed, error) {
	return retry(ctx, func() (wire.Seq, error) {
		m, _, err := s.standing(ctx, in.Conversation, call.User)
		switch {
		case err != nil:
			return 0, err
		case isMember(m):
			return m.JoinedSeq, nil
		case in.Conversation.Kind() != subjects.KindChannel:
			return 0, errNoConversation
		}
		at := place{call: call, conversation: in.Conversation, user: call.User, by: call.User}
		return s.begin(ctx, at, wire.ChangeJoined, wire.RoleReader)
	})
}

// leave ends the caller's membership, or finishes an ending that was cut short.
func (s *service) leave(ctx context.Context, call *functions.Call, in *wire.ConversationQuery) (wire.Changed, error) {
	at := place{call: call, conversation: in.Conversation, user: call.User, by: call.User}
	return retry(ctx, func() (wire.Seq, error) {
		m, epoch, err := s.standing(ctx, in.Conversation, call.User)
		if err == nil && !isMember(m) && !isEnding(m) {
			err = errNoConversation
		}
		if err != nil {
			return 0, err
		}
		if m.Role == wire.RoleOwner {
			if err := s.mayLoseOwner(ctx, m, true); err != nil {
				return 0, err
			}
		}
		return s.end(ctx, at, m, epoch, wire.ChangeLeft)
	})
}

// mayLoseOwner refuses to leave a conversation that has members without an owner. Two owners who give up at the same moment through two
// instances can both find the other one still there: it is a courtesy to the members, not a lock.
func (s *service) mayLoseOwner(ctx context.Context, owner jetstream.Member, leaves bool) error {
	others := false
	for after, more := subjects.User(""), true; more; {
		members, next, err := s.store.Members(ctx, owner.Conversation, after, membersAtOnce)
		if err != nil {
			return err
		}
		for _, m := range members {
			after = m.User
			if m.User == owner.User || !isMember(m) {
				continue
			}
			if m.Role == wire.RoleOwner {
				return nil
			}
			others = true
		}
		more = next
	}
	if leaves && !others {
		return nil
	}
	return errLastOwner
}

// add makes a user a member. One who is a member already stays what they are.
func (s *service) add(ctx context.Context, call *functions.Call, in *wire.MemberUpdate) (wire.Changed, error) {
	role := cmp.Or(in.Role, wire.RoleMember) // who may post, in groups and channels alike
	at := place{call: call, conversation: in.Conversation, user: in.User, by: call.User}
	return retry(ctx, func() (wire.Seq, error) {
		actor, _, err := s.actor(ctx, in.Conversation, call.User)
		if err != nil {
			return 0, err
		}
		if err := mayAdd(actor.Role, role); err != nil {
			return 0, err
		}
		switch exists, err := s.store.UserExists(ctx, in.User); {
		case err != nil:
			return 0, err
		case !exists:
			return 0, errNoUser
		}
		return s.begin(ctx, at, wire.ChangeAdded, role)
	})
}

// remove ends another's membership, or finishes an ending that was cut short; of oneself it is a leave.
func (s *service) remove(ctx context.Context, call *functions.Call, in *wire.MemberUpdate) (wire.Changed, error) {
	if in.User == call.User {
		return s.leave(ctx, call, &wire.ConversationQuery{Conversation: in.Conversation})
	}
	at := place{call: call, conversation: in.Conversation, user: in.User, by: call.User}
	return retry(ctx, func() (wire.Seq, error) {
		actor, epoch, err := s.actor(ctx, in.Conversation, call.User)
		if err != nil {
			return 0, err
		}
		target, err := s.member(ctx, in.Conversation, in.User)
		if err != nil {
			return 0, err
		}
		if err := mayRemove(actor.Role, target.Role); err != nil {
			return 0, err
		}
		if !isMember(target) && !isEnding(target) {
			return 0, errNoMember
		}
		return s.end(ctx, at, target, epoch, wire.ChangeRemoved)
	})
}

// role gives a member another role.
func (s *service) role(ctx context.Context, call *functions.Call, in *wire.MemberUpdate) (wire.Changed, error) {
	if in.Role == "" {
		return wire.Changed{}, wire.Errorf(wire.BadData, "role is missing.")
	}
	at := place{call: call, conversation: in.Conversation, user: in.User, by: call.User}
	return retry(ctx, func() (wire.Seq, error) {
		actor, _, err := s.actor(ctx, in.Conversation, call.User)
		if err != nil {
			return 0, err
		}
		if err := maySetRole(actor.Role); err != nil {
			return 0, err
		}
		target, err := s.member(ctx, in.Conversation, in.User)
		switch {
		case err != nil:
			return 0, err
		case !isMember(target):
			return 0, errNoMember
		case target.Role == wire.RoleOwner && in.Role != wire.RoleOwner:
			if err := s.mayLoseOwner(ctx, target, false); err != nil {
				return 0, err
			}
		}
		return s.setRole(ctx, at, target, in.Role)
	})
}

// counts returns how many members conversations have.
func (s *service) counts(ctx context.Context, ids []subjects.Conversation) ([]int, error) {
	counts := make([]int, len(ids))
	failures := make([]error, len(ids))
	var all sync.WaitGroup
	slots := make(chan struct{}, countsAtOnce)
	for i, id := range ids {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			counts[i], failures[i] = s.store.CountMembers(ctx, id)
		})
	}
	all.Wait()
	return counts, errors.Join(failures...)
}

// membersAtOnce is how many members are looked through at a time. Each time costs a reading of all names, so few large steps are cheaper; a
// member takes about 300 bytes.
const membersAtOnce = 16 << 10

// countsAtOnce is how many conversations' members are counted at a time.
const countsAtOnce = 16
