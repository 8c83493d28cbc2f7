package send_test

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkInstances posts to 64 direct conversations at once, through one, two and four instances of the function.
func BenchmarkInstances(b *testing.B) {
	for _, instances := range []int{1, 2, 4} {
		b.Run(fmt.Sprint("instances=", instances), func(b *testing.B) {
			w := newWorld(b, jetstreamtest.Synced())
			for range instances - 1 {
				functionstest.Run(b, w.server.Connect(b), send.Function(send.Config{}))
			}
			for w.caller.Instances(send.Name) < instances {
				<-w.caller.Changed()
			}
			w.users("bob")
			const senders = 64
			names := make([]subjects.User, senders)
			for i := range names {
				names[i] = subjects.User(fmt.Sprint("p", i))
			}
			w.users(names...)
			body := functionstest.Text("a message of the usual length, neither short nor long")
			post := func(u subjects.User) {
				in := wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: body}
				if _, err := functions.Invoke[wire.Post, wire.Posted](b.Context(), w.caller, functionstest.As(u), send.Name, send.MethodPost, in); err != nil {
					b.Error(err)
				}
			}
			var first sync.WaitGroup
			for _, u := range names {
				first.Go(func() { post(u) })
			}
			first.Wait()
			b.ResetTimer()
			var usage, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
			took := make([][]time.Duration, senders)
			var all sync.WaitGroup
			for i, u := range names {
				all.Go(func() {
					for range max(1, b.N/senders) {
						began := time.Now()
						post(u)
						took[i] = append(took[i], time.Since(began))
					}
				})
			}
			all.Wait()
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			times := slices.Concat(took...)
			slices.Sort(times)
			cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - usage.Utime.Nano() - usage.Stime.Nano())
			b.ReportMetric(float64(cpu.Microseconds())/float64(len(times)), "cpu-µs/post")
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "ms-p99")
			b.ReportMetric(0, "ns/op")
		})
	}
}
