package conversations

import (
	"context"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// get answers a member with what a conversation is.
func (s *service) get(ctx context.Context, call *functions.Call, in *wire.ConversationQuery) (wire.ConversationInfo, error) {
	info, err := s.about(ctx, in.Conversation, call.User)
	return info, coded(err)
}

func (s *service) about(ctx context.Context, c subjects.Conversation, u subjects.User) (wire.ConversationInfo, error) {
	info := wire.ConversationInfo{Conversation: c, Kind: c.Kind(), Role: wire.RoleMember, Members: 2}
	direct, err := s.inDirect(ctx, c, u)
	if err != nil {
		return info, err
	}
	if !direct {
		m, err := s.member(ctx, c, u)
		if err != nil {
			return info, err
		}
		if !isMember(m) {
			return info, errNoConversation
		}
		record, err := s.store.Conversation(ctx, c)
		if err != nil {
			return info, err
		}
		info.Role, info.Title, info.Policy = m.Role, record.Title, record.Policy
		if info.Members, err = s.store.CountMembers(ctx, c); err != nil {
			return info, err
		}
	}
	tail, err := s.store.Tail(ctx, c)
	if err != nil {
		return info, err
	}
	if tail.Seq == 0 && !direct {
		return info, errNoConversation
	}
	info.Head = tail.Mark()
	return info, nil
}

// inDirect reports whether the conversation is a direct one of the user; errNoConversation for a direct one of others, or with nobody.
func (s *service) inDirect(ctx context.Context, c subjects.Conversation, u subjects.User) (bool, error) {
	if c.Kind() != subjects.KindDirect {
		return false, nil
	}
	peer, ok := c.Peer(u)
	if !ok {
		return true, errNoConversation
	}
	exists, err := s.store.UserExists(ctx, peer)
	if err == nil && !exists {
		err = errNoConversation
	}
	return true, err
}

// members answers a member with who is in a conversation, page by page.
func (s *service) members(ctx context.Context, call *functions.Call, in *wire.MembersQuery) (wire.Members, error) {
	answer := wire.Members{Members: []wire.Member{}}
	direct, err := s.inDirect(ctx, in.Conversation, call.User)
	if err != nil {
		return answer, coded(err)
	}
	if direct {
		a, b, _ := in.Conversation.Pair()
		for _, u := range []subjects.User{a, b} {
			if u > in.After && len(answer.Members) < in.Limit {
				answer.Members = append(answer.Members, wire.Member{User: u, Role: wire.RoleMember, JoinedSeq: 1})
			} else if u > in.After {
				answer.Next = a
			}
		}
		return answer, nil
	}
	if _, _, err := s.actor(ctx, in.Conversation, call.User); err != nil {
		return answer, coded(err)
	}
	found, more, err := s.store.Members(ctx, in.Conversation, in.After, in.Limit)
	if err != nil {
		return answer, coded(err)
	}
	for _, m := range found {
		if isMember(m) {
			answer.Members = append(answer.Members, wire.Member{User: m.User, Role: m.Role, JoinedSeq: m.JoinedSeq})
		}
	}
	if more {
		answer.Next = found[len(found)-1].User
	}
	return answer, nil
}

// update changes title and policy: the record first, since a policy can restrict, and then the log. What is as it was only gets its entry once
// more, since a crash may have left it out.
func (s *service) update(ctx context.Context, call *functions.Call, in *wire.Update) (wire.Changed, error) {
	if in.Title != nil && *in.Title == "" {
		return wire.Changed{}, errNoTitle
	}
	changed, err := retry(ctx, func() (wire.Seq, error) { return s.change(ctx, call, in) })
	if err == nil {
		s.tellMembers(ctx, in.Conversation)
	}
	return changed, err
}

func (s *service) change(ctx context.Context, call *functions.Call, in *wire.Update) (wire.Seq, error) {
	actor, _, err := s.actor(ctx, in.Conversation, call.User)
	if err != nil {
		return 0, err
	}
	if err := mayUpdate(actor.Role); err != nil {
		return 0, err
	}
	record, err := s.store.Conversation(ctx, in.Conversation)
	if err != nil {
		return 0, err
	}
	before := record
	if in.Title != nil {
		record.Title = *in.Title
	}
	if in.Policy != nil {
		record.Policy = *in.Policy
	}
	if record != before {
		if record.Revision, err = s.store.UpdateConversation(ctx, record); err != nil {
			return 0, err
		}
	}
	body := policyBody{Title: in.Title, Policy: in.Policy}
	encoded, err := wire.Marshal(body)
	if err != nil {
		return 0, err
	}
	entry, err := s.append(ctx, call, wire.Append{
		Conversation: in.Conversation, Kind: wire.KindPolicy, From: call.User, ClientID: changeID("policy", number(record.Revision), string(encoded)),
	}, body)
	return entry.Seq, err
}

// tellMembers tells the members' edges that the conversation changed. In a large one the entry in its log is enough, which reaches the same
// clients.
func (s *service) tellMembers(ctx context.Context, c subjects.Conversation) {
	count, err := s.store.CountMembers(ctx, c)
	if err == nil && count > wire.MaxMembers {
		return
	}
	var members []jetstream.Member
	if err == nil {
		members, _, err = s.store.Members(ctx, c, "", wire.MaxMembers)
	}
	if err != nil {
		s.env.Log.WarnContext(ctx, "members not told", "conv", string(c), "err", err)
		return
	}
	for _, m := range members {
		s.tell(ctx, m.User, wire.UserEvent{Change: wire.ChangeConversationUpdated, Conversation: c})
	}
}
