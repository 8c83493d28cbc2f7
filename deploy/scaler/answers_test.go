package scaler_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/confab-im/confab/deploy/scaler"
	"github.com/confab-im/confab/deploy/scaler/externalscaler"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// asking is a scaler and a client of it.
type asking struct {
	t      *testing.T
	nc     *nats.Conn
	scaler *scaler.Scaler
	client externalscaler.ExternalScalerClient
	stop   func()
}

func ask(t *testing.T, server *jetstreamtest.Server) *asking {
	t.Helper()
	s, address, stop := start(t, scaler.Config{NATS: server.Connect(t)})
	return &asking{t: t, nc: server.Connect(t), scaler: s, client: dial(t, nil, address), stop: stop}
}

func (a *asking) settled() {
	a.t.Helper()
	eventually(a.t, "the scaler judges", func() bool { return a.scaler.Ready() == nil })
}

func (a *asking) say(verb subjects.Verb, event any) {
	a.t.Helper()
	if err := a.nc.Publish(subjects.Scale("echo", verb), encode(a.t, event)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *asking) active(r *externalscaler.ScaledObjectRef) bool {
	a.t.Helper()
	answer, err := a.client.IsActive(a.t.Context(), r)
	if err != nil {
		a.t.Fatalf("IsActive: %v", err)
	}
	return answer.GetResult()
}

// figures returns the metric's name, its target and its value.
func (a *asking) figures(r *externalscaler.ScaledObjectRef) (name string, target, value float64) {
	a.t.Helper()
	spec, err := a.client.GetMetricSpec(a.t.Context(), r)
	if err != nil {
		a.t.Fatalf("GetMetricSpec: %v", err)
	}
	s := spec.GetMetricSpecs()[0]
	answer, err := a.client.GetMetrics(a.t.Context(), &externalscaler.GetMetricsRequest{ScaledObjectRef: r, MetricName: s.GetMetricName()})
	if err != nil {
		a.t.Fatalf("GetMetrics: %v", err)
	}
	m := answer.GetMetricValues()[0]
	if m.GetMetricName() != s.GetMetricName() || float64(m.GetMetricValue()) != m.GetMetricValueFloat() || float64(s.GetTargetSize()) != s.GetTargetSizeFloat() {
		a.t.Errorf("the old and the new fields of %v and %v differ", s, m)
	}
	return s.GetMetricName(), s.GetTargetSizeFloat(), m.GetMetricValueFloat()
}

func TestAFunctionIsActiveWhileThereIsOrWasWork(t *testing.T) {
	t.Parallel()
	a := ask(t, jetstreamtest.Start(t))
	a.settled()
	r := ref(map[string]string{"function": "echo", "concurrency": "4", "idle": "2s"})
	if a.active(r) {
		t.Error("a function that nobody calls is active")
	}
	// An edge that dies while it holds calls: its word counts for three seconds.
	a.say(subjects.Demand, wire.Demand{Function: "echo", Caller: "edge", Held: 6})
	eventually(t, "held calls make it active", func() bool { return a.active(r) })
	if name, target, value := a.figures(r); name != "confab-echo" || target != 4 || value != 6 {
		t.Errorf("six held calls are %v of %v in %s", value, target, name)
	}
	began := time.Now()
	eventually(t, "the word of an edge that died lapses", func() bool { return !a.active(r) })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	up := wire.InstanceUp{Function: "echo", Instance: "one", Concurrency: 9}
	for _, c := range []struct {
		idle   time.Duration
		peak   int
		active bool
	}{{0, 0, true}, {10 * time.Second, 0, false}, {10 * time.Second, 7, true}} {
		up.IdleMS, up.Peak = c.idle.Milliseconds(), c.peak
		a.say(subjects.Up, up)
		eventually(t, "the instance counts by its last call", func() bool { return a.active(r) == c.active })
	}
	if _, target, value := a.figures(r); value != 7 || target != 4 {
		t.Errorf("an instance with 7 calls at once is %v of %v", value, target)
	}
	if _, target, _ := a.figures(ref(map[string]string{"function": "echo"})); target != 9 {
		t.Errorf("without a word in the trigger an instance takes %v calls; it said 9", target)
	}
}

func TestWhatKEDAIsToldWhenATriggerIsWrong(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	server.Store(t)
	a := ask(t, server)
	for name, c := range map[string]struct {
		metadata map[string]string
		code     codes.Code
		sentence string
	}{
		"no metadata":             {nil, codes.InvalidArgument, `metadata function: "" is no name`},
		"no name of a function":   {map[string]string{"function": "a.>"}, codes.InvalidArgument, "no name of a function"},
		"an unknown function":     {map[string]string{"function": "hsitory"}, codes.NotFound, "The function hsitory is not registered"},
		"a bad concurrency":       {map[string]string{"function": "echo", "concurrency": "0"}, codes.InvalidArgument, "no whole number"},
		"a bad idle":              {map[string]string{"function": "echo", "idle": "60"}, codes.InvalidArgument, "no duration"},
		"another figure of edges": {map[string]string{"edges": "users", "target": "5"}, codes.InvalidArgument, "not connections"},
		"edges without a target":  {map[string]string{"edges": "connections"}, codes.InvalidArgument, "no whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ref(c.metadata)
			_, spec := a.client.GetMetricSpec(t.Context(), r)
			_, active := a.client.IsActive(t.Context(), r)
			stream, pushed := a.client.StreamIsActive(t.Context(), r)
			if pushed == nil {
				_, pushed = stream.Recv()
			}
			for what, err := range map[string]error{"GetMetricSpec": spec, "IsActive": active, "StreamIsActive": pushed} {
				if status.Code(err) != c.code || !strings.Contains(err.Error(), c.sentence) {
					t.Errorf("%s: %v, want %v and %q", what, err, c.code, c.sentence)
				}
			}
		})
	}
	if _, err := a.client.GetMetrics(t.Context(), &externalscaler.GetMetricsRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a request without an object: %v", err)
	}
}

