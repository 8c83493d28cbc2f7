package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/confab-im/confab/subjects"
)

// MembershipsOf returns the groups and channels that users are in, as Memberships does for one of them and without what is direct, for two requests where they have at most
// maxSubjects together. Users with whom the answer would have more than most are left out. It sees every change that was acknowledged before.
func (s *Store) MembershipsOf(ctx context.Context, users []subjects.User, most int) (map[subjects.User][]Member, error) {
	users = slices.Clone(users)
	slices.Sort(users)
	users = slices.Compact(users)
	listed := make(map[subjects.User][]string, len(users))
	err := halving(users, func(users []subjects.User) error { return s.listedOf(ctx, users, &most, listed) })
	if err != nil {
		return nil, fmt.Errorf("read what %d users have listed: %w", len(users), err)
	}
	var keys []string
	found := make(map[subjects.User][]Member, len(listed))
	for u, theirs := range listed {
		found[u] = nil
		keys = append(keys, theirs...)
	}
	if len(keys) == 0 {
		return found, nil
	}
	members, err := s.membersBy(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read the memberships of %d users: %w", len(users), err)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Conversation, b.Conversation) })
	for _, m := range members {
		found[m.User] = append(found[m.User], m)
	}
	return found, nil
}

// membersBy returns the memberships that stand under keys.
func (s *Store) membersBy(ctx context.Context, keys []string) ([]Member, error) {
	found, err := s.fresh(ctx, subjects.BucketMembers, keys...)
	if err != nil {
		return nil, err
	}
	return decodeMembers(found)
}

// listedOf adds to listed, for each of the users, the keys of the groups and channels that they have in their lists, and takes them from most: those for whom nothing
// is left of it are left out. ErrTooMany says that one request is not enough for all.
func (s *Store) listedOf(ctx context.Context, users []subjects.User, most *int, listed map[subjects.User][]string) error {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = subjects.BucketSubject(subjects.BucketMembers, subjects.MembershipsPattern(u))
	}
	found, err := s.freshBy(ctx, subjects.BucketStream(subjects.BucketMembers), names, s.multiLastUpTo)
	if err != nil {
		return err
	}
	keys := make(map[subjects.User][]string, len(users))
	prefix := len(subjects.BucketSubject(subjects.BucketMembers, subjects.MembershipKey("", ""))) - 1
	for _, msg := range found {
		// The subject says it all: the record is as long, and takes longer to read.
		user, conversation, _ := strings.Cut(msg.Subject[prefix:], ".")
		u, c := subjects.User(user), subjects.Conversation(conversation)
		if c.Kind() != subjects.KindDirect {
			keys[u] = append(keys[u], subjects.MemberKey(c, u))
		}
	}
	for _, u := range users {
		if len(keys[u]) <= *most {
			*most -= len(keys[u])
			listed[u] = keys[u]
		}
	}
	return nil
}
