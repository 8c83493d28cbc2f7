package jetstream_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

func TestDeclareIsRepeatableAndConcurrent(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	began := time.Now()
	store := server.StoreOn(t, nc)
	t.Logf("declared again and opened in %v", time.Since(began))
	server.Restart(t)
	server.StoreOn(t, server.Connect(t))
	if got := store.Dedupe(); got != jetstream.DefaultDedupe {
		t.Errorf("dedupe is %v, want %v", got, jetstream.DefaultDedupe)
	}
}

func TestAssetsAreFitForAnOperator(t *testing.T) {
	server := jetstreamtest.Start(t)
	server.Store(t)
	js, err := natsjs.New(server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, asset := range jetstream.Assets() {
		if len(asset.Description) == 0 || len(asset.Description) > 40 {
			t.Errorf("%s: the description %q must have 1 to 40 characters", asset.Stream, asset.Description)
		}
		stream, err := js.Stream(t.Context(), asset.Stream)
		if err != nil {
			t.Fatalf("%s: %v", asset.Stream, err)
		}
		config := stream.CachedInfo().Config
		if config.Description != asset.Description || config.Metadata["confab.view"] != asset.View || !strings.HasPrefix(asset.View, "nats ") {
			t.Errorf("%s: the server shows %q, %q", asset.Stream, config.Description, config.Metadata["confab.view"])
		}
		if asset.Bucket != "" {
			if _, err := js.KeyValue(t.Context(), asset.Bucket); err != nil {
				t.Errorf("%s is no bucket to the client library: %v", asset.Bucket, err)
			}
		}
		for _, subject := range config.Subjects {
			if strings.HasPrefix(subject, "im.rpc") || subject == ">" {
				t.Errorf("%s captures %s, and would answer calls", asset.Stream, subject)
			}
		}
	}
}

func TestKeepMakesWhatARestartLost(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- jetstream.Keep(ctx, nc, jetstream.Profile{}, func(error) {}) }()
	store, err := jetstream.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	server.Restart(t)
	eventually(t, "the presence bucket after a restart", func() bool {
		_, err := store.PresenceRecords(t.Context(), []subjects.User{"ada"})
		return err == nil
	})
	cancel()
	if err := <-kept; err != nil {
		t.Errorf("at its end: %v", err)
	}
}

// Nobody declares again while programs run on a server of its own, so what a restart of it takes away would be gone for good.
func TestPresenceOutlivesItsServer(t *testing.T) {
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	server.Restart(t)
	eventually(t, "the presence bucket after a restart", func() bool {
		_, err := store.PresenceRecords(t.Context(), []subjects.User{"ada"})
		return err == nil
	})
}

// An earlier release kept presence in memory: that bucket is used while it is there, and made anew where it has to become another.
func TestPresenceOfAnEarlierReleaseIsTakenOver(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	name := subjects.BucketStream(subjects.BucketPresence)
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{
		Name: name, Subjects: []string{subjects.BucketSubject(subjects.BucketPresence, ">")}, Storage: natsjs.MemoryStorage, MaxMsgsPerSubject: 1, MaxMsgSize: 1 << 10, Duplicates: time.Minute, AllowMsgTTL: true, AllowRollup: true,
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.Storage != natsjs.MemoryStorage || c.RePublish == nil {
		t.Errorf("the bucket is %+v", c)
	}
}

// A seq would be given twice if the newest entry of a conversation could vanish.
func TestMessagesAreNeverDiscarded(t *testing.T) {
	server := jetstreamtest.Start(t)
	server.Store(t)
	js, err := natsjs.New(server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for p := range subjects.Partitions {
		stream, err := js.Stream(t.Context(), subjects.MessagesStream(p))
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		if c.MaxAge != 0 || c.AllowMsgTTL || c.AllowRollup || c.Discard != natsjs.DiscardNew || c.MaxMsgsPerSubject > 0 || c.PersistMode != natsjs.DefaultPersistMode {
			t.Errorf("%s may lose entries: %+v", c.Name, c)
		}
		if c.DenyDelete || c.DenyPurge || !c.AllowDirect || c.Compression != natsjs.NoCompression || c.Storage != natsjs.FileStorage {
			t.Errorf("%s cannot do its work: %+v", c.Name, c)
		}
	}
}

func TestDeclareGrowsAndRefusesToShrink(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	declare := func(p jetstream.Profile) error { return jetstream.Declare(t.Context(), nc, p) }
	small := jetstream.Profile{MaxBytes: 1 << 20, Dedupe: time.Minute}
	large := jetstream.Profile{MaxBytes: 2 << 20, Dedupe: 3 * time.Minute}
	for _, p := range []jetstream.Profile{small, large, {Dedupe: 3 * time.Minute}} {
		if err := declare(p); err != nil {
			t.Fatalf("grow to %+v: %v", p, err)
		}
	}
	for what, p := range map[string]jetstream.Profile{
		"max bytes":     large,
		"dedupe window": {Dedupe: 2 * time.Minute},
	} {
		err := declare(p)
		if !errors.Is(err, jetstream.ErrShrink) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "IM_MESSAGES_00") {
			t.Errorf("shrink %s: %v", what, err)
		}
	}
	store, err := jetstream.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if got := store.Dedupe(); got != 3*time.Minute {
		t.Errorf("after refusals the dedupe window is %v", got)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a longer history of a bucket is kept", func(t *testing.T) {
		changeStream(t, js, "KV_IM_USERS", func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 5 })
		if err := declare(jetstream.Profile{Dedupe: 3 * time.Minute}); !errors.Is(err, jetstream.ErrShrink) || !strings.Contains(err.Error(), "history is 5") {
			t.Errorf("shrink the history: %v", err)
		}
		changeStream(t, js, "KV_IM_USERS", func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 1 })
	})
	t.Run("an operator's metadata stays", func(t *testing.T) {
		changeStream(t, js, "KV_IM_USERS", func(c *natsjs.StreamConfig) { c.Metadata["owner"] = "ops"; c.Description = "old" })
		if err := declare(jetstream.Profile{Dedupe: 3 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), "KV_IM_USERS")
		if err != nil {
			t.Fatal(err)
		}
		if c := stream.CachedInfo().Config; c.Metadata["owner"] != "ops" || c.Description == "old" {
			t.Errorf("after an update: %+v", c)
		}
	})
	t.Run("more replicas than servers is an error that says so", func(t *testing.T) {
		if err := declare(jetstream.Profile{Replicas: 3, Dedupe: 3 * time.Minute}); err == nil || !strings.Contains(err.Error(), "replicas") {
			t.Errorf("three replicas on one server: %v", err)
		}
	})
}

