package jetstream_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func at(seq wire.Seq) jetstream.Cursor {
	return jetstream.Cursor{Read: wire.Mark{Seq: seq, Count: uint64(seq)}}
}

func TestCursorsOnlyRise(t *testing.T) {
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	ctx := t.Context()
	if got, err := store.Cursor(ctx, room, "ada"); err != nil || got.Cursor != (jetstream.Cursor{}) {
		t.Fatalf("before: %+v, %v", got, err)
	}
	delivered := jetstream.Cursor{Delivered: 9}
	both := at(5)
	both.Delivered = 9
	for i, step := range []struct{ raise, want jetstream.Cursor }{
		{at(5), at(5)}, {at(3), at(5)}, {at(5), at(5)}, {delivered, both}, {jetstream.Cursor{Delivered: 2}, both},
	} {
		if got, err := store.RaiseCursor(ctx, room, "ada", step.raise); err != nil || got != step.want {
			t.Errorf("step %d: %+v, %v", i, got, err)
		}
	}
	server.Restart(t)
	got, err := store.Cursor(ctx, room, "ada")
	if err != nil || got.Cursor != both {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	readers, err := store.Readers(ctx, room, []subjects.User{"ada", "bob"})
	if err != nil || len(readers) != 1 || readers["ada"] != both {
		t.Errorf("readers: %+v, %v", readers, err)
	}
}

func TestRacingDevicesEndAtTheHighestMarks(t *testing.T) {
	server := jetstreamtest.Start(t)
	ctx := t.Context()
	var devices sync.WaitGroup
	for range 4 {
		store := server.Store(t)
		devices.Go(func() {
			var last wire.Seq
			for _, n := range rand.Perm(40) {
				got, err := store.RaiseCursor(ctx, room, "ada", at(wire.Seq(n+1)))
				if err != nil {
					t.Error(err)
					return
				}
				if got.Read.Seq < last || got.Read.Seq < wire.Seq(n+1) {
					t.Errorf("the mark went from %d to %d", last, got.Read.Seq)
				}
				last = got.Read.Seq
			}
		})
	}
	devices.Wait()
	store := server.Store(t)
	if got, err := store.Cursor(ctx, room, "ada"); err != nil || got.Cursor != at(40) {
		t.Errorf("at the end: %+v, %v", got, err)
	}
}

func TestCursorsOfManyConversations(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	var asked []subjects.Conversation
	for i := range 50 {
		c := subjects.Conversation(fmt.Sprintf("g.c%d", i))
		asked = append(asked, c)
		if i%2 == 0 {
			if _, err := store.RaiseCursor(t.Context(), c, "ada", at(wire.Seq(i+1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	direct := subjects.Conversation("d.ada.bob")
	if _, err := store.RaiseCursor(t.Context(), direct, "ada", at(7)); err != nil {
		t.Fatal(err)
	}
	got, err := store.Cursors(t.Context(), "ada", append(asked, direct))
	if err != nil || len(got) != 26 || got["g.c48"] != at(49) || got[direct] != at(7) {
		t.Errorf("%d cursors, %v", len(got), err)
	}
	if got, err := store.Cursors(t.Context(), "bob", asked); err != nil || len(got) != 0 {
		t.Errorf("another user's: %v, %v", got, err)
	}
}
