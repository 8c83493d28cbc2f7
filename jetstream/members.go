package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// noteTTL is how long the note of a removed member stays if the process that erases it dies in between.
const noteTTL = 5 * time.Second

// Member is one membership. It is stored twice: under the conversation, which decides who may do what, and under the user, which only lists.
type Member struct {
	Conversation subjects.Conversation `json:"conversation"`
	User         subjects.User         `json:"user"`
	Role         wire.Role             `json:"role,omitempty"`
	JoinedSeq    wire.Seq              `json:"joined_seq"`      // the first seq that the member sees unless the policy shows all
	Muted        *wire.Time            `json:"muted,omitempty"` // may not post until then
	Revision     uint64                `json:"-"`               // of the conversation's side; PutMember and RemoveMember compare it
}

func (m Member) key() string        { return subjects.MemberKey(m.Conversation, m.User) }
func (m Member) listingKey() string { return subjects.MembershipKey(m.User, m.Conversation) }

// PutMember stores a membership in both directions and returns its revision. Revision 0 means that there was none: ErrExists if there is. With
// the revision of the one that was read it is a change: ErrConflict if it was changed since. After ErrUnavailable, or a crash in between, one
// direction may be missing: read the member and put it again, unchanged with its revision.
func (s *Store) PutMember(ctx context.Context, m Member) (revision uint64, err error) {
	// The revision of the listing is read before the conversation's side is written, and compared: so of a Put and a Remove that race, the one
	// that is second on the conversation's side is also the one whose listing stays.
	listing, err := s.listingRevision(ctx, m)
	if err != nil {
		return 0, err
	}
	if m.Revision == 0 {
		revision, err = s.create(ctx, subjects.BucketMembers, m.key(), m, 0)
	} else {
		revision, err = s.update(ctx, subjects.BucketMembers, m.key(), m, m.Revision, 0)
	}
	if err != nil {
		return 0, err
	}
	for try := range raiseTries {
		_, err = s.update(ctx, subjects.BucketMembers, m.listingKey(), m, listing, 0)
		if !errors.Is(err, ErrConflict) {
			return revision, err
		}
		if err := pause(ctx, try); err != nil {
			return 0, err
		}
		if listing, err = s.listingRevision(ctx, m); err != nil {
			return 0, err
		}
		now, err := s.Member(ctx, m.Conversation, m.User)
		if errors.Is(err, ErrNotFound) || err == nil && now.Revision != revision {
			return 0, fmt.Errorf("put %s: %w", m.key(), ErrConflict)
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("put %s: %w", m.listingKey(), ErrConflict)
}

// RemoveMember removes a membership that was read, in both directions, or returns ErrConflict when it was changed since. Removing one that
// is gone, revision 0, succeeds and clears what a crash left of its listing.
func (s *Store) RemoveMember(ctx context.Context, m Member) error {
	listing, err := s.listingRevision(ctx, m)
	if err != nil {
		return err
	}
	if m.Revision != 0 {
		note, err := s.remove(ctx, subjects.BucketMembers, m.key(), m.Revision, noteTTL)
		if err != nil {
			return err
		}
		// The note was republished; erased, it no longer counts as a key of the conversation. If this fails, it expires.
		if err := s.erase(ctx, subjects.BucketStream(subjects.BucketMembers), note); err != nil {
			return fmt.Errorf("remove %s: %w", m.key(), err)
		}
	}
	for try := range raiseTries {
		_, err := s.Member(ctx, m.Conversation, m.User)
		if err == nil {
			return nil // added again meanwhile: the listing is that Put's
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		_, err = s.remove(ctx, subjects.BucketMembers, m.listingKey(), listing, markerTTL)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
		if listing, err = s.listingRevision(ctx, m); err != nil {
			return err
		}
	}
	return fmt.Errorf("remove %s: %w", m.listingKey(), ErrConflict)
}

func (s *Store) listingRevision(ctx context.Context, m Member) (uint64, error) {
	var there json.RawMessage
	revision, err := s.readKey(ctx, subjects.BucketMembers, m.listingKey(), &there)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return revision, err
}

// PutMembers stores the founding members of a new conversation, both directions, all requests on their way at once. It writes whatever was
// there, so it may be repeated, but must not be used once somebody else may change members.
func (s *Store) PutMembers(ctx context.Context, members []Member) error {
	for _, listing := range []bool{false, true} {
		for batch := range slices.Chunk(members, maxPipelined) {
			requests := make([]*nats.Msg, len(batch))
			for i, m := range batch {
				data, err := json.Marshal(m)
				if err != nil {
					return fmt.Errorf("put %s: %w", m.key(), err)
				}
				key := m.key()
				if listing {
					key = m.listingKey()
				}
				requests[i] = &nats.Msg{Subject: subjects.BucketSubject(subjects.BucketMembers, key), Data: data}
			}
			if err := untilHeard(ctx, func() error { return s.publishAll(ctx, requests) }); err != nil {
				return fmt.Errorf("put %d members: %w", len(members), err)
			}
		}
	}
	return nil
}

// PutListing lists a conversation for a user without a membership, as both users of a direct conversation have it. It may be repeated.
func (s *Store) PutListing(ctx context.Context, m Member) error {
	_, err := s.put(ctx, subjects.BucketMembers, m.listingKey(), m, 0)
	return err
}

// Member returns a membership from the leader, or ErrNotFound. It sees every change that was acknowledged before.
func (s *Store) Member(ctx context.Context, c subjects.Conversation, u subjects.User) (Member, error) {
	var m Member
	revision, err := s.readKey(ctx, subjects.BucketMembers, subjects.MemberKey(c, u), &m)
	if err != nil {
		return Member{}, err
	}
	m.Revision = revision
	return m, nil
}

// Members returns up to limit members of a conversation after the given user, in ascending order of user, and whether there are more. Up to 1,024
// members cost one request. Beyond, JetStream gives no page of a pattern, so the names are read (two microseconds each), and then the page's records.
func (s *Store) Members(ctx context.Context, c subjects.Conversation, after subjects.User, limit int) (members []Member, more bool, err error) {
	stream, pattern := subjects.BucketStream(subjects.BucketMembers), subjects.BucketSubject(subjects.BucketMembers, subjects.MembersPattern(c))
	found, err := s.multiLast(ctx, stream, []string{pattern})
	if errors.Is(err, ErrTooMany) {
		names, err := s.keys(ctx, stream, pattern)
		if err != nil {
			return nil, false, fmt.Errorf("read the members of %s: %w", c, err)
		}
		// Bytewise order of subjects that differ in the last token only is the order of users.
		start, _ := slices.BinarySearch(names, subjects.BucketSubject(subjects.BucketMembers, subjects.MemberKey(c, after))+"\x00")
		names = names[start:]
		more = len(names) > limit
		found, err = s.multiLast(ctx, stream, names[:min(limit, len(names))])
		if err != nil {
			return nil, false, fmt.Errorf("read the members of %s: %w", c, err)
		}
	} else if err != nil {
		return nil, false, fmt.Errorf("read the members of %s: %w", c, err)
	}
	members, err = decodeMembers(found)
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.User, b.User) })
	start, _ := slices.BinarySearchFunc(members, after, func(m Member, after subjects.User) int {
		if m.User <= after {
			return -1
		}
		return 1
	})
	members = members[start:]
	if len(members) > limit {
		members, more = members[:limit], true
	}
	return members, more, nil
}

