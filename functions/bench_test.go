package functions_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
)

// BenchmarkCall compares a call to a function that is up with a bare request to a bare micro service on the same server, one after
// another: hot is the time of one call, and ratio how many bare requests it costs.
func BenchmarkCall(b *testing.B) {
	url := startServer(b)
	caller, instance := connect(b, url), connect(b, url)
	service, err := micro.AddService(instance, micro.Config{Name: "bare", Version: "1.0.0"})
	if err != nil {
		b.Fatal(err)
	}
	if err := service.AddEndpoint("bare", micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) })); err != nil {
		b.Fatal(err)
	}
	log := functionstest.Log(b)
	functionstest.RunEnv(b, functions.Env{NATS: instance, Log: log}, echo(say))
	calls, err := functions.NewCaller(caller, log)
	if err != nil {
		b.Fatal(err)
	}
	defer calls.Close()
	body := []byte(`{"conversation":"g.general","text":"hi"}`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	bare := func() {
		if _, err := caller.RequestWithContext(ctx, "bare", body); err != nil {
			b.Fatal(err)
		}
	}
	hot := func() {
		if _, err := calls.Call(ctx, "echo", "say", functionstest.As("ada").Header(), body); err != nil {
			b.Fatal(err)
		}
	}
	for range 1000 {
		bare()
		hot()
	}
	b.ReportAllocs()
	var bareTime, hotTime time.Duration
	for b.Loop() { // by turns, so that whatever else the machine does hits both
		t0 := time.Now()
		bare()
		t1 := time.Now()
		hot()
		bareTime += t1.Sub(t0)
		hotTime += time.Since(t1)
	}
	n := float64(b.N)
	b.ReportMetric(float64(hotTime.Microseconds())/n, "hot-µs")
	b.ReportMetric(float64(bareTime.Microseconds())/n, "bare-µs")
	b.ReportMetric(float64(hotTime)/float64(bareTime), "ratio")
}
