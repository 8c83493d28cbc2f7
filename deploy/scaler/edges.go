package scaler

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	edgesSettled = 4 * time.Second // edges renew their leases every three
	edgePatience = time.Second     // for an edge's answer; then what it said before counts
	mostEdges    = 4096            // more are not remembered
)

// edges counts the connections of all edges, for those who scale them. It learns of edges from their leases, from the first question on, and asks each of
// them. The client library's goroutine takes leases in; mu guards what follows it.
type edges struct {
	nc  *nats.Conn
	log *slog.Logger

	mu    sync.Mutex
	sub   *nats.Subscription
	since time.Time // when it began to listen; zero = nobody has asked yet
	known map[subjects.Edge]edge
	ended bool
}

// edge is what is known of one edge.
type edge struct {
	until       time.Time // the end of its lease
	connections int       // as it said last
}

func newEdges(nc *nats.Conn, log *slog.Logger) *edges {
	return &edges{nc: nc, log: log, known: map[subjects.Edge]edge{}}
}

// connections returns how many there are over all edges; it is not sure before it has listened for a while.
func (e *edges) connections(ctx context.Context) (sum int, sure bool, err error) {
	names, sure, err := e.standing()
	if err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, edgePatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() { e.ask(ctx, name) })
	}
	wg.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, known := range e.known {
		sum += known.connections
	}
	return sum, sure && e.nc.IsConnected(), nil
}

// standing returns the edges whose leases stand, and begins to listen.
func (e *edges) standing() (names []subjects.Edge, sure bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.sub == nil && !e.ended {
		if e.sub, err = e.nc.Subscribe(subjects.AllLeases, e.heard); err != nil {
			return nil, false, err
		}
		e.since = now
	}
	for name, known := range e.known {
		if now.After(known.until) {
			delete(e.known, name)
			continue
		}
		names = append(names, name)
	}
	return names, now.Sub(e.since) >= edgesSettled, nil
}

// heard takes in a lease. A removal of one has no body.
func (e *edges) heard(msg *nats.Msg) {
	var lease wire.Lease
	if err := json.Unmarshal(msg.Data, &lease); err != nil || lease.Edge == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	known, there := e.known[lease.Edge]
	if !there && len(e.known) >= mostEdges {
		return
	}
	known.until = time.Now().Add(wire.LeaseTTL)
	e.known[lease.Edge] = known
}

// ask notes how many connections an edge has. One that does not answer keeps what it said before, until its lease ends.
func (e *edges) ask(ctx context.Context, name subjects.Edge) {
	answer, err := e.nc.RequestWithContext(ctx, subjects.EdgeRequest(name, subjects.EdgeStats), nil)
	if err != nil {
		e.log.Debug("edge does not answer", "edge", string(name), "err", err)
		return
	}
	var stats wire.EdgeStats
	if err := json.Unmarshal(answer.Data, &stats); err != nil || stats.Edge != name || stats.Connections < 0 {
		e.log.Debug("answer of an edge cannot be read", "edge", string(name))
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, there := e.known[name]; there {
		known.connections = stats.Connections
		e.known[name] = known
	}
}

func (e *edges) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	if e.sub != nil {
		_ = e.sub.Unsubscribe() // fails only where the connection has forgotten it already
	}
}
