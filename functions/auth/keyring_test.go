package auth

import (
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

func TestKeysSucceedEachOther(t *testing.T) {
	const keyTTL, maxLife = 30 * 24 * time.Hour, 20 * 24 * time.Hour
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, due := successor(nil, now, keyTTL)
	if !due || first.ID != "k1" || !first.Created.Equal(now) || len(first.Private) != 32 {
		t.Fatalf("the first key: %+v", first)
	}
	keys := []jetstream.SigningKey{first}
	if _, due := successor(keys, now.Add(keyTTL-1), keyTTL); due {
		t.Error("a young key is replaced")
	}
	now = now.Add(keyTTL)
	second, due := successor(keys, now, keyTTL)
	if !due || second.ID != "k2" || !second.Created.Equal(now.Add(keyLead)) {
		t.Fatalf("the successor: %+v", second)
	}
	keys = append(keys, second)
	if _, due := successor(keys, now, keyTTL); due {
		t.Error("a successor that waits for its time is replaced")
	}
	if third, due := successor([]jetstream.SigningKey{second, first}, now.Add(2*keyTTL), keyTTL); !due || third.ID != "k3" {
		t.Errorf("with clocks that differ: %+v", third)
	}
	if n := outlived(keys, now.Add(keyLead+maxLife), maxLife); n != 0 {
		t.Error("a key is dropped while its tokens live")
	}
	if n := outlived(keys, now.Add(keyLead+maxLife+leeway+1), maxLife); n != 1 {
		t.Error("a key stays when its tokens are gone")
	}
}

func TestKeyringSignsWithTheNewestKeyInForce(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k := &keyring{now: func() time.Time { return now }}
	key := func(id string, from time.Time) jetstream.SigningKey {
		return jetstream.SigningKey{ID: id, Algorithm: algorithm, Private: make([]byte, 32), Created: wire.At(from)}
	}
	k.keep([]jetstream.SigningKey{key("k1", now.Add(-time.Hour)), key("k2", now.Add(keyLead)), {ID: "k3", Algorithm: "other", Created: wire.At(now)}})
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, "k1"}, {keyLead - 1, "k1"}, {1, "k2"}} {
		now = now.Add(step.wait)
		if got, ok := k.current(); !ok || got.id != step.want {
			t.Errorf("after %v: %s, want %s", step.wait, got.id, step.want)
		}
	}
	k.keep([]jetstream.SigningKey{key("ahead", now.Add(time.Second))})
	if got, ok := k.current(); !ok || got.id != "ahead" {
		t.Error("a first key of a clock that is ahead is not used")
	}
}
