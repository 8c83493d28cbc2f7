package jetstream_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// heap returns the bytes in use once nothing more becomes free: blocks that the server keeps in memory for a while have to go first.
func heap() (least uint64) {
	for last := time.Now(); time.Since(last) < 12*time.Second; time.Sleep(time.Second) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if least == 0 || m.HeapAlloc < least-least/200 {
			least, last = m.HeapAlloc, time.Now()
		}
	}
	return least
}

// BenchmarkMemory reports how much memory the server keeps for each direct conversation, by what is stored of it. It takes a minute whatever is asked.
func BenchmarkMemory(b *testing.B) {
	const conversations = 200_000
	server := jetstreamtest.Start(b)
	nc := server.Connect(b)
	if err := jetstream.Declare(b.Context(), nc, jetstream.Profile{Dedupe: 100 * time.Millisecond}); err != nil {
		b.Fatal(err)
	}
	s, err := jetstream.Open(b.Context(), nc)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	conversation := func(i int) (c subjects.Conversation, u, v subjects.User) {
		u, v = subjects.User(fmt.Sprintf("user-%07d", i)), subjects.User(fmt.Sprintf("user-%07d", i+1))
		return subjects.Conversation(fmt.Sprintf("d.%s.%s", u, v)), u, v
	}
	before := heap()
	for _, kind := range []struct {
		name    string
		records func(i int) []*nats.Msg
	}{
		{"log", func(i int) []*nats.Msg {
			c, u, _ := conversation(i)
			first, err := s.First(c, message(u, "hello"))
			if err != nil {
				b.Fatal(err)
			}
			return []*nats.Msg{first}
		}},
		{"listings", func(i int) []*nats.Msg {
			c, u, v := conversation(i)
			return []*nats.Msg{record(subjects.BucketMembers, subjects.MembershipKey(u, c)), record(subjects.BucketMembers, subjects.MembershipKey(v, c))}
		}},
		{"cursors", func(i int) []*nats.Msg {
			c, u, v := conversation(i)
			return []*nats.Msg{record(subjects.BucketCursors, subjects.CursorKey(u, c)), record(subjects.BucketCursors, subjects.CursorKey(v, c))}
		}},
	} {
		var batch []*nats.Msg
		for i := range conversations {
			if batch = append(batch, kind.records(i)...); len(batch) >= 500 || i == conversations-1 {
				if err := jetstream.PublishAll(s, b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				batch = nil
			}
		}
		after := heap()
		b.ReportMetric(float64(int64(after-before))/conversations, kind.name+"-B/conversation")
		before = after
	}
	b.ReportMetric(0, "ns/op")
}

func record(bucket, key string) *nats.Msg {
	return &nats.Msg{Subject: subjects.BucketSubject(bucket, key), Data: []byte(`{"read":{"seq":1,"count":1}}`)}
}
