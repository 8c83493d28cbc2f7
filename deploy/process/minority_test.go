package process

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

// A program that is cut off goes on to the next server of the cluster, and stays at one where it is not.
func TestWhoIsCutOffGoesToAnotherServer(t *testing.T) {
	member := jetstreamtest.Configure(func(o *server.Options) {
		o.JetStream = false
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: -1}
	})
	bad, good := jetstreamtest.Start(t, member), jetstreamtest.Start(t, member)
	arrived := make(chan string, 8)
	nc, err := nats.Connect(bad.URL+","+good.URL, append(Options("test", slog.New(slog.DiscardHandler)), nats.DontRandomize(),
		nats.ReconnectHandler(func(nc *nats.Conn) { arrived <- nc.ConnectedUrl() }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	looks := make(chan struct{}, 8)
	cutOff := func() bool {
		if url := nc.ConnectedUrl(); url != good.URL {
			return true
		}
		select {
		case looks <- struct{}{}:
		default:
		}
		return false
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		leaving{time.Millisecond, 10 * time.Millisecond, time.Second}.run(ctx, nc, cutOff, slog.New(slog.DiscardHandler))
	}()
	defer func() { cancel(); <-done }()
	select {
	case url := <-arrived:
		if url != good.URL {
			t.Errorf("it went to %s, want %s", url, good.URL)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it stayed where it was cut off")
	}
	for range 20 { // long enough to leave again
		<-looks
	}
	if url := nc.ConnectedUrl(); url != good.URL {
		t.Errorf("it left the server where it was not cut off, for %s", url)
	}
}

// Tries come less and less often, and begin anew after everything was well.
func TestPatienceGrows(t *testing.T) {
	p := patience{leaving: unhurried}
	now := time.Now()
	for range 2 {
		var tries []time.Duration
		for at := time.Duration(0); at < 10*time.Minute; at += time.Second {
			if p.over(now.Add(at), true) {
				tries = append(tries, at)
			}
		}
		if first := tries[0]; first < unhurried.first || first > 2*unhurried.first+time.Second {
			t.Errorf("the first try comes after %v", first)
		}
		if len(tries) < 9 || len(tries) > 24 {
			t.Errorf("%d tries in ten minutes: %v", len(tries), tries)
		}
		now = now.Add(time.Hour)
		p.over(now, false)
	}
}
