package conversations

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// create makes a conversation in three steps: the record, which takes the id; the founding members, whom nothing shows yet; and the first
// entry, with which the conversation is there. Until then nobody can change anything in it, and its creator may begin again, also after a
// crash; from then on the id is taken for the creator as well.
func (s *service) create(ctx context.Context, call *functions.Call, in *wire.Create) (wire.ConversationInfo, error) {
	if in.Title == "" {
		return wire.ConversationInfo{}, errNoTitle
	}
	founders := foundersOf(call.User, in.Members)
	if err := s.allExist(ctx, founders); err != nil {
		return wire.ConversationInfo{}, err
	}
	if in.ID == "" {
		in.ID = strings.ToLower(rand.Text())
	}
	id, err := subjects.NewConversation(in.Kind, in.ID)
	if err != nil {
		return wire.ConversationInfo{}, wire.Errorf(wire.BadID, "id is not of the allowed form.")
	}
	record := jetstream.Conversation{
		Conversation: id, Kind: in.Kind, Title: in.Title, Policy: in.Policy, Created: wire.At(s.env.Now()), CreatedBy: call.User,
	}
	if err := s.reserve(ctx, record); err != nil {
		return wire.ConversationInfo{}, coded(err)
	}
	members := make([]jetstream.Member, len(founders))
	for i, u := range founders {
		members[i] = jetstream.Member{Conversation: id, User: u, Role: wire.RoleMember, JoinedSeq: 1}
	}
	members[0].Role = wire.RoleOwner
	if err := s.store.PutMembers(ctx, members); err != nil {
		return wire.ConversationInfo{}, coded(err)
	}
	first, err := s.found(ctx, call, record)
	if err != nil {
		return wire.ConversationInfo{}, err
	}
	for _, u := range founders {
		s.tell(ctx, u, wire.UserEvent{
			Change: wire.ChangeConversationAdded, Conversation: id, From: 1, Small: len(founders) <= wire.SmallConversation,
		})
	}
	return wire.ConversationInfo{
		Conversation: id, Kind: in.Kind, Title: in.Title, Policy: in.Policy, Role: wire.RoleOwner, Members: len(founders),
		Head: wire.Mark{Seq: first.Seq, Count: first.Count},
	}, nil
}

// foundersOf returns the founders of a conversation, its creator first, each once.
func foundersOf(creator subjects.User, members []subjects.User) []subjects.User {
	founders := []subjects.User{creator}
	seen := map[subjects.User]bool{creator: true}
	for _, u := range members {
		if !seen[u] {
			seen[u] = true
			founders = append(founders, u)
		}
	}
	return founders
}

func (s *service) allExist(ctx context.Context, users []subjects.User) error {
	found, err := s.store.Users(ctx, users)
	if err != nil {
		return coded(err)
	}
	for _, u := range users {
		if _, ok := found[u]; !ok {
			return wire.Errorf(wire.NotFound, "There is no user %s.", u)
		}
	}
	return nil
}

// reserve takes the id, or takes up what an earlier try of the same creator left unfinished: its record is written anew, and its members, whom
// the creator may not have named this time, are taken out.
func (s *service) reserve(ctx context.Context, record jetstream.Conversation) error {
	_, err := s.store.CreateConversation(ctx, record)
	if err == nil || !errors.Is(err, jetstream.ErrExists) {
		return err
	}
	there, err := s.store.Conversation(ctx, record.Conversation)
	if err != nil {
		return err
	}
	tail, err := s.store.Tail(ctx, record.Conversation)
	if err != nil {
		return err
	}
	if there.CreatedBy != record.CreatedBy || tail.Seq > 0 || record.Conversation == subjects.General {
		return errTaken
	}
	record.Revision = there.Revision
	if _, err := s.store.UpdateConversation(ctx, record); err != nil {
		if errors.Is(err, jetstream.ErrConflict) {
			return errTaken
		}
		return err
	}
	for after, more := subjects.User(""), true; more; {
		var left []jetstream.Member
		if left, more, err = s.store.Members(ctx, record.Conversation, after, wire.MaxMembers); err != nil {
			return err
		}
		for _, m := range left {
			if err := s.store.RemoveMember(ctx, m); err != nil {
				return err
			}
			after = m.User
		}
	}
	return nil
}

// found appends the first entry of a conversation. It may be repeated: its client id and author follow from the record.
func (s *service) found(ctx context.Context, call *functions.Call, record jetstream.Conversation) (wire.Posted, error) {
	first, err := s.append(ctx, call, wire.Append{
		Conversation: record.Conversation, Kind: wire.KindPolicy, From: record.CreatedBy, ClientID: changeID("found", string(record.Conversation)), First: true,
	}, policyBody{Title: &record.Title, Policy: &record.Policy})
	if wire.CodeOf(err) == wire.Conflict {
		err = errTaken
	}
	return first, err
}

