package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/natsserver"
	"github.com/confab-im/confab/deploy/ops"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/source"
	"github.com/confab-im/confab/edge"
	"github.com/confab-im/confab/jetstream"
)

// declareTimeout bounds the declaration of all streams and buckets, on an outside NATS server too.
const declareTimeout = time.Minute

// Run starts everything, writes the banner to out when clients can connect, and returns when ctx ends and all is drained, in the reverse order of the
// start. An error of any part ends the whole.
func Run(ctx context.Context, config Config, log *slog.Logger, out io.Writer) (err error) {
	if err := os.MkdirAll(config.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	release, err := lock(config.Data)
	if err != nil {
		return err
	}
	defer release()
	public, err := config.Edge.Open()
	if errors.Is(err, edges.ErrTaken) {
		return taken("listen", config.Edge.Listen)
	}
	if err != nil {
		return err
	}
	defer func() { _ = public.Close() }()

	s := &system{config: config, log: log, registry: ops.NewRegistry()}
	if err := s.openOwn(ctx); err != nil {
		return err
	}
	asked := ctx // ends when the end is wanted; what fails cancels only what follows
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	operators, err := s.serveOps(ctx, cancel)
	if err != nil {
		return err
	}
	profiles, err := s.serveProfiles(ctx, cancel)
	if err != nil {
		return err
	}
	if config.NATS.URL == "" {
		if err := s.startServer(ctx); err != nil {
			return err
		}
		defer s.stopServer()
		go func() { s.server.WaitForShutdown(); cancel(natsserver.ErrEnded) }() // ends at the latest with stopServer
		defer s.guard(ctx, cancel)()
		defer tend(ctx, uint64(config.CacheMiB)<<20)()
	}
	if err := s.declare(ctx, out); err != nil {
		if asked.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	// The functions outlive the edge, so that its last calls are answered.
	if err := s.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.serve(ctx, cancel, public, banner{ops: operators, profiles: profiles}, out); err != nil || asked.Err() != nil {
		return err
	}
	return context.Cause(ctx)
}

// system is what Run has started so far.
type system struct {
	config   Config
	log      *slog.Logger
	registry *prometheus.Registry
	server   *server.Server   // nil with an outside NATS server
	natsLog  natsserver.Log   // of server
	own      []source.Program // the functions in folders

	starting atomic.Pointer[string]           // what the start waits for, in words; nil = nothing
	store    atomic.Pointer[natsserver.Guard] // nil until there is an embedded server
	front    atomic.Pointer[edge.Edge]        // nil until there is one

	cancel   context.CancelFunc
	failed   chan error // why the first part ended that should not have; holds one
	running  []<-chan error
	dismiss  context.CancelFunc // ends the supervisor
	children <-chan error       // the result of the supervisor; nil = there is none
}

// declare makes the streams and buckets. On an outside server it makes them again after each reconnect until ctx ends: what such a server kept in memory is
// gone when it was restarted. The embedded one ends with this process.
func (s *system) declare(ctx context.Context, out io.Writer) error {
	nc, _, err := s.connect(natsconfig.Deployer)
	if err != nil {
		return err
	}
	if s.config.Cluster.several() {
		defer nc.Close()
		defer s.starting.Store(nil)
		return s.join(ctx, nc, out)
	}
	if s.server != nil {
		defer nc.Close()
		within, cancel := context.WithTimeout(ctx, declareTimeout)
		defer cancel()
		return s.declareAll(within, nc, jetstream.Profile{})
	}
	return s.keep(ctx, nc)
}

// declareAll makes the streams and buckets, and what functions need: consumers and a place in the registry.
func (s *system) declareAll(ctx context.Context, nc *nats.Conn, profile jetstream.Profile) error {
	manifests, err := s.manifests()
	if err != nil {
		return err
	}
	if err := jetstream.Declare(ctx, nc, profile); err != nil {
		return err
	}
	if err := s.unregisterFormer(ctx, nc); err != nil {
		return err
	}
	return manifest.Declare(ctx, nc, manifests)
}

// keep returns when everything has been declared once, and goes on in the background.
func (s *system) keep(ctx context.Context, nc *nats.Conn) error {
	within, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	if err := s.declareAll(within, nc, jetstream.Profile{}); err != nil {
		nc.Close()
		return err
	}
	go func() {
		defer nc.Close()
		failed := func(err error) { s.log.Error("streams and buckets not declared again", process.KeyErr, err) }
		if err := jetstream.Keep(ctx, nc, jetstream.Profile{}, failed); err != nil {
			failed(err)
		}
	}()
	return nil
}

// serve runs the edge until ctx ends or a part fails. Cancel ends ctx with what failed.
func (s *system) serve(ctx context.Context, cancel context.CancelCauseFunc, public edges.Listener, b banner, out io.Writer) error {
	nc, closed, err := s.connect(natsconfig.Edge)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, closing := process.WhileConnected(ctx, closed)
	defer closing(nil)
	front, err := s.config.Edge.New(public, nc, s.log, s.registry)
	if err != nil {
		return err
	}
	s.front.Store(front)
	edgeEnded := make(chan error, 1)
	go func() { edgeEnded <- front.Run(ctx) }()
	b.public = public.URL()
	go s.greet(ctx, cancel, front, b, out)
	select {
	case err := <-s.failed:
		cancel(err)
		return errors.Join(err, <-edgeEnded)
	case err := <-edgeEnded:
		if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	}
}

// serveOps opens the operators' listener, from the start on, and returns its address, "" where there is none. Should it fail, fail is called.
func (s *system) serveOps(ctx context.Context, fail context.CancelCauseFunc) (string, error) {
	if s.config.OpsListen == "" {
		return "", nil
	}
	listener, err := listen("ops-listen", s.config.OpsListen)
	if err != nil {
		return "", err
	}
	go func() {
		if err := ops.Serve(ctx, listener, s.registry, ops.Check{Name: "confab", Ready: s.started}, ops.Check{Name: "store", Ready: s.stores}, ops.Check{Name: "edge", Ready: s.ready}); err != nil {
			fail(err)
		}
	}()
	return listener.Addr().String(), nil
}

// serveProfiles opens the listener for profiles, from the start on, and returns its address, "" where there is none. Should it fail, fail is called.
func (s *system) serveProfiles(ctx context.Context, fail context.CancelCauseFunc) (string, error) {
	if s.config.Pprof == "" {
		return "", nil
	}
	listener, err := listen("pprof", s.config.Pprof)
	if err != nil {
		return "", err
	}
	go func() {
		if err := ops.ServeProfiles(ctx, listener); err != nil {
			fail(err)
		}
	}()
	return listener.Addr().String(), nil
}

// guard watches the store of the embedded server until the returned function is called; fail is called when the store takes no writes any more.
func (s *system) guard(ctx context.Context, fail context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g, ended := natsserver.NewGuard(s.server, s.log), make(chan struct{})
	s.store.Store(g)
	go func() {
		defer close(ended)
		if err := g.Run(ctx); err != nil {
			fail(err)
		}
	}()
	return func() { cancel(); <-ended }
}

// stores returns why the embedded server stores nothing.
func (s *system) stores() error {
	if g := s.store.Load(); g != nil {
		return g.Ready()
	}
	return nil
}

// started returns an error that says what the start still waits for.
func (s *system) started() error {
	if waits := s.starting.Load(); waits != nil {
		return errors.New(*waits)
	}
	return nil
}

// ready returns why clients cannot be served.
func (s *system) ready() error {
	front := s.front.Load()
	if front == nil {
		return errors.New("it is not started yet")
	}
	return front.Ready()
}