// A scaler that knows nothing yet says yes where it can and never no.
func TestAScalerThatKnowsNothingSaysSo(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	a := ask(t, server)
	r := ref(map[string]string{"function": "echo", "concurrency": "4"})
	for _, when := range []string{"at the start", "after NATS was away"} {
		if _, err := a.client.IsActive(t.Context(), r); status.Code(err) != codes.Unavailable {
			t.Errorf("IsActive %s: %v", when, err)
		}
		if _, err := a.client.GetMetrics(t.Context(), &externalscaler.GetMetricsRequest{ScaledObjectRef: r}); status.Code(err) != codes.Unavailable {
			t.Errorf("GetMetrics %s: %v", when, err)
		}
		a.say(subjects.Demand, wire.Demand{Function: "echo", Caller: "edge", Held: 1})
		eventually(t, "a held call counts at once", func() bool { answer, err := a.client.IsActive(t.Context(), r); return err == nil && answer.GetResult() })
		a.say(subjects.Demand, wire.Demand{Function: "echo", Caller: "edge"})
		a.settled()
		eventually(t, "the end of the demand is heard", func() bool { return !a.active(r) })
		server.Restart(t)
	}
}

// While calls are held true comes at once and every second; at the end of the scaler the stream ends without an error, upon which KEDA comes back soon.
func TestPushesComeAtOnceAndAgain(t *testing.T) {
	t.Parallel()
	a := ask(t, jetstreamtest.Start(t))
	stream, err := a.client.StreamIsActive(t.Context(), ref(map[string]string{"function": "echo", "concurrency": "4"}))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 3 {
		a.say(subjects.Demand, wire.Demand{Function: "echo", Caller: "edge", Held: 1})
		answer, err := stream.Recv()
		if err != nil || !answer.GetResult() {
			t.Fatalf("push %d: %v, %v", i, answer, err)
		}
	}
	if took := time.Since(began); took < 1500*time.Millisecond || took > 10*time.Second {
		t.Errorf("three pushes took %v", took)
	}
	go a.stop()
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestFiguresForOperators(t *testing.T) {
	t.Parallel()
	server, figures := jetstreamtest.Start(t), prometheus.NewPedanticRegistry()
	s, address, _ := start(t, scaler.Config{NATS: server.Connect(t), Registry: figures})
	a := &asking{t: t, nc: server.Connect(t), scaler: s, client: dial(t, nil, address)}
	stream, err := a.client.StreamIsActive(t.Context(), ref(map[string]string{"function": "echo", "concurrency": "4"}))
	if err != nil {
		t.Fatal(err)
	}
	speak := func() {
		a.say(subjects.Up, wire.InstanceUp{Function: "echo", Instance: "one", Concurrency: 4, Peak: 3})
		a.say(subjects.Demand, wire.Demand{Function: "echo", Caller: "edge", Held: 6})
	}
	speak()
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	a.settled()
	_, _ = a.client.IsActive(t.Context(), ref(nil))
	want := map[string]float64{
		"confab_scaler_instances": 1, "confab_scaler_held_calls": 6, "confab_scaler_peak_calls": 3, "confab_scaler_backlog_events": 0,
		"confab_scaler_streams": 1, "confab_scaler_settled": 1, "confab_scaler_answers_total": 1, "confab_scaler_pushes_total": 1,
	}
	eventually(t, "the figures are shown", func() bool {
		speak()
		families, err := figures.Gather()
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, f := range families {
			m := f.GetMetric()[0]
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if exact, known := want[f.GetName()]; known && (value == exact || f.GetName() == "confab_scaler_pushes_total" && value > 0) {
				seen++
			}
		}
		return seen == len(want) && len(families) == len(want)
	})
}

func TestTheRegistryAndItsChangesCount(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	a := ask(t, server)
	a.settled()
	r := ref(map[string]string{"function": "echo"})
	record := wire.Registered{Function: "echo", Kind: "call", Concurrency: 16, Scale: wire.InstanceScale{Max: 4, Wake: 1}}
	for _, concurrency := range []int{16, 32} {
		record.Concurrency = concurrency
		if err := store.Register(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the record counts", func() bool {
			spec, err := a.client.GetMetricSpec(t.Context(), r)
			return err == nil && spec.GetMetricSpecs()[0].GetTargetSize() == int64(concurrency)
		})
	}
	if err := store.Unregister(t.Context(), "echo"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the function is unknown", func() bool {
		_, err := a.client.GetMetricSpec(t.Context(), r)
		return status.Code(err) == codes.NotFound
	})
}

