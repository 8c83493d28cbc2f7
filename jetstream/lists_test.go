package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// memories are Lists that remember everything, a little and nothing.
func memories(s *jetstream.Store) map[string]*jetstream.Lists {
	return map[string]*jetstream.Lists{"large": jetstream.NewLists(s, 1<<20), "small": jetstream.NewLists(s, 8<<10), "none": jetstream.NewLists(s, 0)}
}

// agree compares what lists say of a user with what the store says at rest.
func agree(t *testing.T, s *jetstream.Store, name string, l *jetstream.Lists, u subjects.User, conversations []subjects.Conversation) {
	t.Helper()
	ctx := t.Context()
	records, err := jetstream.Fresh(s, ctx, subjects.BucketMembers, subjects.MembershipsPattern(u))
	if err != nil {
		t.Fatal(err)
	}
	listed, err := l.Listed(ctx, u)
	if err != nil || len(listed) != len(records) {
		t.Fatalf("memory %s: %s has listed %v, %v, want %d", name, u, listed, err, len(records))
	}
	for i, m := range listed {
		if !strings.HasSuffix(records[i].Subject, "."+string(m.Conversation)) || m.User != u || (m.JoinedSeq == 1) != (m.Conversation.Kind() == subjects.KindDirect) {
			t.Fatalf("memory %s: %s has listed %+v, and in the store is %s", name, u, m, records[i].Subject)
		}
	}
	heads, err := l.Heads(ctx, conversations)
	if err != nil {
		t.Fatal(err)
	}
	marks, err := l.Marks(ctx, u, conversations)
	if err != nil {
		t.Fatal(err)
	}
	titles, err := l.Titles(ctx, conversations)
	if err != nil {
		t.Fatal(err)
	}
	known, err := s.Conversations(ctx, conversations)
	if err != nil || len(titles) != len(known) {
		t.Fatalf("memory %s: %d titles of %d, %v", name, len(titles), len(known), err)
	}
	for i, c := range conversations {
		if titles[c] != known[c].Title {
			t.Fatalf("memory %s: the title of %s is %q, want %q", name, c, titles[c], known[c].Title)
		}
		tail, err := s.Tail(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(heads[i], tail.Head()) {
			t.Fatalf("memory %s: the head of %s is %+v, want %+v", name, c, heads[i], tail.Head())
		}
		cursor, err := s.Cursor(ctx, c, u)
		if err != nil || marks.Of(c) != cursor.Cursor {
			t.Fatalf("memory %s: %s has read %+v of %s, want %+v, %v", name, u, marks.Of(c), c, cursor.Cursor, err)
		}
	}
}

// retitle gives a conversation a title, and a record if it has none.
func retitle(ctx context.Context, s *jetstream.Store, c subjects.Conversation, title string) error {
	record, err := s.Conversation(ctx, c)
	if errors.Is(err, jetstream.ErrNotFound) {
		_, err = s.CreateConversation(ctx, jetstream.Conversation{Conversation: c, Title: title})
		return err
	}
	if err == nil {
		record.Title = title
		_, err = s.UpdateConversation(ctx, record)
	}
	return err
}

// TestListsSayWhatTheStoreSays changes everything that lists tell of, at random, and compares after each few changes.
func TestListsSayWhatTheStoreSays(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	ctx, random := t.Context(), rand.New(rand.NewPCG(1, 2))
	lists, users := memories(s), []subjects.User{"ada", "bob"}
	var conversations []subjects.Conversation
	writers := map[subjects.Conversation]*writer{}
	for i := range 24 {
		c := subjects.Conversation(fmt.Sprint([]string{"g.", "c.", "d.ada.x", "d.bob.x"}[i%4], i))
		conversations, writers[c] = append(conversations, c), newWriter(t, s, c)
	}
	for round := range 60 {
		for range random.IntN(6) {
			c, u := conversations[random.IntN(len(conversations))], users[random.IntN(len(users))]
			var err error
			switch random.IntN(5) {
			case 4:
				err = retitle(ctx, s, c, fmt.Sprint("title ", round))
			case 0:
				writers[c].post(u, fmt.Sprint("text ", round))
			case 1:
				err = s.PutListing(ctx, jetstream.Member{Conversation: c, User: u})
			case 2:
				_, err = s.RaiseCursor(ctx, c, u, at(wire.Seq(1+random.IntN(100))))
			case 3:
				var m jetstream.Member
				if m, err = s.Member(ctx, c, u); errors.Is(err, jetstream.ErrNotFound) {
					m, err = member(c, u), nil
				}
				if err == nil && random.IntN(2) == 0 {
					err = s.RemoveMember(ctx, m)
				} else if err == nil {
					_, err = s.PutMember(ctx, m)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for name, l := range lists {
			if round%3 == 0 { // what they know of each is as of different times then
				agree(t, s, name, l, users[round%2], conversations)
			}
			agreeTogether(t, s, name, l, []subjects.User{"ada", "bob", "cyd"}, conversations, 1+round%12)
			agree(t, s, name, l, users[round%2], conversations)
		}
	}
}

// TestListsKnowWhatWasAcknowledged reads from several goroutines while others write: no answer is older than its question.
func TestListsKnowWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lists := memories(s)
	const n = 20
	var (
		conversations [n]subjects.Conversation
		acknowledged  [n]atomic.Uint64
		writing       sync.WaitGroup
		reading       sync.WaitGroup
	)
	for i := range conversations {
		conversations[i] = subjects.Conversation(fmt.Sprint("g.c", i))
	}
	for part := range 4 {
		writing.Go(func() {
			var tails [n]jetstream.Tail
			for k := range 400 {
				i := part + 4*(k%(n/4))
				done, err := s.Append(ctx, conversations[i], tails[i], message("ada", fmt.Sprint(k)))
				if err != nil {
					t.Error(err)
					return
				}
				tails[i] = done.Tail
				acknowledged[i].Store(uint64(done.Tail.Seq))
			}
		})
	}
	for reader := range 6 {
		l := lists[[]string{"large", "small", "large"}[reader%3]]
		reading.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				from := (k * 7) % n
				asked := conversations[from:min(n, from+1+k%n)]
				least := make([]wire.Seq, len(asked))
				for i := range asked {
					least[i] = wire.Seq(acknowledged[from+i].Load())
				}
				checkHeads(t, l, asked, least, k%3 == 0)
			}
		})
	}
	writing.Wait()
	cancel()
	reading.Wait()
	for name, l := range lists {
		agree(t, s, name, l, "ada", conversations[:])
	}
}

