package jetstream_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// BenchmarkBatches publishes to the sixteen streams of messages, one by one and as atomic batches of JetStream, on one server and on three, with a sync of each write
// and without: what stands in decision record 11. The publisher is part of what is measured.
func BenchmarkBatches(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		for name, options := range map[string][]jetstreamtest.Option{"synced": {jetstreamtest.Synced()}, "unsynced": nil} {
			b.Run(fmt.Sprintf("replicas=%d/%s", replicas, name), func(b *testing.B) {
				var s *jetstream.Store
				if replicas == 1 {
					s = jetstreamtest.Start(b, options...).Store(b)
				} else {
					s = cluster(b, options...)[0]
				}
				takeBatches(b, s.Conn())
				for _, flight := range []int{64, 256} {
					for _, size := range []int{1, 2, 4, 8, 16, 32} {
						b.Run(fmt.Sprintf("flight=%d/batch=%d", flight, size), func(b *testing.B) { newBatcher(b, s, size).run(flight / size) })
					}
				}
			})
		}
	}
}

// takeBatches lets the streams of messages take atomic batches.
func takeBatches(b *testing.B, nc *nats.Conn) {
	b.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	for p := range subjects.Partitions {
		stream, err := js.Stream(b.Context(), subjects.MessagesStream(p))
		if err != nil {
			b.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.AllowAtomicPublish = true
		if _, err := js.UpdateStream(b.Context(), config); err != nil {
			b.Fatal(err)
		}
	}
}

// batcher publishes batches, each to another partition than the one before.
type batcher struct {
	b     *testing.B
	nc    *nats.Conn
	size  int
	names [subjects.Partitions][]string // subjects by partition, one for each message of a batch
	data  []byte
	id    string
	last  int
}

func newBatcher(b *testing.B, s *jetstream.Store, size int) *batcher {
	t := &batcher{b: b, nc: s.Conn(), size: size, data: []byte(strings.Repeat("x", 250)), id: nats.NewInbox()}
	for i, full := 0, 0; full < len(t.names); i++ {
		c := subjects.Conversation(fmt.Sprint("g.batch-", i))
		if p := c.Partition(); len(t.names[p]) < size {
			t.names[p] = append(t.names[p], subjects.Message(c))
			if len(t.names[p]) == size {
				full++
			}
		}
	}
	return t
}

// run keeps a number of batches on their way and reports messages a second and the CPU of each.
func (t *batcher) run(flying int) {
	inbox := t.nc.NewInbox()
	landed := make(chan struct{}, flying)
	var refused atomic.Int64
	sub, err := t.nc.Subscribe(inbox, func(m *nats.Msg) {
		if strings.Contains(string(m.Data), `"error"`) {
			refused.Add(1)
		}
		landed <- struct{}{}
	})
	if err != nil {
		t.b.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	began, used, n := time.Now(), processTime(t.b), 0
	for range flying {
		landed <- struct{}{}
	}
	for ; t.b.Loop(); n++ {
		if n%t.size == 0 {
			<-landed
			t.publish(inbox)
		}
	}
	for range flying {
		<-landed
	}
	n = (n + t.size - 1) / t.size * t.size
	t.b.ReportMetric(float64((processTime(t.b)-used).Nanoseconds())/1000/float64(n), "cpu-µs/msg")
	t.b.ReportMetric(float64(n)/time.Since(began).Seconds(), "msgs/s")
	t.b.ReportMetric(0, "ns/op")
	if refused.Load() > 0 {
		t.b.Errorf("%d were refused", refused.Load())
	}
}

func (t *batcher) publish(reply string) {
	t.last++
	names := t.names[t.last%len(t.names)]
	for i, name := range names {
		number := strconv.Itoa(t.last*t.size + i)
		m := &nats.Msg{Subject: name, Data: t.data, Header: nats.Header{
			subjects.HeaderEntry: {"seq=57 count=41 epoch=12 kind=message from=ada"}, subjects.HeaderBack: {"page=3f9.1.1.2 before=3f8.2k"},
			subjects.HeaderPosters: {"ada=57/41 bob=55/40"}, nats.MsgIdHdr: {t.id + number},
		}}
		if t.size > 1 {
			m.Header["Nats-Batch-Id"] = []string{t.id[len(t.id)-10:] + strconv.Itoa(t.last)}
			m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		}
		if i == len(names)-1 {
			m.Reply = reply
			if t.size > 1 {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
			}
		}
		if err := t.nc.PublishMsg(m); err != nil {
			t.b.Fatal(err)
		}
	}
}

// processTime returns the user and system time that this process has used.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
