package jetstream_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestASeededStoreIsOneThatPeopleMade(t *testing.T) {
	ctx := t.Context()
	s := jetstreamtest.Start(t).Store(t)
	var seeds []jetstream.Seed
	for i := range 40 {
		c, err := subjects.Direct("ada", subjects.User(fmt.Sprintf("bob-%02d", i)))
		if err != nil {
			t.Fatal(err)
		}
		seed := jetstream.Seed{Conversation: c, Readers: []subjects.User{"ada"}}
		for n := range 1 + i%3*40 { // more than a page of some
			seed.Messages = append(seed.Messages, message([]subjects.User{"ada", subjects.User(fmt.Sprintf("bob-%02d", i))}[n%2], "hello"))
		}
		seeds = append(seeds, seed)
	}
	if err := s.Seed(ctx, seeds); err != nil {
		t.Fatal(err)
	}
	for _, seed := range seeds[:3] { // goes on as after any entry
		tail, err := s.Tail(ctx, seed.Conversation)
		if err != nil || tail.Seq != wire.Seq(len(seed.Messages)) {
			t.Fatalf("the tail of %s is %d, %v", seed.Conversation, tail.Seq, err)
		}
		if _, err := s.Append(ctx, seed.Conversation, tail, message("ada", "more")); err != nil {
			t.Fatal(err)
		}
	}
	audit, err := s.Verify(ctx, jetstream.VerifyOptions{})
	if err != nil || audit.Defects+audit.Unfinished > 0 {
		t.Fatalf("%+v, %v", audit, err)
	}
	if audit.Conversations != 40 || audit.Memberships != 80 || audit.Marks != 40 {
		t.Errorf("%d conversations, %d memberships, %d marks", audit.Conversations, audit.Memberships, audit.Marks)
	}
	listed, err := s.Memberships(ctx, "ada")
	if err != nil || len(listed) != 40 {
		t.Errorf("ada has %d conversations, %v", len(listed), err)
	}
	if err := s.Seed(ctx, seeds[:1]); !errors.Is(err, jetstream.ErrTailMoved) {
		t.Errorf("a conversation that was seeded is seeded again: %v", err)
	}
}