// checkHeads asks for heads and compares them with the least that they must be.
func checkHeads(t *testing.T, l *jetstream.Lists, asked []subjects.Conversation, least []wire.Seq, seqsOnly bool) {
	ctx := context.WithoutCancel(t.Context())
	var seqs []wire.Seq
	if seqsOnly {
		var err error
		if seqs, err = l.Seqs(ctx, asked); err != nil {
			t.Error(err)
			return
		}
	} else {
		heads, err := l.Heads(ctx, asked)
		if err != nil {
			t.Error(err)
			return
		}
		for i, h := range heads {
			if h == nil {
				h = &jetstream.Head{}
			} else if e := jetstreamtest.Entry(t, h.Payload); e.Seq != h.Seq || e.Conversation != asked[i] {
				t.Errorf("the head %d of %s has entry %d of %s", h.Seq, asked[i], e.Seq, e.Conversation)
			}
			seqs = append(seqs, h.Seq)
		}
	}
	for i, seq := range seqs {
		if seq < least[i] {
			t.Errorf("the head of %s is %d after %d was acknowledged", asked[i], seq, least[i])
		}
	}
}

// TestListsOfAStoreThatWasMadeAnew empties and removes what a Lists remembers.
func TestListsOfAStoreThatWasMadeAnew(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	ctx, lists := t.Context(), memories(s)
	conversations := []subjects.Conversation{"g.talk", "g.other", "d.ada.bob"}
	fill := func(posts int) {
		t.Helper()
		for _, c := range conversations {
			w := newWriter(t, s, c)
			for range posts {
				w.post("bob", "text")
			}
			if _, err := s.PutMember(ctx, member(c, "ada")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RaiseCursor(ctx, c, "ada", at(1)); err != nil {
				t.Fatal(err)
			}
			if err := retitle(ctx, s, c, fmt.Sprint("title of ", posts)); err != nil {
				t.Fatal(err)
			}
		}
		for name, l := range lists {
			agree(t, s, name, l, "ada", conversations)
		}
	}
	fill(5)
	for _, asset := range jetstream.Assets() {
		if err := jetstream.RemoveStream(ctx, s.Conn(), asset.Stream); err != nil {
			t.Fatal(err)
		}
	}
	// What was removed goes from the disk a moment later.
	eventually(t, "the new store", func() bool { return jetstream.Declare(ctx, s.Conn(), jetstream.Profile{}) == nil })
	for name, l := range lists {
		agree(t, s, name, l, "ada", conversations)
	}
	fill(2)
}

// TestListsOfVeryMany has more in a list than the server tells at once.
func TestListsOfVeryMany(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	lists := memories(s)
	var conversations []subjects.Conversation
	var members []jetstream.Member
	for i := range 1100 {
		c := subjects.Conversation(fmt.Sprintf("g.c%04d", i))
		conversations = append(conversations, c)
		members = append(members, member(c, "ada"))
	}
	if err := s.PutMembers(t.Context(), members); err != nil {
		t.Fatal(err)
	}
	newWriter(t, s, conversations[7]).post("bob", "text")
	for range 2 {
		for name, l := range lists {
			agree(t, s, name, l, "ada", conversations[:20])
			seqs, err := l.Seqs(t.Context(), conversations)
			if err != nil || seqs[7] != 1 || slices.Max(seqs) != 1 || len(seqs) != len(conversations) {
				t.Errorf("memory %s: %d seqs, %v", name, len(seqs), err)
			}
		}
	}
}
