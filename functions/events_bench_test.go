package functions_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkEntries compares one instance that works through stored entries with a bare pull consumer that acknowledges them unread, on the same
// streams, one after another: entries/s and bare/s, and their ratio.
func BenchmarkEntries(b *testing.B) {
	const each, conversations = 200, 40
	server := jetstreamtest.Start(b)
	server.Store(b)
	nc := server.Connect(b)
	specs := []jetstream.ConsumerSpec{{Function: "counter", Entries: true}, {Function: "bare", Entries: true, Pending: each * conversations}}
	if err := jetstream.DeclareConsumers(b.Context(), nc, specs); err != nil {
		b.Fatal(err)
	}
	var handled, seq atomic.Int64
	f := counter(&seen{}, nil)
	f.New = func(context.Context, functions.Env) (functions.Handlers, error) {
		return functions.Handlers{wire.MethodEntry: functions.HandleEntry(func(context.Context, *functions.Call, *wire.Entry) error { handled.Add(1); return nil })}, nil
	}
	var bareTime, ourTime time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		store(b, nc, conversations, each, seq.Add(each)-each)
		bareTime += drainBare(b, nc, each*conversations)
		handled.Store(0)
		began := time.Now()
		in := functionstest.RunEnv(b, functions.Env{NATS: nc, Log: functionstest.Log(b)}, f)
		for handled.Load() < each*conversations {
			time.Sleep(100 * time.Microsecond)
		}
		ourTime += time.Since(began)
		in.Stop(b)
	}
	n := float64(rounds * each * conversations)
	b.ReportMetric(n/ourTime.Seconds(), "entries/s")
	b.ReportMetric(n/bareTime.Seconds(), "bare/s")
	b.ReportMetric(float64(ourTime)/float64(bareTime), "ratio")
}

// store publishes entries as the log has them, without what links them.
func store(b *testing.B, nc *nats.Conn, conversations, each int, from int64) {
	b.Helper()
	for c := range conversations {
		id := subjects.Conversation(fmt.Sprintf("g.c%d", c))
		for i := range each {
			seq := wire.Seq(from) + wire.Seq(i) + 1
			header := wire.EntryHeader{Seq: seq, Count: uint64(seq), Kind: wire.KindMessage, From: "ada"}
			body, err := wire.Marshal(wire.Entry{Conversation: id, Seq: seq, Count: uint64(seq), Kind: wire.KindMessage, From: "ada", At: wire.At(time.Now()), Body: functionstest.Text("hello %d", i)})
			if err != nil {
				b.Fatal(err)
			}
			msg := &nats.Msg{Subject: subjects.Message(id), Header: nats.Header{subjects.HeaderEntry: {header.String()}}, Data: body}
			if i == each-1 { // the last one is waited for, and with it all before
				if _, err := nc.RequestMsg(msg, patient); err != nil {
					b.Fatal(err)
				}
				continue
			}
			if err := nc.PublishMsg(msg); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// drainBare pulls and acknowledges n messages, and returns how long that took.
func drainBare(b *testing.B, nc *nats.Conn, n int) time.Duration {
	b.Helper()
	all, got := make(chan struct{}), 0
	inbox := nc.NewInbox()
	sub, err := nc.Subscribe(inbox, func(m *nats.Msg) {
		if m.Header.Get("Status") != "" {
			return
		}
		_ = nc.Publish(m.Reply, []byte("+ACK"))
		if got++; got == n {
			close(all)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	began := time.Now()
	for p := range subjects.Partitions {
		body := fmt.Appendf(nil, `{"batch":%d,"expires":30000000000}`, n)
		if err := nc.PublishRequest(subjects.PullNext(subjects.MessagesStream(p), "bare"), inbox, body); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-time.After(patient):
		b.Fatalf("%d of %d came", got, n)
	}
	return time.Since(began)
}
