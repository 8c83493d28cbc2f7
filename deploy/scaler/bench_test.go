package scaler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/scaler"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkDemandToPush measures from a caller's first word about a held call to the push on KEDA's stream, in one process over loopback.
func BenchmarkDemandToPush(b *testing.B) {
	server := jetstreamtest.Start(b)
	_, address, _ := start(b, scaler.Config{NATS: server.Connect(b)})
	nc := server.Connect(b)
	stream, err := dial(b, nil, address).StreamIsActive(b.Context(), ref(map[string]string{"function": "echo", "concurrency": "4"}))
	if err != nil {
		b.Fatal(err)
	}
	say := func(held int) {
		if err := nc.Publish(subjects.Scale("echo", subjects.Demand), encode(b, wire.Demand{Function: "echo", Caller: "edge", Held: held})); err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		say(1)
		if _, err := stream.Recv(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		say(0)
		<-time.After(110 * time.Millisecond) // pushes are never closer than 100 ms
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}
