package jetstream_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestTheTailOfAPartitionWhoseLastMessageWasErased is that of the message before.
func TestTheTailOfAPartitionWhoseLastMessageWasErased(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	fill(t, s, 5, 10)
	for left := uint64(4); ; left-- {
		if err := jetstream.Erase(s, t.Context(), subjects.StreamOf(room), left+1); err != nil {
			t.Fatal(err)
		}
		tails, err := s.Tails(t.Context())
		if err != nil || tails[room.Partition()] != left || slices.Max(tails) != left {
			t.Fatalf("with %d of 5 messages the tails are %v, %v", left, tails, err)
		}
		if left == 0 {
			return
		}
	}
}

func TestHeadsOfManyConversations(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	before, err := s.Tails(t.Context())
	if err != nil || len(before) != subjects.Partitions || slices.Max(before) != 0 {
		t.Fatalf("the tails of an empty store are %v, %v", before, err)
	}
	asked := []subjects.Conversation{"g.nobody", "g.c0", "g.c0"}
	for i := range 60 {
		c := subjects.Conversation(fmt.Sprint("g.c", i))
		asked = append(asked, c)
		w := newWriter(t, s, c)
		for n := range 1 + i%3 {
			w.post("ada", fmt.Sprint(n))
		}
	}
	lists := jetstream.NewLists(s, 1<<20)
	heads, err := lists.Heads(t.Context(), asked)
	if err != nil || len(heads) != 63 || heads[0] != nil || heads[1] != heads[2] {
		t.Fatalf("%d heads, %v", len(heads), err)
	}
	for i := range 60 {
		c := subjects.Conversation(fmt.Sprint("g.c", i))
		tail, err := s.Tail(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if head := heads[3+i]; head.Seq != wire.Seq(1+i%3) || !reflect.DeepEqual(head, tail.Head()) {
			t.Errorf("the head of %s is %+v, its tail %+v", c, head, tail)
		}
	}
	after, err := s.Tails(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for p, seq := range after {
		total := 0
		for i := range 60 {
			if subjects.Conversation(fmt.Sprint("g.c", i)).Partition() == p {
				total += 1 + i%3
			}
		}
		if int(seq) != total {
			t.Errorf("the tail of partition %d is %d, want %d", p, seq, total)
		}
	}
	if heads, err := lists.Heads(t.Context(), nil); err != nil || len(heads) != 0 {
		t.Errorf("the heads of nothing are %v, %v", heads, err)
	}
}
