package history_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The size of the store that BenchmarkPages reads, and how many read at once.
var (
	seedEntries       = flag.Int("seed-entries", 100_000, "entries in the store that benchmarks read")
	seedConversations = flag.Int("seed-conversations", 10_000, "conversations that these are spread over; one in a hundred is long")
	memory            = flag.Int("memory", 0, "bytes of pages that the function remembers; 0 = as preset, -1 = none")
	readers           = flag.Int("readers", 8, "calls at once")
)

// cpu returns what this process has used, user and system.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// seeded is a store with many short conversations and a long one in a hundred, which a user reads.
type seeded struct {
	*world
	long []subjects.Conversation
	each int // entries of a long one
}

func (s *seeded) conversation(i int) subjects.Conversation {
	c, err := subjects.Direct("ada", subjects.User(fmt.Sprintf("with-%06d", i)))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func seedStore(b *testing.B) *seeded {
	b.Helper()
	s := &seeded{world: newWorldWith(b, history.Config{Memory: *memory}, "ada")}
	average := *seedEntries / *seedConversations
	s.each = 50 * average
	work := make(chan int)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := range work {
				n := max(1, average/2)
				if i%100 == 0 {
					n = s.each
				}
				var tail jetstream.Tail
				for k := range n {
					body := functionstest.Text("message %d of conversation %d, %s", k, i, strings.Repeat("x", 40))
					done, err := s.store.Append(b.Context(), s.conversation(i), tail, jetstream.Draft{Kind: wire.KindMessage, From: "ada", ClientID: functionstest.ClientID(), Body: body})
					if err != nil {
						b.Error(err)
						return
					}
					tail = done.Tail
				}
			}
		})
	}
	for i := range *seedConversations {
		if i%100 == 0 {
			s.long = append(s.long, s.conversation(i))
			if _, err := s.store.CreateUser(b.Context(), jetstream.User{User: subjects.User(fmt.Sprintf("with-%06d", i)), Created: wire.At(time.Now())}); err != nil {
				b.Fatal(err)
			}
		}
		work <- i
	}
	close(work)
	all.Wait()
	return s
}

// measure runs an operation from several goroutines, b.N times, and reports rate, CPU and latency.
func measure(b *testing.B, operation func(n int)) {
	b.Helper()
	for n := range 50 {
		operation(n)
	}
	var (
		next  atomic.Int64
		all   sync.WaitGroup
		mu    sync.Mutex
		times []time.Duration
	)
	b.ResetTimer()
	began, used := time.Now(), cpu()
	for range *readers {
		all.Go(func() {
			var own []time.Duration
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					break
				}
				t := time.Now()
				operation(int(n))
				own = append(own, time.Since(t))
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
		})
	}
	all.Wait()
	took, spent := time.Since(began), cpu()-used
	slices.Sort(times)
	b.ReportMetric(float64(b.N)/took.Seconds(), "op/s")
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "µs-cpu/op")
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs-p99")
}

func (s *seeded) ask(q wire.PageQuery) {
	data, err := json.Marshal(q)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.caller.Call(s.t.Context(), history.Name, history.MethodPage, functionstest.As("ada").Header(), data)
	if err != nil || len(answer) < 50*100 {
		s.t.Errorf("%s: %d bytes, %v", data, len(answer), err)
	}
}

// BenchmarkPages reads pages of 50 of long conversations in a large store: -seed-entries and -seed-conversations say how large.
func BenchmarkPages(b *testing.B) {
	s := seedStore(b)
	pick := func(n int) subjects.Conversation { return s.long[n*7919%len(s.long)] }
	b.Run("get of one", func(b *testing.B) {
		measure(b, func(n int) {
			c := pick(n)
			if _, err := s.nc.RequestMsgWithContext(s.t.Context(), &nats.Msg{Subject: subjects.DirectReadLast(subjects.StreamOf(c), subjects.Message(c))}); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("newest", func(b *testing.B) {
		measure(b, func(n int) { s.ask(wire.PageQuery{Conversation: pick(n), Limit: 50}) })
	})
	for _, c := range s.long {
		for before := wire.Seq(s.each); before > 50; before -= min(before, 50) {
			s.ask(wire.PageQuery{Conversation: c, Limit: 50, Before: &before})
			time.Sleep(3 * time.Millisecond)
		}
	}
	b.Run("random", func(b *testing.B) {
		measure(b, func(n int) {
			before := wire.Seq(51 + rand.IntN(s.each-51))
			s.ask(wire.PageQuery{Conversation: pick(n), Limit: 50, Before: &before})
		})
	})
	b.Run("one again and again", func(b *testing.B) {
		before := wire.Seq(s.each / 2)
		measure(b, func(int) { s.ask(wire.PageQuery{Conversation: pick(1), Limit: 50, Before: &before}) })
	})
}

// BenchmarkHeads lists 200 conversations, half of them direct.
func BenchmarkHeads(b *testing.B) {
	w := newWorld(b, "ada", "bob")
	for i := range 100 {
		other := subjects.User(fmt.Sprintf("u%03d", i))
		if _, err := w.store.CreateUser(b.Context(), jetstream.User{User: other, Created: wire.At(time.Now())}); err != nil {
			b.Fatal(err)
		}
		c, err := subjects.Direct("ada", other)
		if err != nil {
			b.Fatal(err)
		}
		for range 3 {
			w.post("ada", c, "to one")
			w.post("bob", w.group(fmt.Sprintf("g%d-%d", i, time.Now().UnixNano()%1000), "bob"), "not ada's")
		}
		w.post("ada", w.group(fmt.Sprintf("a%d", i), "ada", "bob"), "to some")
	}
	b.Run("get of one", func(b *testing.B) {
		measure(b, func(int) {
			if _, err := w.store.UserExists(b.Context(), "ada"); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("heads of 200", func(b *testing.B) {
		measure(b, func(int) {
			answer, err := w.caller.Call(b.Context(), history.Name, history.MethodHeads, functionstest.As("ada").Header(), []byte("{}"))
			if err != nil || len(answer) < 200*100 {
				b.Errorf("%d bytes, %v", len(answer), err)
			}
		})
	})
}
