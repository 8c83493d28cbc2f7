package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// times reports how many times longer an operation takes than a raw one, measured in the same run.
func times(b *testing.B, unit string, operation, raw func(i int)) {
	b.Helper()
	operation(0) // warm up
	raw(0)
	began, n := time.Now(), 0
	for b.Loop() {
		n++
		operation(n)
	}
	each := time.Since(began) / time.Duration(n)
	b.StopTimer()
	rounds := max(200, min(n, 2000))
	began = time.Now()
	for i := range rounds {
		raw(i + 1)
	}
	rawEach := time.Since(began) / time.Duration(rounds)
	b.ReportMetric(float64(each)/float64(rawEach), unit)
	b.ReportMetric(float64(rawEach.Nanoseconds()), "raw-ns")
}

// echo answers requests, so that a request to it costs what a round trip over NATS costs.
func echo(b *testing.B, nc *nats.Conn) func(int) {
	b.Helper()
	subject := nc.NewInbox()
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		b.Fatal(err)
	}
	caller := nc
	return func(int) {
		if _, err := caller.Request(subject, []byte("{}"), 5*time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, options := range map[string][]jetstreamtest.Option{"unsynced": nil, "synced": {jetstreamtest.Synced()}} {
		b.Run(name, func(b *testing.B) {
			s := jetstreamtest.Start(b, options...).Store(b)
			w := newWriter(b, s, talk)
			var payload []byte
			times(b, "×raw-publish",
				func(i int) { payload = w.append(message("ada", fmt.Sprint("message ", i))).Payload },
				func(int) {
					if _, err := jetstream.Publish(s, b.Context(), subjects.Message("g.raw"), nil, payload); err != nil {
						b.Fatal(err)
					}
				})
		})
	}
}

func BenchmarkReads(b *testing.B) {
	const head = 20_000
	server := jetstreamtest.Start(b)
	s := server.Store(b)
	long(b, s, talk, head)
	lists := jetstream.NewLists(s, 1<<20)
	var conversations []subjects.Conversation
	for i := range 200 {
		c := subjects.Conversation(fmt.Sprint("g.c", i))
		conversations = append(conversations, c)
		newWriter(b, s, c).post("ada", "hello")
	}
	raw := echo(b, server.Connect(b))
	read := func(q wire.PageQuery) func(int) {
		q.Conversation = talk
		return func(int) { page(b, s, q, 0) }
	}
	deep := wire.Seq(head / 3)
	for name, operation := range map[string]func(int){
		"tail": func(int) {
			if _, err := s.Tail(b.Context(), talk); err != nil {
				b.Fatal(err)
			}
		},
		"newest page of 50": read(wire.PageQuery{Limit: 50}),
		"deep page of 50":   read(wire.PageQuery{Limit: 50, Before: &deep}),
		"page at a time":    read(wire.PageQuery{Limit: 50, Time: pointer(second(head / 3))}),
		"page of 200":       read(wire.PageQuery{Limit: 200}),
		"one deep entry": func(int) {
			if _, err := s.Entry(b.Context(), talk, deep); err != nil {
				b.Fatal(err)
			}
		},
		"200 heads": func(int) {
			if _, err := jetstream.NewLists(s, 0).Heads(b.Context(), conversations); err != nil {
				b.Fatal(err)
			}
		},
		"200 heads again": func(int) {
			if _, err := lists.Heads(b.Context(), conversations); err != nil {
				b.Fatal(err)
			}
		},
		"tails": func(int) {
			if _, err := s.Tails(b.Context()); err != nil {
				b.Fatal(err)
			}
		},
	} {
		b.Run(name, func(b *testing.B) { times(b, "×raw-request", operation, raw) })
	}
}

// BenchmarkAmend appends reactions, each of which is recorded too.
func BenchmarkAmend(b *testing.B) {
	s := jetstreamtest.Start(b).Store(b)
	w := newWriter(b, s, talk)
	target := w.post("ada", "hello")
	payload := w.tail.Payload
	times(b, "×raw-publish",
		func(i int) { w.append(reactionTo(target, "bob", "👍", i%2 == 1)) },
		func(int) {
			if _, err := jetstream.Publish(s, b.Context(), subjects.Message("g.raw"), nil, payload); err != nil {
				b.Fatal(err)
			}
		})
}

// BenchmarkHeaders reports how large the headers of an entry are, in bytes.
func BenchmarkHeaders(b *testing.B) {
	s := jetstreamtest.Start(b).Store(b)
	for _, n := range []int{1, 50, 1000, 20_000} {
		b.Run(fmt.Sprint("after ", n), func(b *testing.B) {
			w := long(b, s, subjects.Conversation(fmt.Sprint("g.n", n)), n)
			for range 20 {
				for user := range 3 {
					w.post(subjects.User(fmt.Sprint("user-", user)), "x")
				}
			}
			for b.Loop() {
			}
			total := 0
			for name, size := range w.tail.HeaderBytes() {
				b.ReportMetric(float64(size), name+"-B")
				total += size
			}
			b.ReportMetric(float64(total), "headers-B")
			b.ReportMetric(0, "ns/op")
		})
	}
}
