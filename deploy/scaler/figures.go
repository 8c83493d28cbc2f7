package scaler

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/subjects"
)

// figures is what the scaler shows of itself and of the functions that KEDA has asked for. Their names come from objects in Kubernetes, of
// functions that exist, so a label has few values.
type figures struct {
	watcher  *load.Watcher
	answers  *prometheus.CounterVec
	pushes   *prometheus.CounterVec
	streams  prometheus.Gauge
	settled  *prometheus.Desc
	perFunc  []perFunction
	mu       sync.Mutex
	function map[subjects.Function]struct{}
}

// perFunction is one figure of each function.
type perFunction struct {
	desc  *prometheus.Desc
	value func(load.Load) int
}

func newFigures(watcher *load.Watcher) *figures {
	const prefix = "confab_scaler_"
	gauge := func(name, help string, value func(load.Load) int) perFunction {
		return perFunction{prometheus.NewDesc(prefix+name, help, []string{"function"}, nil), value}
	}
	return &figures{
		watcher: watcher, function: map[subjects.Function]struct{}{},
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "answers_total", Help: "Answers to KEDA by method and gRPC code; a stream counts at its end.",
		}, []string{"method", "code"}),
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "pushes_total", Help: "How often KEDA was told that work waits.",
		}, []string{"function"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "streams", Help: "Open streams of KEDA."}),
		settled: prometheus.NewDesc(prefix+"settled", "1 when the scaler has listened to NATS for long enough to judge.", nil, nil),
		perFunc: []perFunction{
			gauge("instances", "Instances that are up.", func(l load.Load) int { return l.Instances }),
			gauge("held_calls", "Calls that callers hold and no instance has room for.", func(l load.Load) int { return l.Held }),
			gauge("peak_calls", "Calls at work or waiting in instances at once, at most, over the last second.", func(l load.Load) int { return l.Peak }),
			gauge("backlog_events", "Events and jobs that wait.", func(l load.Load) int { return l.Backlog }),
		},
	}
}

func (f *figures) register(to prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{f.answers, f.pushes, f.streams, f} {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("register figures: %w", err)
		}
	}
	return nil
}

// Describe names the figures that are read when they are asked for.
func (f *figures) Describe(to chan<- *prometheus.Desc) {
	to <- f.settled
	for _, p := range f.perFunc {
		to <- p.desc
	}
}

// Collect reads them.
func (f *figures) Collect(to chan<- prometheus.Metric) {
	settled := 0.0
	if f.watcher.Settled() {
		settled = 1
	}
	to <- prometheus.MustNewConstMetric(f.settled, prometheus.GaugeValue, settled)
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.function {
		l := f.watcher.Of(name)
		for _, p := range f.perFunc {
			to <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue, float64(p.value(l)), string(name))
		}
	}
}

// know adds a function to those that are shown.
func (f *figures) know(name subjects.Function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.function[name] = struct{}{}
}

func (f *figures) pushed(name subjects.Function) { f.pushes.WithLabelValues(string(name)).Inc() }

func (f *figures) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, request)
	f.answers.WithLabelValues(path.Base(info.FullMethod), status.Code(err).String()).Inc()
	return answer, err
}

func (f *figures) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	f.streams.Inc()
	defer f.streams.Dec()
	err := handle(server, stream)
	f.answers.WithLabelValues(path.Base(info.FullMethod), status.Code(err).String()).Inc()
	return err
}
