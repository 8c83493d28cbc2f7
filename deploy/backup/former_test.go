package backup_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/backup"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestMarksThatStandTwiceAreRestoredOnce restores a copy of a store of an earlier build, which was copied while the two directions of a mark were written.
func TestMarksThatStandTwiceAreRestoredOnce(t *testing.T) {
	t.Parallel()
	server, s, rooms := source(t)
	nc := server.Connect(t)
	ctx := t.Context()
	room := rooms[0]
	tail, err := s.Tail(ctx, room)
	if err != nil {
		t.Fatal(err)
	}
	put := func(bucket, key, value string) {
		t.Helper()
		answer, err := nc.RequestMsg(&nats.Msg{Subject: subjects.BucketSubject(bucket, key), Data: []byte(value)}, 10*time.Second)
		if err != nil || answer.Header.Get("Status") != "" {
			t.Fatalf("%+v, %v", answer, err)
		}
	}
	for key, mark := range map[string]string{
		"c." + string(room) + ".ada": `{"read":{"seq":1,"count":0}}`, // behind, which an earlier build never left
		"u.ada." + string(room):      `{"read":{"seq":3,"count":1}}`,
		"c." + string(room) + ".bob": `{"read":{"seq":4,"count":2},"delivered":4}`, // written, and the other one not yet
		"u.bob." + string(room):      `{"read":{"seq":3,"count":1},"delivered":3}`,
		"c." + string(room) + ".cyd": `{"read":{"seq":4,"count":2}}`,
		"c." + string(room) + ".eve": `{"read":{"seq":900000,"count":900000}}`,
	} {
		put(subjects.BucketCursors, key, mark)
	}
	put(subjects.BucketConfig, subjects.LayoutKey, `{"layout":1,"partitions":16,"replicas":1,"dedupe_ms":120000}`)
	name, _ := take(t, nc, nil)
	restored, mended := restore(t, name, jetstreamtest.Start(t), backup.RestoreOptions{})
	sound(t, restored)
	readers, err := restored.Readers(ctx, room, []subjects.User{"ada", "bob", "cyd", "eve"})
	if err != nil {
		t.Fatal(err)
	}
	for u, want := range map[subjects.User]jetstream.Cursor{
		"ada": {Read: wire.Mark{Seq: 3, Count: 1}},
		"bob": {Read: wire.Mark{Seq: 4, Count: 2}, Delivered: 4},
		"cyd": {Read: wire.Mark{Seq: 4, Count: 2}},
		"eve": {Read: tail.Mark()},
	} {
		if readers[u] != want {
			t.Errorf("%s has read %+v, want %+v", u, readers[u], want)
		}
	}
	if mended.Marks != 3 {
		t.Errorf("%d marks were mended, want those of bob, cyd and eve", mended.Marks)
	}
	seen := map[string]bool{}
	_, err = restored.Scan(ctx, subjects.BucketStream(subjects.BucketCursors), 0, func(m jetstream.Stored) error {
		key := strings.TrimPrefix(m.Subject, subjects.BucketSubject(subjects.BucketCursors, ""))
		if _, _, fromUser, err := subjects.ParsePairKey(key); err != nil || !fromUser || seen[key] {
			t.Errorf("%s is there, or there twice: %v", key, err)
		}
		seen[key] = true
		return nil
	})
	if err != nil || len(seen) < 4 {
		t.Errorf("%d marks, %v", len(seen), err)
	}
}
