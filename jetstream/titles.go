package jetstream

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
)

// titles remembers the titles of groups and channels, whose records are written over and stay.
type titles struct {
	s     *Store
	mu    sync.Mutex // guards the memos
	known *lru[subjects.Conversation, *titleMemo]
}

// titleMemo is a title as of a sequence of the bucket.
type titleMemo struct {
	title string
	asOf  uint64
	whole time.Time // when it was read without regard to what was known
}

// Titles returns the titles of those of the given conversations that have a record, from any replica, as Store.Conversations does.
func (l *Lists) Titles(ctx context.Context, ids []subjects.Conversation) (map[subjects.Conversation]string, error) {
	t, now := &l.titles, time.Now()
	of, unknown, since := t.recall(ids, now)
	if len(of) > 0 {
		moved, upTo, err := t.read(ctx, ids, since)
		switch {
		case err != nil:
			return nil, err
		case upTo < since && t.s.layout.Replicas <= 1: // another bucket than before
			for _, c := range ids {
				t.known.drop(c)
			}
			clear(of)
			unknown = ids
		default:
			maps.Copy(of, moved) // and some of those that are read whole, which does no harm
			t.remember(of, upTo, time.Time{})
		}
	}
	if len(unknown) > 0 {
		whole, upTo, err := t.read(ctx, unknown, 0)
		if err != nil {
			return nil, err
		}
		t.remember(whole, upTo, now)
		maps.Copy(of, whole)
	}
	return of, nil
}

// recall returns the titles that are known, with the sequence as of which all of them are, and whose are not.
func (t *titles) recall(ids []subjects.Conversation, now time.Time) (of map[subjects.Conversation]string, unknown []subjects.Conversation, since uint64) {
	of = make(map[subjects.Conversation]string, len(ids))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range ids {
		memo, known := t.known.get(c)
		if !known || now.Sub(memo.whole) >= listTrusted {
			unknown = append(unknown, c)
			continue
		}
		of[c] = memo.title
		if since == 0 || memo.asOf < since {
			since = memo.asOf
		}
	}
	return of, unknown, since
}

// read reads the titles that were written behind a sequence, and up to where that holds.
func (t *titles) read(ctx context.Context, ids []subjects.Conversation, since uint64) (map[subjects.Conversation]string, uint64, error) {
	keys := make([]string, len(ids))
	for i, c := range ids {
		keys[i] = subjects.ConversationKey(c)
	}
	found, upTo, err := t.s.multiLastSince(ctx, subjects.BucketStream(subjects.BucketConversations), bucketSubjects(subjects.BucketConversations, keys), since)
	if err != nil {
		return nil, 0, fmt.Errorf("read %d titles: %w", len(ids), err)
	}
	of := make(map[subjects.Conversation]string, len(found))
	for _, msg := range found {
		if msg.gone() {
			continue
		}
		var c Conversation
		if err := decode(msg, &c); err != nil {
			return nil, 0, err
		}
		of[c.Conversation] = c.Title
	}
	return of, upTo, nil
}

// remember notes titles as of a sequence; a zero time stands for those that were completed only.
func (t *titles) remember(of map[subjects.Conversation]string, upTo uint64, whole time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, title := range of {
		memo, known := t.known.get(c)
		switch {
		case known && (memo.asOf > upTo || memo.asOf == upTo && whole.IsZero()):
		case known && whole.IsZero() && memo.title == title:
			memo.asOf = upTo
		case !known && whole.IsZero(): // of one that is read whole now, or was forgotten meanwhile
		default:
			next := &titleMemo{title: title, asOf: upTo, whole: whole}
			if whole.IsZero() {
				next.whole = memo.whole
			}
			t.known.put(c, next, 256+len(c)+len(title))
		}
	}
}
