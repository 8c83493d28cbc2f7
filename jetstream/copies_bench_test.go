package jetstream_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/backup"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// large is a store of many entries: one conversation in each partition, so that all streams are of one size.
func large(b *testing.B, s *jetstream.Store, entries int) []subjects.Conversation {
	b.Helper()
	var rooms []subjects.Conversation
	for i := 0; len(rooms) < subjects.Partitions; i++ {
		c := subjects.Conversation(fmt.Sprint("g.large-", i))
		if !slices.ContainsFunc(rooms, func(other subjects.Conversation) bool { return other.Partition() == c.Partition() }) {
			rooms = append(rooms, c)
		}
	}
	drafts := make([]jetstream.Draft, entries/len(rooms))
	for i := range drafts {
		drafts[i] = message([]subjects.User{"ada", "bob", "cyd"}[i%3], fmt.Sprint("what somebody says in a line of a usual length, number ", i))
	}
	for _, c := range rooms {
		if _, err := s.CreateConversation(b.Context(), jetstream.Conversation{Conversation: c, Kind: c.Kind()}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.AppendAll(b.Context(), c, jetstream.Tail{}, drafts); err != nil {
			b.Fatal(err)
		}
	}
	return rooms
}

// pace posts in one conversation, one after the other, until stop is called, which returns the median of the times.
func pace(b *testing.B, s *jetstream.Store, c subjects.Conversation) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var times []time.Duration
	tail, err := s.Tail(ctx, c)
	if err != nil {
		b.Fatal(err)
	}
	all.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			done, err := s.Append(context.Background(), c, tail, message("ada", "meanwhile"))
			if err != nil {
				b.Error(err)
				return
			}
			tail = done.Tail
			times = append(times, time.Since(began))
			time.Sleep(time.Millisecond)
		}
	})
	return func() time.Duration {
		cancel()
		all.Wait()
		slices.Sort(times)
		return times[len(times)/2]
	}
}

// BenchmarkAMillionEntries backs up, restores and verifies a store of a million entries, and says what somebody who posts meanwhile notices.
func BenchmarkAMillionEntries(b *testing.B) {
	const entries = 1_000_000
	server := jetstreamtest.Start(b)
	s, nc := server.Store(b), server.Connect(b)
	reader := server.StoreOn(b, nc) // of another program than who posts
	rooms := large(b, s, entries)
	for b.Loop() {
		stop := pace(b, s, rooms[0])
		time.Sleep(2 * time.Second)
		calm := stop()
		name := filepath.Join(b.TempDir(), "backup")
		stop = pace(b, s, rooms[0])
		began := time.Now()
		if _, err := backup.Take(b.Context(), nc, name, backup.Options{}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/backup")
		b.ReportMetric(float64(stop())/float64(calm), "p50-ratio/backup")
		info, err := os.Stat(name)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/(1<<20), "MiB/backup")
		stop = pace(b, s, rooms[0])
		began = time.Now()
		audit, err := reader.Verify(b.Context(), jetstream.VerifyOptions{})
		if err != nil || audit.Entries < entries {
			b.Fatal(audit, err)
		}
		b.ReportMetric(float64(audit.Entries)/time.Since(began).Seconds(), "entries/s-verify")
		b.ReportMetric(float64(stop())/float64(calm), "p50-ratio/verify")
		began = time.Now()
		file, err := backup.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := file.Restore(b.Context(), jetstreamtest.Start(b).Connect(b), backup.RestoreOptions{}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/restore")
		if err := file.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
