package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The size of the store that the benchmarks of history and of the start work on.
var (
	seedEntries       = flag.Int("seed-entries", 100_000, "entries in the store that benchmarks read")
	seedConversations = flag.Int("seed-conversations", 10_000, "conversations that these are spread over")
)

// senders is how many clients send at once where throughput is measured.
const senders = 64

// p50 returns the median of what was measured, in microseconds.
func p50(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Microsecond)
}

// rawStreams makes one stream a partition, shaped as those of messages where it matters for speed, and returns the subject of each.
func rawStreams(b *testing.B, nc *nats.Conn) []string {
	b.Helper()
	raw := make([]string, subjects.Partitions)
	for i := range raw {
		raw[i] = fmt.Sprintf("raw.p%02d", i)
		config := fmt.Sprintf(`{"name":"RAW_%02d","subjects":[%q],"storage":"file","num_replicas":1,"retention":"limits","discard":"new","max_age":0}`, i, raw[i])
		answer, err := nc.Request(fmt.Sprintf("$JS.API.STREAM.CREATE.RAW_%02d", i), []byte(config), patience)
		if err != nil {
			b.Fatal(err)
		}
		var refusal struct{ Error *struct{ Description string } }
		if err := json.Unmarshal(answer.Data, &refusal); err != nil || refusal.Error != nil {
			b.Fatalf("make a raw stream: %s", answer.Data)
		}
	}
	return raw
}

// BenchmarkSend compares a message from a socket to its ok with a bare publish to a stream of the same server, which syncs both the same.
func BenchmarkSend(b *testing.B) {
	_, target, _ := up(b, b.TempDir())
	nc := target.operator(b)
	raw := rawStreams(b, nc)
	body := text("a message of the usual length, neither short nor long, to be stored")
	publish := func(i int) {
		if _, err := nc.Request(raw[i%len(raw)], body, patience); err != nil {
			b.Error(err)
		}
	}
	peers := make([]*peer, senders)
	for i := range peers {
		peers[i] = issued(b, target, fmt.Sprintf("sender-%02d", i))
	}
	post := func(i int) {
		to := peers[i^1].user
		if _, err := try[wire.Posted](peers[i], "send.post", wire.Post{To: to, ClientID: client.NewClientID(), Body: body}); err != nil {
			b.Error(err)
		}
	}
	for i := range peers {
		post(i) // the first message of a conversation costs more than all others
	}

	b.Run("latency", func(b *testing.B) {
		var bare, sent []time.Duration
		for b.Loop() { // in turn, so that a slow moment of the machine hits both
			begin := time.Now()
			publish(0)
			middle := time.Now()
			post(0)
			bare, sent = append(bare, middle.Sub(begin)), append(sent, time.Since(middle))
		}
		b.ReportMetric(p50(sent), "µs/send-p50")
		b.ReportMetric(p50(bare), "µs/publish-p50")
		b.ReportMetric(p50(sent)/p50(bare), "ratio-p50")
	})
	b.Run("throughput", func(b *testing.B) {
		bare := rate(b, publish)
		sent := rate(b, post)
		b.ReportMetric(sent, "sends/s")
		b.ReportMetric(bare, "publishes/s")
		b.ReportMetric(sent/bare, "ratio")
	})
}

// rate runs one b.N-th of the work in each of the senders and returns how many were done a second.
func rate(b *testing.B, work func(sender int)) float64 {
	each := max(1, b.N/senders)
	begin := time.Now()
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			for range each {
				work(i)
			}
		})
	}
	all.Wait()
	return float64(each*senders) / time.Since(begin).Seconds()
}

// issued connects a user that an operator made, which costs no hashing.
func issued(b testing.TB, target Target, user string) *peer {
	b.Helper()
	tokens := issue(b, target, wire.Issue{User: subjects.User(user), Create: true})
	return connect(b, target, tokens, "web-1")
}

// reader takes part in every seeded conversation.
const reader = "reader"

// entriesOf returns how many entries a seeded conversation has: one in a hundred is long enough for full pages, and the others share the rest.
func entriesOf(i int) int {
	average := *seedEntries / *seedConversations
	if i%100 == 0 {
		return 50 * average
	}
	return max(1, average/2)
}

// long returns a seeded conversation that is long; i counts them in an order that does not follow how they were stored.
func long(i int) subjects.Conversation {
	n := max(1, *seedConversations/100)
	return seeded(i * 7919 % n * 100)
}

func seeded(i int) subjects.Conversation {
	c, _ := subjects.Direct(reader, seededUser(i))
	return c
}

