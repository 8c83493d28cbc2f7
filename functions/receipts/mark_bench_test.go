//go:build unix

package receipts_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// cpu returns the processor time that the process has taken.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMark reports the processor time of a mark at the newest entry, with the server's part, beside that of a bare write.
func BenchmarkMark(b *testing.B) {
	const conversations = 100
	server := jetstreamtest.Start(b)
	nc := server.Connect(b)
	store := server.StoreOn(b, nc)
	functionstest.Run(b, nc, receipts.Function(receipts.Config{}))
	caller := functionstest.Caller(b, server.Connect(b))
	bare := server.Connect(b)
	var spent, wrote time.Duration
	tails := make([]jetstream.Tail, conversations)
	n := 0
	for b.Loop() {
		for i := range tails {
			done, err := store.Append(b.Context(), subjects.Conversation(fmt.Sprintf("d.ada.bob-%d", i)), tails[i], jetstream.Draft{Kind: wire.KindMessage, From: "ada", Body: []byte(`{"text":"hi"}`)})
			if err != nil {
				b.Fatal(err)
			}
			tails[i] = done.Tail
		}
		began := cpu()
		for i, tail := range tails {
			q := wire.MarkQuery{Conversation: subjects.Conversation(fmt.Sprintf("d.ada.bob-%d", i)), Read: tail.Seq}
			got, err := functions.Invoke[wire.MarkQuery, wire.Marked](b.Context(), caller, functionstest.As(subjects.User(fmt.Sprintf("bob-%d", i))), "receipts", "mark", q)
			if err != nil || got.Read.Seq != tail.Seq {
				b.Fatalf("%+v, %v", got, err)
			}
		}
		between := cpu()
		for i, tail := range tails {
			if _, err := bare.Request(subjects.BucketSubject(subjects.BucketProbes, fmt.Sprint("p", i)), fmt.Appendf(nil, `{"read":{"seq":%d,"count":%d}}`, tail.Seq, tail.Count), 10*time.Second); err != nil {
				b.Fatal(err)
			}
		}
		spent, wrote, n = spent+between-began, wrote+cpu()-between, n+conversations
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(n), "µs/mark")
	b.ReportMetric(float64(wrote.Microseconds())/float64(n), "µs/write")
	b.ReportMetric(float64(spent)/float64(wrote), "×write")
	b.ReportMetric(0, "ns/op")
}