// TestWhatWasCompressedIsReadOn: blocks that an earlier release compressed are read beside those that are kept as they are, before and after a start.
func TestWhatWasCompressedIsReadOn(t *testing.T) {
	const c, megabyte = "d.ada.bob", 1 << 20
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	store := server.StoreOn(t, nc)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream := subjects.MessagesStream(subjects.Conversation(c).Partition())
	changeStream(t, js, stream, func(c *natsjs.StreamConfig) { c.Compression = natsjs.S2Compression })
	text := strings.Repeat("as long as a message may be ", 1500)
	want := 0
	fill := func() { // more than one block of 8 MiB
		for size := 0; size < 9*megabyte; size += len(text) {
			want = int(jetstreamtest.Say(t, store, c, "ada", text).Seq)
		}
	}
	fill()
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	if s, err := js.Stream(t.Context(), stream); err != nil || s.CachedInfo().Config.Compression != natsjs.NoCompression {
		t.Fatalf("the stream is compressed still, or %v", err)
	}
	fill()
	if got := len(jetstreamtest.Entries(t, store, c)); got != want {
		t.Errorf("%d entries of %d are read", got, want)
	}
	server.Restart(t)
	if got := len(jetstreamtest.Entries(t, server.StoreOn(t, server.Connect(t)), c)); got != want {
		t.Errorf("%d entries of %d are read after a start", got, want)
	}
}

func changeStream(t *testing.T, js natsjs.JetStream, name string, change func(*natsjs.StreamConfig)) {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	change(&config)
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

func TestLayoutsOfOtherReleases(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	open := func(wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		store, err := jetstream.Open(ctx, nc)
		if err == nil {
			store.Close()
		}
		return err
	}
	if err := open(200 * time.Millisecond); !errors.Is(err, jetstream.ErrNotDeclared) {
		t.Fatalf("open before declare: %v", err)
	}
	opened := make(chan error, 1)
	go func() { opened <- open(10 * time.Second) }()
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatalf("open while somebody declares: %v", err)
	}
	for layout, want := range map[string]error{
		`{"layout":2,"partitions":16}`: jetstream.ErrNewerLayout,
		`{"layout":1,"partitions":32}`: jetstream.ErrNewerLayout,
		`{"layout":0,"partitions":16}`: jetstream.ErrNotDeclared,
	} {
		if _, err := nc.Request("$KV.IM_CONFIG.layout", []byte(layout), time.Second); err != nil {
			t.Fatal(err)
		}
		if err := open(200 * time.Millisecond); !errors.Is(err, want) {
			t.Errorf("open with %s: %v", layout, err)
		}
		if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); errors.Is(want, jetstream.ErrNewerLayout) != errors.Is(err, jetstream.ErrNewerLayout) {
			t.Errorf("declare with %s: %v", layout, err)
		}
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	changeStream(t, js, "IM_JOBS", func(c *natsjs.StreamConfig) { c.Metadata["confab.layout"] = "2" })
	if _, err := nc.Request("$KV.IM_CONFIG.layout", []byte(`{"layout":1,"partitions":16}`), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); !errors.Is(err, jetstream.ErrNewerLayout) || !strings.Contains(err.Error(), "IM_JOBS") {
		t.Errorf("declare over a stream of a newer release: %v", err)
	}
}

func TestProfilesOutOfBounds(t *testing.T) {
	for name, p := range map[string]jetstream.Profile{
		"six replicas":           {Replicas: 6},
		"negative replicas":      {Replicas: -1},
		"negative bytes":         {MaxBytes: -1},
		"a window over the top":  {Dedupe: time.Hour},
		"a window below a blink": {Dedupe: time.Millisecond},
	} {
		if err := p.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDeclareRefusesAStreamThatCapturesCalls(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name, captured := range map[string]string{
		"SPY_ALL": subjects.AllRPC, "SPY_ONE": subjects.RPC("history", "page"), "SPY_METHOD": "im.*.*.page", "SPY_IM": "im.>",
	} {
		t.Run(name, func(t *testing.T) {
			spy, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: name, Subjects: []string{captured}, Storage: natsjs.MemoryStorage})
			if err != nil {
				t.Fatal(err)
			}
			if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); !errors.Is(err, jetstream.ErrOverlap) || !strings.Contains(err.Error(), name) {
				t.Errorf("Declare returned %v", err)
			}
			if err := js.DeleteStream(t.Context(), spy.CachedInfo().Config.Name); err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
		t.Errorf("beside a stream of something else: %v", err)
	}
}
