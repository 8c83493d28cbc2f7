package receipts

import (
	"context"
	"slices"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// who returns the members whose marks have reached an entry that the caller sees, its author among them: a post marks itself as read. A
// conversation of more than wire.MaxMembers members has too many to list.
func (s *service) who(ctx context.Context, call *functions.Call, in *wire.ReadersQuery) (wire.Readers, error) {
	answer := wire.Readers{Read: []subjects.User{}, Delivered: []subjects.User{}}
	caller, err := s.member(ctx, in.Conversation, call.User)
	if err != nil {
		return answer, err
	}
	tail, err := s.existing(ctx, in.Conversation)
	if err != nil {
		return answer, err
	}
	if in.Seq < 1 || in.Seq > tail.Seq {
		return answer, errNotFound
	}
	all, err := s.seesAll(ctx, in.Conversation)
	if err != nil {
		return answer, err
	}
	if !all && in.Seq < caller.JoinedSeq {
		return answer, errNotFound
	}
	members, err := s.members(ctx, in.Conversation)
	if err != nil {
		return answer, err
	}
	users := make([]subjects.User, len(members))
	for i, m := range members {
		users[i] = m.User
	}
	cursors, err := s.store.Readers(ctx, in.Conversation, users)
	if err != nil {
		return answer, codeOf(err)
	}
	for _, m := range members {
		if m.Role == "" || !all && in.Seq < m.JoinedSeq {
			continue // no member, or never saw it
		}
		marks := standing(m.User, tail, cursors[m.User])
		if marks.Read.Seq >= in.Seq {
			answer.Read = append(answer.Read, m.User)
		}
		if marks.Delivered >= in.Seq {
			answer.Delivered = append(answer.Delivered, m.User)
		}
	}
	slices.Sort(answer.Read)
	slices.Sort(answer.Delivered)
	return answer, nil
}

// seesAll reports whether members see what was said before they came.
func (s *service) seesAll(ctx context.Context, c subjects.Conversation) (bool, error) {
	if c.Kind() == subjects.KindDirect {
		return true, nil
	}
	record, err := s.store.Conversation(ctx, c)
	if err != nil {
		return false, codeOf(err)
	}
	return record.Policy.History == wire.HistoryStart, nil
}

func (s *service) members(ctx context.Context, c subjects.Conversation) ([]jetstream.Member, error) {
	if a, b, direct := c.Pair(); direct {
		return []jetstream.Member{{User: a, Role: wire.RoleMember}, {User: b, Role: wire.RoleMember}}, nil
	}
	members, more, err := s.store.Members(ctx, c, "", wire.MaxMembers)
	if err != nil {
		return nil, codeOf(err)
	}
	if more {
		return nil, wire.Errorf(wire.Conflict, "The conversation has more than %d members; who has read is not listed there.", wire.MaxMembers)
	}
	return members, nil
}
