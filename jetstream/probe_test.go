package jetstream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// TestAProbeTellsWhetherEntriesCanBeStored is about one server; a test of the whole is about a majority of several.
func TestAProbeTellsWhetherEntriesCanBeStored(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	store, nc := server.Store(t), server.Connect(t)
	probe := func(when string, want error) {
		t.Helper()
		if err := store.Probe(t.Context(), "one"); !errors.Is(err, want) {
			t.Errorf("%s: the probe says %v, want %v", when, err, want)
		}
	}
	remove := func(stream string) {
		t.Helper()
		if _, err := nc.Request("$JS.API.STREAM.DELETE."+stream, nil, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	probe("with everything", nil)
	probe("once more", nil)
	remove(subjects.BucketStream(subjects.BucketProbes))
	probe("without its bucket, as in a store of before", nil)
	for p := range subjects.Partitions/2 + 1 {
		remove(subjects.MessagesStream(p))
	}
	probe("without most streams of messages", jetstream.ErrUnavailable)
	server.Stop(t)
	probe("without a server", jetstream.ErrUnavailable)
}
