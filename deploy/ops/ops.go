// Package ops serves what operators and probes ask a program over HTTP: /livez, /readyz and /metrics, on a listener of its own that clients never reach.
//
// What ready means is decided by the program; this package only asks.
package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one condition of readiness; its error is shown to operators.
type Check struct {
	Name  string
	Ready func() error
}

// NewRegistry returns a registry with the figures of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Start opens address and serves there until ctx ends; an empty address means nowhere. Should serving fail later, fail is called with the error.
func Start(ctx context.Context, address string, fail func(error), registry *prometheus.Registry, checks ...Check) error {
	if address == "" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("ops-listen: %w", err)
	}
	go func() {
		if err := Serve(ctx, listener, registry, checks...); err != nil {
			fail(err)
		}
	}()
	return nil
}

// Serve answers on the listener until ctx ends. /livez says that the process runs, /readyz that every check passes (503 and the first error otherwise).
func Serve(ctx context.Context, listener net.Listener, registry *prometheus.Registry, checks ...Check) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, checks) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return serveUntil(ctx, listener, mux)
}

// serveUntil serves until ctx ends.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

// ServeProfiles answers on the listener, under /debug/pprof/, what go tool pprof and go tool trace read of this process, until ctx ends. Whoever can reach it sees names and figures of what is in memory.
func ServeProfiles(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return serveUntil(ctx, listener, mux)
}

// ready asks all checks before it answers: what stands in front of the first that fails must not decide the status.
func ready(w http.ResponseWriter, r *http.Request, checks []Check) {
	var passed strings.Builder
	for _, check := range checks {
		if err := check.Ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "%s%s: %v\n", passed.String(), check.Name, err)
			return
		}
		if r.URL.Query().Has("verbose") {
			fmt.Fprintf(&passed, "%s: ok\n", check.Name)
		}
	}
	fmt.Fprintf(w, "%sok\n", passed.String())
}

// Violations registers the counter of what a NATS server refused its users, by the names of users.
func Violations(registry *prometheus.Registry) *prometheus.CounterVec {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "confab_nats_permission_violations_total", Help: "Subjects that the NATS server refused, by user; there should be none.",
	}, []string{"user"})
	registry.MustRegister(refused)
	return refused
}

// OwnViolations registers the same counter for a program that knows only what was refused to itself; user is the NATS user that it is.
func OwnViolations(registry *prometheus.Registry, user string, count func() uint64) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "confab_nats_permission_violations_total", Help: "Subjects that the NATS server refused to this program; there should be none.",
		ConstLabels: prometheus.Labels{"user": user},
	}, func() float64 { return float64(count()) }))
}