func decodeMembers(found []*rawMsg) ([]Member, error) {
	members := make([]Member, 0, len(found))
	for _, msg := range found {
		if msg.gone() {
			continue
		}
		m, ok := plainMember(msg.Data)
		if !ok {
			if err := decode(msg, &m); err != nil {
				return nil, err
			}
		}
		m.Revision = msg.Sequence
		members = append(members, m)
	}
	return members, nil
}

// CountMembers returns how many members a conversation has. The server counts the keys without sending them; a member whose removal
// was cut short by a crash is counted for a few seconds more.
func (s *Store) CountMembers(ctx context.Context, c subjects.Conversation) (int, error) {
	stream, pattern := subjects.BucketStream(subjects.BucketMembers), subjects.BucketSubject(subjects.BucketMembers, subjects.MembersPattern(c))
	body, err := json.Marshal(readRequest{NextFor: pattern, Seq: 1, Batch: 1})
	if err != nil {
		return 0, fmt.Errorf("write a request: %w", err)
	}
	count := 0
	err = untilHeard(ctx, func() error {
		var failure error
		request := []*nats.Msg{{Subject: subjects.DirectRead(stream), Data: body}}
		err := s.replies.gather(ctx, request, func(_ int, m *nats.Msg) bool {
			switch status := m.Header.Get("Status"); status {
			case "": // the first of them
				var left int
				left, failure = strconv.Atoi(m.Header.Get("Nats-Num-Pending"))
				count = left + 1
				return failure != nil
			case "404", "204":
				return true
			default:
				failure = statusError(status, m.Header.Get("Description"))
				return true
			}
		})
		return cmp.Or(err, failure)
	})
	if err != nil {
		return 0, fmt.Errorf("count the members of %s: %w", c, err)
	}
	return count, nil
}

// Memberships returns all conversations of a user, in ascending order of conversation: direct ones as they are listed, the others as the
// conversation's side has them now, so that what a crash left in a listing shows nothing. It sees every change that was acknowledged before.
func (s *Store) Memberships(ctx context.Context, u subjects.User) ([]Member, error) {
	listed, err := s.Listed(ctx, u)
	if err != nil {
		return nil, err
	}
	return s.Confirm(ctx, u, listed)
}

// Listed returns the conversations that a user has in a list, in ascending order of conversation: direct ones, which nobody leaves, and groups and
// channels that the user may have left, whose memberships Confirm reads. It sees every change that was acknowledged before.
func (s *Store) Listed(ctx context.Context, u subjects.User) ([]Member, error) {
	// The keys say it all, and cost a third of the records.
	listed, err := s.keys(ctx, subjects.BucketStream(subjects.BucketMembers), subjects.BucketSubject(subjects.BucketMembers, subjects.MembershipsPattern(u)))
	if err != nil {
		return nil, fmt.Errorf("read what %s has listed: %w", u, err)
	}
	members := make([]Member, len(listed))
	prefix := len(subjects.BucketSubject(subjects.BucketMembers, subjects.MembershipKey(u, "")))
	for i, subject := range listed {
		members[i] = listing(subjects.Conversation(subject[prefix:]), u)
	}
	return members, nil
}

// Confirm returns those of the listed conversations that a user is in, as Memberships does, in the same order.
func (s *Store) Confirm(ctx context.Context, u subjects.User, listed []Member) ([]Member, error) {
	var keys []string
	members := make([]Member, 0, len(listed))
	for _, m := range listed {
		if m.Conversation.Kind() == subjects.KindDirect {
			members = append(members, m)
		} else {
			keys = append(keys, m.key())
		}
	}
	if len(keys) == 0 {
		return members, nil
	}
	found, err := s.fresh(ctx, subjects.BucketMembers, keys...)
	if err != nil {
		return nil, fmt.Errorf("read the memberships of %s: %w", u, err)
	}
	others, err := decodeMembers(found)
	if err != nil {
		return nil, err
	}
	members = append(members, others...)
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Conversation, b.Conversation) })
	return members, nil
}