func TestAStoredEntryWakesAFunctionOnEvents(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	listens(t, store, server.Connect(t))
	a := ask(t, server)
	a.settled()
	r := ref(map[string]string{"function": "listener"})
	stream, err := a.client.StreamIsActive(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if a.active(r) {
		t.Error("without any entry the function is active")
	}
	began := time.Now()
	jetstreamtest.Users(t, store, "ada")
	if _, err := store.Append(t.Context(), "g.general", jetstream.Tail{}, jetstream.Draft{Kind: wire.KindMessage, From: "ada", ClientID: "one", Body: []byte(`{"text":"hi"}`)}); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || !answer.GetResult() {
		t.Fatalf("the push: %v, %v", answer, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if !a.active(r) {
		t.Error("with an entry that waits the function is not active")
	}
	if _, _, value := a.figures(r); value != 1 {
		t.Errorf("an entry that waits counts as %v", value)
	}
}

// listens registers a function that runs on messages, and declares its consumers.
func listens(t *testing.T, store *jetstream.Store, nc *nats.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := jetstream.DeclareConsumers(ctx, nc, []jetstream.ConsumerSpec{{Function: "listener", Entries: true}}); err != nil {
		t.Fatal(err)
	}
	if err := store.Register(ctx, wire.Registered{Function: "listener", Kind: "event", Concurrency: 8, Events: []wire.EntryKind{wire.KindMessage}}); err != nil {
		t.Fatal(err)
	}
}

func askFor(r *externalscaler.ScaledObjectRef) *externalscaler.GetMetricsRequest {
	return &externalscaler.GetMetricsRequest{ScaledObjectRef: r}
}
