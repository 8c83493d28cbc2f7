// Package scaler tells KEDA how many instances of each function there should be: it answers the protocol of external push scalers with what
// package load hears. It holds no state of its own, so that any number of replicas run side by side without knowing of each other, and one that is
// killed loses nothing: callers repeat every second what they hold.
//
// It never says that a function is broken. From here a start that takes minutes, for an image that is pulled or a machine that is added,
// looks like one that never comes; Kubernetes knows the difference and shows it, and callers hold no call for longer than they should.
package scaler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/deploy/scaler/externalscaler"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// DefaultIdle is for how long a function that nobody calls keeps its instances, where neither the trigger nor Config says so.
const DefaultIdle = time.Minute

// Bounds of the gRPC server: its only clients are the replicas of KEDA's operator, with one stream an object.
const (
	maxRequest   = 64 << 10 // bytes
	maxStreams   = 4096     // a connection
	pingEvery    = 10 * time.Second
	pingTimeout  = 5 * time.Second
	stopPatience = 5 * time.Second // for requests that are being answered at the end
)

// Config is what a Scaler needs.
type Config struct {
	NATS     *nats.Conn            // open; it stays the program's
	Log      *slog.Logger          // nil = none
	Registry prometheus.Registerer // for its figures; nil = nowhere
	TLS      *tls.Config           // nil = plain text
	Idle     time.Duration         // 0 = DefaultIdle
}

// Scaler answers KEDA's operators.
type Scaler struct {
	externalscaler.UnimplementedExternalScalerServer

	config   Config
	log      *slog.Logger
	watcher  *load.Watcher
	registry *registry
	edges    *edges
	figures  *figures
	count    chan subjects.Function // whose events and jobs are to be counted; when it is full the next poll asks again
	stopping chan struct{}          // closed when streams must end
}

// New returns a Scaler that listens on NATS, and not yet to KEDA. Run, or Close without it, ends that.
func New(config Config) (*Scaler, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Idle <= 0 {
		config.Idle = DefaultIdle
	}
	watcher, err := load.New(config.NATS, config.Log)
	if err != nil {
		return nil, fmt.Errorf("watch functions: %w", err)
	}
	registry, err := newRegistry(config.NATS, config.Log)
	if err != nil {
		watcher.Close()
		return nil, fmt.Errorf("subscribe to the registry: %w", err)
	}
	s := &Scaler{
		config: config, log: config.Log, watcher: watcher, registry: registry, edges: newEdges(config.NATS, config.Log),
		figures: newFigures(watcher),
		count:   make(chan subjects.Function, 16), stopping: make(chan struct{}),
	}
	if config.Registry != nil {
		if err := s.figures.register(config.Registry); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close ends what New began, for a Scaler that was never run.
func (s *Scaler) Close() {
	s.edges.close()
	s.registry.close()
	s.watcher.Close()
}

// Ready returns why the scaler's answers cannot be relied on, or nil.
func (s *Scaler) Ready() error {
	switch {
	case !s.config.NATS.IsConnected():
		return errors.New("not connected to NATS")
	case !s.watcher.Settled():
		return errors.New("has not listened to NATS for long enough")
	}
	return nil
}

// Run answers on the listener, which it closes, until ctx ends. Streams then end as KEDA expects it of a scaler that restarts, so that it does
// not back off. The error is that of the listener.
func (s *Scaler) Run(ctx context.Context, listener net.Listener) error {
	defer s.Close()
	transport := insecure.NewCredentials()
	if s.config.TLS != nil {
		transport = credentials.NewTLS(s.config.TLS)
	}
	server := grpc.NewServer(
		grpc.Creds(transport), grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTimeout, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.figures.unary), grpc.StreamInterceptor(s.figures.stream),
	)
	externalscaler.RegisterExternalScalerServer(server, s)
	checks := health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, checks)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	for ctx.Err() == nil {
		select {
		case f := <-s.count:
			s.watcher.Count(ctx, f, s.backlog)
		case err := <-served:
			server.Stop()
			return fmt.Errorf("serve KEDA: %w", err)
		case <-ctx.Done():
		}
	}
	checks.Shutdown()
	close(s.stopping)
	late := time.AfterFunc(stopPatience, server.Stop)
	defer late.Stop()
	server.GracefulStop()
	<-served
	return nil
}

// known returns what a trigger speaks of, or an error with a status for KEDA. Functions that events and jobs wake are counted for from
// then on.
func (s *Scaler) known(ctx context.Context, ref *externalscaler.ScaledObjectRef) (trigger, error) {
	t, err := s.parse(ref)
	if err != nil || t.function == "" {
		return t, err
	}
	record, found, err := s.registry.find(ctx, t.function)
	heard := s.watcher.Of(t.function)
	switch {
	case found:
		if t.concurrency == 0 {
			t.concurrency = record.Concurrency
		}
		if len(record.Events) > 0 || record.Jobs {
			select {
			case s.count <- t.function:
			default:
			}
		}
	case err != nil:
		// A scaler must wake functions also while the store is away.
		s.log.Debug("registry not read", "function", string(t.function), "err", err)
	case heard.Instances == 0 && t.concurrency == 0:
		return trigger{}, unknown(t.function)
	}
	if t.concurrency == 0 {
		t.concurrency = heard.Concurrency
	}
	s.figures.know(t.function)
	return t, nil
}

func (s *Scaler) backlog(ctx context.Context, f subjects.Function) (int, error) {
	return jetstream.Backlog(ctx, s.config.NATS, f)
}
