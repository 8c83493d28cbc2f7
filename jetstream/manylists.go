package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects"
)

// ListedOf returns what Listed does for each of several users, for a request or two where they have at most 1,024 conversations together. Those who have more than most are left out.
func (l *Lists) ListedOf(ctx context.Context, users []subjects.User, most int) (map[subjects.User][]Member, error) {
	listed := make(map[subjects.User][]Member, len(users))
	err := halving(users, func(users []subjects.User) error {
		all, err := l.listed.ofMany(ctx, users)
		if err != nil {
			return err
		}
		for _, u := range users {
			if kept := all[u]; len(kept) <= most {
				members := make([]Member, len(kept))
				for i := range kept {
					members[i] = listing(kept[i].conversation, u)
				}
				listed[u] = members
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what %d users have listed: %w", len(users), err)
	}
	return listed, nil
}

// MarksOf returns what Marks does for each of several users, for as few requests. Those who have more than 1,024 marks are left out.
func (l *Lists) MarksOf(ctx context.Context, users []subjects.User) (map[subjects.User]Marks, error) {
	marks := make(map[subjects.User]Marks, len(users))
	err := halving(users, func(users []subjects.User) error {
		all, err := l.marks.ofMany(ctx, users)
		if err != nil {
			return err
		}
		for _, u := range users {
			marks[u] = Marks{all[u]}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the cursors of %d users: %w", len(users), err)
	}
	return marks, nil
}

// ConfirmOf returns what Confirm does for each of several users, for one request where they have listed at most 1,024 groups and channels together.
func (s *Store) ConfirmOf(ctx context.Context, listed map[subjects.User][]Member) (map[subjects.User][]Member, error) {
	var keys []string
	confirmed := make(map[subjects.User][]Member, len(listed))
	for u, members := range listed {
		for _, m := range members {
			if m.Conversation.Kind() == subjects.KindDirect {
				confirmed[u] = append(confirmed[u], m)
			} else {
				keys = append(keys, m.key())
			}
		}
	}
	if len(keys) == 0 {
		return confirmed, nil
	}
	others, err := s.membersBy(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read the memberships of %d users: %w", len(listed), err)
	}
	for _, m := range others {
		confirmed[m.User] = append(confirmed[m.User], m)
	}
	for _, members := range confirmed {
		slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Conversation, b.Conversation) })
	}
	return confirmed, nil
}

// halving reads for all users at once, and for half of them at a time where that is too many records; a user who has too many alone is passed over.
func halving(users []subjects.User, read func([]subjects.User) error) error {
	err := read(users)
	switch {
	case !errors.Is(err, ErrTooMany):
		return err
	case len(users) == 1:
		return nil
	}
	half := len(users) / 2
	if err := halving(users[:half], read); err != nil {
		return err
	}
	return halving(users[half:], read)
}

// ofMany is of for several users at once: ErrTooMany where they have more than 1,024 records together. Those who have none may not be in what it returns.
func (s *shelves[V]) ofMany(ctx context.Context, users []subjects.User) (map[subjects.User][]kept[V], error) {
	whole, since := s.recall(users)
	all := make(map[subjects.User][]kept[V], len(users))
	for _, r := range []*shelvesRead[V]{whole, since} {
		if len(r.before) == 0 {
			continue
		}
		if err := s.complete(ctx, r, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// shelvesRead is a read of shelves, of which something is known or nothing.
type shelvesRead[V any] struct {
	before map[subjects.User]*shelf[V]
	since  uint64 // what was stored up to there is known of all
	newest uint64 // and up to here of one
}

// recall returns what is to be read whole, and what is to be completed by what came since.
func (s *shelves[V]) recall(users []subjects.User) (whole, since *shelvesRead[V]) {
	now := time.Now()
	whole, since = &shelvesRead[V]{before: map[subjects.User]*shelf[V]{}}, &shelvesRead[V]{before: map[subjects.User]*shelf[V]{}}
	for _, u := range users {
		known, ok := s.known.get(u)
		if !ok || now.Sub(known.whole) >= listTrusted {
			whole.before[u] = &shelf[V]{whole: now}
			continue
		}
		if len(since.before) == 0 || known.asOf < since.since {
			since.since = known.asOf
		}
		since.before[u], since.newest = known, max(since.newest, known.asOf)
	}
	return whole, since
}

// complete reads what was stored since, adds all that there is now to all, and remembers it.
func (s *shelves[V]) complete(ctx context.Context, r *shelvesRead[V], all map[subjects.User][]kept[V]) error {
	stream := subjects.BucketStream(s.bucket)
	names := make([]string, 0, len(r.before))
	for u := range r.before {
		names = append(names, subjects.BucketSubject(s.bucket, subjects.MembershipsPattern(u)))
	}
	var last uint64
	if !s.s.alone() {
		var err error
		if last, err = s.s.lastSequence(ctx, stream); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		found, upTo, err := s.s.multiLastSince(ctx, stream, names, r.since)
		switch {
		case err != nil:
			return err
		case upTo == 0 && last > 0: // nobody told how far the replica had come
			if found, err = s.s.eachFromLeader(ctx, stream, names); err != nil {
				return err
			}
			r.forget(time.Time{})
			return s.take(r, found, 0, all)
		case upTo == 0: // there is none
			for u := range r.before {
				s.known.drop(u)
			}
			return nil
		case upTo < last:
			if err := pause(ctx, try); err != nil {
				return err
			}
		case upTo < r.newest: // another stream than before
			r.forget(time.Now())
		default:
			return s.take(r, found, upTo, all)
		}
	}
}

// forget has everything read whole.
func (r *shelvesRead[V]) forget(now time.Time) {
	r.since, r.newest = 0, 0
	for u := range r.before {
		r.before[u] = &shelf[V]{whole: now}
	}
}

// take adds what was found to what was known before, and remembers it as of a sequence; 0 = it is not to be remembered.
func (s *shelves[V]) take(r *shelvesRead[V], found []*rawMsg, upTo uint64, all map[subjects.User][]kept[V]) error {
	prefix := len(subjects.BucketSubject(s.bucket, subjects.MembershipKey("", ""))) - 1 // before the user
	of := make(map[subjects.User][]*rawMsg, len(r.before))
	for _, msg := range found {
		u, _, _ := strings.Cut(msg.Subject[prefix:], ".")
		of[subjects.User(u)] = append(of[subjects.User(u)], msg)
	}
	for u, before := range r.before {
		next, err := s.follow(before, of[u], prefix+len(u)+1)
		if err != nil {
			return err
		}
		all[u] = next.sorted
		if upTo > 0 {
			next.asOf = upTo
			s.known.put(u, next, next.cost())
		}
	}
	return nil
}
