package jetstream_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestWhatIsRegisteredIsWrittenOnceAndRepublished(t *testing.T) {
	srv := jetstreamtest.Start(t)
	store, nc, ctx := srv.Store(t), srv.Connect(t), t.Context()
	changes, err := nc.SubscribeSync(subjects.AllRegistered)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	record := func(f subjects.Function, hold int64) wire.Registered {
		return wire.Registered{Function: f, Kind: "call", Concurrency: 1, Methods: []wire.InstanceMethod{{Name: "vote", Public: true}}, HoldMS: hold}
	}
	key := subjects.BucketSubject(subjects.BucketConfig, subjects.RegistryKey("junk"))
	if _, err := nc.Request(key, []byte(`{`), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, r := range []wire.Registered{record("poll", 1), record("poll", 1), record("junk", 2), record("echo", 3), record("poll", 4)} {
		if err := store.Register(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	// At once from several deployers: each succeeds.
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := store.Register(ctx, record("echo", int64(i%2))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := store.Register(ctx, record("echo", 3)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.Unregister(ctx, "junk"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := store.Registered(ctx)
	if got := fmt.Sprint(all); err != nil || got != fmt.Sprint([]wire.Registered{record("echo", 3), record("poll", 4)}) {
		t.Errorf("registered is %s, %v", got, err)
	}
	if err := store.Register(ctx, record("junk", 5)); err != nil {
		t.Errorf("register again what was unregistered: %v", err)
	}
	if err := store.Register(ctx, record("a.b", 0)); err == nil {
		t.Error("a name of two tokens is registered")
	}
	var heard []int64
	for len(heard) == 0 || heard[len(heard)-1] != 5 {
		msg, err := changes.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var r wire.Registered
		if json.Unmarshal(msg.Data, &r) == nil && r.Function != "echo" && msg.Subject == subjects.Registered(r.Function) {
			heard = append(heard, r.HoldMS)
		}
	}
	if fmt.Sprint(heard) != fmt.Sprint([]int64{1, 2, 4, 5}) {
		t.Errorf("heard the holds %v", heard)
	}
}
