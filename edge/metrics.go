package edge

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/subjects/wire"
)

// metrics are what operators see of an edge. No label holds what a client chose: calls are those that functions offer, codes a closed set.
type metrics struct {
	calls       *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	closes      *prometheus.CounterVec
	unsure      *prometheus.CounterVec
	deliveries  prometheus.Counter
	fills       prometheus.Counter
	resyncs     prometheus.Counter
	badLines    prometheus.Counter
	limited     prometheus.Counter
	connections prometheus.GaugeFunc
	users       prometheus.GaugeFunc
	followed    prometheus.GaugeFunc
}

func newMetrics(e *Edge) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "confab_edge_" + name, Help: help})
	}
	gauge := func(name, help string, read func() int) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "confab_edge_" + name, Help: help}, func() float64 { return float64(read()) })
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "confab_edge_" + name, Help: help}, labels)
	}
	return &metrics{
		calls: vector("calls_total", "Calls of clients, by call and by code; the code of an ok is ok.", "call", "code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "confab_edge_call_seconds", Help: "Time from a call's frame to its answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 12),
		}, []string{"call"}),
		closes:      vector("closes_total", "Ended sockets, by close code; 0 where the client was gone.", "code"),
		unsure:      vector("unsure_total", "How often everything was checked anew, by reason.", "reason"),
		deliveries:  counter("deliveries_total", "Entries queued to sockets."),
		fills:       counter("fills_total", "Reads of entries that did not come live."),
		resyncs:     counter("resyncs_total", "Users whose clients were told to resynchronise."),
		badLines:    counter("bad_lines_total", "Lines that were no frames."),
		limited:     counter("limited_total", "Lines refused for coming too fast."),
		connections: gauge("connections", "Open sockets.", func() int { return int(e.count.Load()) }),
		users:       gauge("users", "Users with sockets here.", e.users.count),
		followed:    gauge("conversations", "Conversations followed here.", e.conversations.count),
	}
}

// register registers all metrics, or none and returns why.
func (m *metrics) register(registry prometheus.Registerer) error {
	var done []prometheus.Collector
	for _, c := range []prometheus.Collector{
		m.calls, m.seconds, m.closes, m.unsure, m.deliveries, m.fills, m.resyncs, m.badLines, m.limited, m.connections, m.users, m.followed,
	} {
		if err := registry.Register(c); err != nil {
			for _, c := range done {
				registry.Unregister(c)
			}
			return errors.Join(errors.New("register metrics"), err)
		}
		done = append(done, c)
	}
	return nil
}

// call counts a call; an empty code is an ok.
func (m *metrics) call(name string, code wire.Code) {
	if code == "" {
		code = "ok"
	}
	m.calls.WithLabelValues(name, string(code)).Inc()
}

// took counts a call and its time.
func (m *metrics) took(name string, code wire.Code, d time.Duration) {
	m.call(name, code)
	m.seconds.WithLabelValues(name).Observe(d.Seconds())
}

func (m *metrics) closed(code wire.CloseCode) {
	m.closes.WithLabelValues(strconv.Itoa(int(code))).Inc()
}