func seededUser(i int) subjects.User { return subjects.User(fmt.Sprintf("with-%06d", i)) }

// seed fills a data directory through the log's own append, without syncing each entry.
func seed(b *testing.B, data string) {
	b.Helper()
	p, target, _ := up(b, data, "--profile", "fast")
	nc := target.operator(b)
	ctx := context.Background()
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		b.Fatal(err)
	}
	work := make(chan int)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for i := range work {
				if i%100 == 0 { // nobody reads the others
					user := jetstream.User{User: seededUser(i), Created: wire.At(time.Now())}
					if _, err := store.CreateUser(ctx, user); err != nil {
						b.Errorf("seed: %v", err)
						return
					}
				}
				var tail jetstream.Tail
				for n := range entriesOf(i) {
					draft := jetstream.Draft{Kind: wire.KindMessage, From: reader, ClientID: client.NewClientID(), Body: text("message %d of conversation %d", n, i)}
					done, err := store.Append(ctx, seeded(i), tail, draft)
					if err != nil {
						b.Errorf("seed: %v", err)
						return
					}
					tail = done.Tail
				}
			}
		})
	}
	for i := range *seedConversations {
		work <- i
	}
	close(work)
	all.Wait()
	store.Close()
	nc.Close()
	if code := p.stop(b); code != 0 {
		b.Fatalf("the seeded process ended with %d", code)
	}
}

// BenchmarkSeeded measures, on one seeded store, the start, the reading of pages, and what that reading does to those who send meanwhile.
func BenchmarkSeeded(b *testing.B) {
	data := b.TempDir()
	begin := time.Now()
	seed(b, data)
	b.Logf("seeded %d entries in %d conversations in %s", *seedEntries, *seedConversations, time.Since(begin).Round(time.Second))

	b.Run("start", func(b *testing.B) {
		var empty, full []time.Duration
		for b.Loop() {
			empty = append(empty, startTime(b, b.TempDir()))
			full = append(full, startTime(b, data))
		}
		b.ReportMetric(p50(empty)/1000, "ms/empty-p50")
		b.ReportMetric(p50(full)/1000, "ms/seeded-p50")
	})
	_, target, _ := up(b, data)
	reading, sending := issued(b, target, reader), issued(b, target, "sender-00")
	issued(b, target, "sender-01")
	page := func(i int) (took time.Duration, ok bool) {
		begin := time.Now()
		got, err := try[wire.Page](reading, "history.page", wire.PageQuery{Conversation: long(i), Limit: 50})
		if err != nil || len(got.Entries) != 50 {
			b.Errorf("a page has %d entries, %v", len(got.Entries), err)
			return 0, false
		}
		return time.Since(begin), true
	}
	post := func() time.Duration {
		begin := time.Now()
		call[wire.Posted](sending, "send.post", wire.Post{To: "sender-01", ClientID: client.NewClientID(), Body: text("meanwhile")})
		return time.Since(begin)
	}
	post()
	b.Run("page", func(b *testing.B) {
		var pages []time.Duration
		for i := 0; b.Loop(); i++ {
			took, ok := page(i)
			if !ok {
				return
			}
			pages = append(pages, took)
		}
		b.ReportMetric(p50(pages), "µs/page-p50")
	})
	b.Run("meanwhile", func(b *testing.B) { meanwhile(b, post, page) })
}

// meanwhile measures posts alone, and then as many beside somebody who reads one page after another.
func meanwhile(b *testing.B, post func() time.Duration, page func(i int) (time.Duration, bool)) {
	var alone, beside []time.Duration
	for b.Loop() {
		alone = append(alone, post())
	}
	stop := make(chan struct{})
	var reads sync.WaitGroup
	reads.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if _, ok := page(i); !ok {
					return
				}
			}
		}
	})
	for range len(alone) {
		beside = append(beside, post())
	}
	close(stop)
	reads.Wait()
	b.ReportMetric(p50(alone), "µs/send-alone-p50")
	b.ReportMetric(p50(beside), "µs/send-beside-p50")
	b.ReportMetric(p50(beside)/p50(alone), "ratio-p50")
}

// startTime starts the all-in-one, waits for its banner, and stops it.
func startTime(b *testing.B, data string) time.Duration {
	b.Helper()
	begin := time.Now()
	p, _, _ := up(b, data)
	took := time.Since(begin)
	if code := p.stop(b); code != 0 {
		b.Fatalf("it ended with %d", code)
	}
	return took
}