// policyBody is the body of a policy entry: what changed, and no more.
type policyBody struct {
	Title  *string      `json:"title,omitempty"`
	Policy *wire.Policy `json:"policy,omitempty"`
}

// enrol puts a user into the group that everybody is in, and makes that on first need; the first one in it is its owner. It may be repeated.
// It adds again who has left, so it is only asked for until it has succeeded once.
func (s *service) enrol(ctx context.Context, call *functions.Call, in *wire.UserQuery) (wire.Empty, error) {
	if err := s.allExist(ctx, []subjects.User{in.User}); err != nil {
		return wire.Empty{}, err
	}
	if err := s.general(ctx, call, in.User); err != nil {
		return wire.Empty{}, coded(err)
	}
	at := place{call: call, conversation: subjects.General, user: in.User, by: in.User}
	_, err := retry(ctx, func() (wire.Seq, error) { return s.begin(ctx, at, wire.ChangeJoined, wire.RoleMember) })
	return wire.Empty{}, err
}

// general makes the group that everybody is in, or finishes what another instance began. Whoever took the id is the owner.
func (s *service) general(ctx context.Context, call *functions.Call, first subjects.User) error {
	tail, err := s.store.Tail(ctx, subjects.General)
	if err != nil || tail.Seq > 0 {
		return err
	}
	record := jetstream.Conversation{
		Conversation: subjects.General, Kind: subjects.KindGroup, Title: "General", Created: wire.At(s.env.Now()), CreatedBy: first,
	}
	if _, err = s.store.CreateConversation(ctx, record); errors.Is(err, jetstream.ErrExists) {
		record, err = s.store.Conversation(ctx, subjects.General)
	}
	if err != nil {
		return err
	}
	owner := jetstream.Member{Conversation: subjects.General, User: record.CreatedBy, Role: wire.RoleOwner, JoinedSeq: 1}
	if _, err := s.store.PutMember(ctx, owner); err != nil && !errors.Is(err, jetstream.ErrExists) {
		return err
	}
	if _, err := s.found(ctx, call, record); err != nil && !errors.Is(err, errTaken) {
		return fmt.Errorf("found %s: %w", subjects.General, err)
	}
	s.tell(ctx, record.CreatedBy, wire.UserEvent{Change: wire.ChangeConversationAdded, Conversation: subjects.General, From: 1, Small: true})
	return nil
}

// mine answers an edge with what it has to deliver to a user.
func (s *service) mine(ctx context.Context, _ *functions.Call, in *wire.UserQuery) (wire.Memberships, error) {
	answer := wire.Memberships{Memberships: []wire.Membership{}}
	members, err := s.store.Memberships(ctx, in.User)
	if err != nil {
		return answer, coded(err)
	}
	members = slices.DeleteFunc(members, func(m jetstream.Member) bool {
		return !isMember(m) || m.Conversation.Kind() == subjects.KindDirect
	})
	ids := make([]subjects.Conversation, len(members))
	for i, m := range members {
		ids[i] = m.Conversation
	}
	records, err := s.store.Conversations(ctx, ids)
	if err != nil {
		return answer, coded(err)
	}
	counts, err := s.counts(ctx, ids)
	if err != nil {
		return answer, coded(err)
	}
	for i, m := range members {
		answer.Memberships = append(answer.Memberships, wire.Membership{
			Conversation: m.Conversation, From: visibleFrom(m, records[m.Conversation].Policy), Small: counts[i] <= wire.SmallConversation,
		})
	}
	return answer, nil
}

// mostTogether is how many memberships one answer has, so that it stays far below what a message may have.
const mostTogether = 4096

// memberships answers an edge with what it has to deliver to users who came at the same moment.
func (s *service) memberships(ctx context.Context, _ *functions.Call, in *wire.MembershipsQuery) (wire.MembershipsOf, error) {
	answer := wire.MembershipsOf{Users: make(map[subjects.User][]wire.Membership, len(in.Users))}
	found, err := s.store.MembershipsOf(ctx, in.Users, mostTogether)
	if err != nil {
		return answer, coded(err)
	}
	var ids []subjects.Conversation
	for u, members := range found {
		found[u] = slices.DeleteFunc(members, func(m jetstream.Member) bool { return !isMember(m) })
		for _, m := range found[u] {
			ids = append(ids, m.Conversation)
		}
	}
	slices.Sort(ids)
	records, err := s.store.Conversations(ctx, slices.Compact(ids))
	if err != nil {
		return answer, coded(err)
	}
	for u, members := range found {
		list := make([]wire.Membership, len(members))
		for i, m := range members {
			list[i] = wire.Membership{Conversation: m.Conversation, From: visibleFrom(m, records[m.Conversation].Policy)}
		}
		answer.Users[u] = list
	}
	return answer, nil
}
