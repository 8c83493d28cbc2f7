package bench

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// BenchmarkGenerator measures what the generator itself costs for one message against a bare relay: one write and two reads, as fast as it goes on some hundred sockets.
func BenchmarkGenerator(b *testing.B) {
	for name, start := range readers {
		b.Run(name, func(b *testing.B) {
			r := dialled(b, start)
			r.config, r.report, r.random = Config{Command: []string{os.Args[0]}, Lasts: time.Second, Bytes: 100}, &ScenarioReport{}, rand.New(rand.NewPCG(1, 1))
			relay, url, err := r.floor(b.Context(), "relay")
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = relay.stop() }()
			m, stop, err := r.bareGroups(b.Context(), url, 250, 2)
			if err != nil {
				b.Fatal(err)
			}
			defer stop()
			l := r.load(250, []*process{relay}, func(lane int, due time.Time, done func(error)) { m.relay(lane, due, done) })
			b.Run("as fast as it goes", func(b *testing.B) { report(b, l.closed) })
			b.Run("4,000 a second", func(b *testing.B) {
				report(b, func(ctx context.Context) outcome { return l.paced(ctx, 4000) })
			})
		})
	}
}

// report runs a load and reports what one message cost the generator and the relay.
func report(b *testing.B, load func(context.Context) outcome) {
	b.ReportAllocs()
	var own, relay time.Duration
	var count uint64
	for b.Loop() {
		o := load(b.Context())
		own, relay, count = own+o.generator, relay+o.cpu(), count+o.count
	}
	b.ReportMetric(own.Seconds()*1e6/float64(count), "µs/message")
	b.ReportMetric(relay.Seconds()*1e6/float64(count), "relay-µs/message")
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "messages/s")
}
