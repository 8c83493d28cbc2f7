package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// listTrusted is how long what was read whole is completed by what came since, before it is read whole again: what leaves a stream without a
// successor, as by an operator's hand, is not seen before.
const listTrusted = 10 * time.Minute

// Lists reads what lists of conversations say: their heads, who has which in a list, and how far somebody has read. What it has read it remembers, with
// the last sequence that the stream had then; later reads ask the store for what has come since, so nothing in an answer is older than the call. It is
// safe for concurrent use.
type Lists struct {
	s      *Store
	heads  headRounds
	listed shelves[struct{}]
	marks  shelves[Cursor]
	titles titles
}

// NewLists returns a Lists over a store that remembers up to about so many bytes; 0 or less = none.
func NewLists(s *Store, bytes int) *Lists {
	bytes = max(bytes, 0)
	return &Lists{
		s:      s,
		heads:  newHeadRounds(s, bytes/2),
		titles: titles{s: s, known: newLRU[subjects.Conversation, *titleMemo](bytes / 8)},
		listed: shelves[struct{}]{s: s, bucket: subjects.BucketMembers, known: newLRU[subjects.User, *shelf[struct{}]](bytes / 8),
			read: func(*rawMsg) (struct{}, error) { return struct{}{}, nil }},
		marks: shelves[Cursor]{s: s, bucket: subjects.BucketCursors, known: newLRU[subjects.User, *shelf[Cursor]](bytes / 4),
			read: func(m *rawMsg) (c Cursor, err error) { return c, decode(m, &c) }},
	}
}

// Listed returns what Store.Listed does, mostly without what the user has left.
func (l *Lists) Listed(ctx context.Context, u subjects.User) ([]Member, error) {
	kept, err := l.listed.of(ctx, u)
	if errors.Is(err, ErrTooMany) {
		return l.s.Listed(ctx, u)
	}
	if err != nil {
		return nil, fmt.Errorf("read what %s has listed: %w", u, err)
	}
	members := make([]Member, len(kept))
	for i := range kept {
		members[i] = listing(kept[i].conversation, u)
	}
	return members, nil
}

// Marks are the marks of a user.
type Marks struct{ sorted []kept[Cursor] }

// Of returns the marks in a conversation, or the zero Cursor.
func (m Marks) Of(c subjects.Conversation) Cursor {
	if i, found := slices.BinarySearchFunc(m.sorted, c, kept[Cursor].compare); found {
		return m.sorted[i].value
	}
	return Cursor{}
}

// Marks returns the marks of a user, in the given conversations at least. It sees every change that was acknowledged before.
func (l *Lists) Marks(ctx context.Context, u subjects.User, conversations []subjects.Conversation) (Marks, error) {
	sorted, err := l.marks.of(ctx, u)
	if errors.Is(err, ErrTooMany) {
		cursors, err := l.s.Cursors(ctx, u, conversations)
		var m Marks
		for c, cursor := range cursors {
			m.sorted = append(m.sorted, kept[Cursor]{c, cursor})
		}
		slices.SortFunc(m.sorted, func(a, b kept[Cursor]) int { return cmp.Compare(a.conversation, b.conversation) })
		return m, err
	}
	if err != nil {
		return Marks{}, fmt.Errorf("read the cursors of %s: %w", u, err)
	}
	return Marks{sorted}, nil
}

// shelves remembers the records of a bucket that stand under a user and a conversation, by user.
type shelves[V any] struct {
	s      *Store
	bucket string
	read   func(*rawMsg) (V, error)
	known  *lru[subjects.User, *shelf[V]]
}

// shelf is all records of one user as of a sequence of the bucket. It does not change.
type shelf[V any] struct {
	sorted []kept[V]
	asOf   uint64
	whole  time.Time // when all were read
}

type kept[V any] struct {
	conversation subjects.Conversation
	value        V
}

func (k kept[V]) compare(c subjects.Conversation) int { return cmp.Compare(k.conversation, c) }

// of returns the records of a user in ascending order of conversation, which must not be changed, or ErrTooMany for more than 1,024. It sees every
// change that was acknowledged before, as fresh does.
func (s *shelves[V]) of(ctx context.Context, u subjects.User) ([]kept[V], error) {
	all, err := s.ofMany(ctx, []subjects.User{u})
	return all[u], err
}

// follow returns a shelf with what was stored since; prefix is how long the subjects are before the conversation.
func (s *shelves[V]) follow(before *shelf[V], found []*rawMsg, prefix int) (*shelf[V], error) {
	next := &shelf[V]{sorted: before.sorted, asOf: before.asOf, whole: before.whole}
	if len(found) == 0 {
		return next, nil
	}
	slices.SortFunc(found, func(a, b *rawMsg) int { return cmp.Compare(a.Subject, b.Subject) })
	next.sorted = make([]kept[V], 0, len(before.sorted)+len(found))
	old := before.sorted
	for _, msg := range found {
		c := subjects.Conversation(msg.Subject[prefix:])
		for len(old) > 0 && old[0].conversation < c {
			next.sorted, old = append(next.sorted, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].conversation == c {
			old = old[1:]
		}
		if msg.gone() {
			continue
		}
		value, err := s.read(msg)
		if err != nil {
			return nil, err
		}
		next.sorted = append(next.sorted, kept[V]{c, value})
	}
	next.sorted = append(next.sorted, old...)
	return next, nil
}

// cost returns about how many bytes a shelf takes.
func (s *shelf[V]) cost() int {
	return 256 + 128*len(s.sorted)
}

// listing is a conversation as it stands in a user's list.
func listing(c subjects.Conversation, u subjects.User) Member {
	m := Member{Conversation: c, User: u}
	if c.Kind() == subjects.KindDirect {
		m.Role, m.JoinedSeq = wire.RoleMember, 1
	}
	return m
}
