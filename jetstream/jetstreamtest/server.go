// Package jetstreamtest runs a real NATS server with JetStream inside a test: its own port, its own directory, gone when the test ends.
// There is no mock of NATS in confab; whatever keeps or reads state is tested against this.
//
// It is the only package beside deploy that may import nats-server, and only tests import it.
package jetstreamtest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
)

// startTimeout bounds the start and the stop of a server, and the declaration of the store, also on a machine that is busy.
const startTimeout = 30 * time.Second

// Server is an embedded NATS server of one test.
type Server struct {
	URL string // where clients connect; it stays the same over Restart

	options  *server.Options
	server   *server.Server
	declared bool

	mu          sync.Mutex
	connections []*nats.Conn // of Connect, the closed ones too
}

// Option changes how Start runs the server.
type Option func(*server.Options)

// Synced makes the server sync every write to the disk before it answers, as the product does. Tests are faster without, and lose
// nothing, as long as the machine stays up.
func Synced() Option { return func(o *server.Options) { o.SyncAlways = true } }

// OfCluster has the server tell those who connect that it is one of a cluster, so that stores ask leaders, as they do where there are several servers.
func OfCluster() Option { return func(o *server.Options) { o.Cluster.Name = "test" } }

// Configure lets a test change the options of the server, such as its users and limits.
func Configure(change func(*server.Options)) Option { return change }

// Start runs a server with JetStream on a free port of the loopback interface, which stops when the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{options: &server.Options{
		ServerName: "test",
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		JetStream:  true,
		StoreDir:   t.TempDir(),
		NoLog:      true,
		NoSigs:     true,
	}}
	for _, option := range options {
		option(s.options)
	}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// Restart stops the server and starts it again on the same port with the same data. It returns when the connections of Connect have found
// it. If the store was declared before, it is again, as the product does: what lives in memory is gone with a server that ran alone.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.start(t)
	s.mu.Lock()
	before := slices.Clone(s.connections)
	s.mu.Unlock()
	for _, nc := range before {
		s.awaitReconnect(t, nc)
	}
	if s.declared {
		nc := s.Connect(t)
		defer nc.Close()
		s.declare(t, nc)
	}
}

// Stop stops the server until Restart, for tests of what happens without a store.
func (s *Server) Stop(testing.TB) { s.stop() }

// Connect returns a connection that reconnects for ever and is closed when the test ends. As in the programs, nothing is buffered while
// disconnected: a request of before a restart that left after it would change what the test looks at.
func (s *Server) Connect(t testing.TB, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(10 * time.Millisecond),
		nats.ReconnectJitter(5*time.Millisecond, 5*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.Timeout(startTimeout),
	}, options...)
	nc, err := nats.Connect(s.URL, options...)
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	t.Cleanup(nc.Close)
	s.mu.Lock()
	s.connections = append(s.connections, nc)
	s.mu.Unlock()
	return nc
}

// awaitReconnect returns when a connection speaks to the server that runs now, or is closed for good.
func (s *Server) awaitReconnect(t testing.TB, nc *nats.Conn) {
	t.Helper()
	changed := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)
	timeout := time.After(startTimeout)
	for !nc.IsClosed() && nc.ConnectedServerId() != s.server.ID() {
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("a connection did not find the test server again within %v: %v", startTimeout, nc.LastError())
		}
	}
}

// Store returns a store on a connection of its own, after all assets were declared in their standalone form.
func (s *Server) Store(t testing.TB) *jetstream.Store {
	t.Helper()
	return s.StoreOn(t, s.Connect(t))
}

// StoreOn returns a store on a given connection, after all assets were declared in their standalone form.
func (s *Server) StoreOn(t testing.TB, nc *nats.Conn) *jetstream.Store {
	t.Helper()
	s.declare(t, nc)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(store.Close)
	return store
}

func (s *Server) declare(t testing.TB, nc *nats.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := jetstream.Declare(ctx, nc, jetstream.Profile{}); err != nil {
		t.Fatalf("declare the store: %v", err)
	}
	s.declared = true
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	// The server fills in defaults; a copy keeps what the test asked for.
	running, err := server.NewServer(s.options.Clone())
	if err != nil {
		t.Fatalf("make the test server: %v", err)
	}
	running.Start()
	if !running.ReadyForConnections(startTimeout) {
		running.Shutdown()
		t.Fatal("the test server did not start")
	}
	s.server = running
	s.URL = running.ClientURL()
	s.options.Port = running.Addr().(*net.TCPAddr).Port
}

func (s *Server) stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
