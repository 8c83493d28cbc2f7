package edge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
)

// Edge serves clients between New and the end of Run.
type Edge struct {
	cfg     Config
	log     *slog.Logger
	origins []string // as parseOrigin writes them
	born    time.Time
	caller  *functions.Caller
	metrics *metrics

	poller        *poller // nil where each socket keeps a reader
	readers       readers
	workers       workers
	framings      framings
	paces         paces
	flushers      flushers
	laggards      laggards
	wheel         wheel
	feeds         feeds
	sockets       sockets
	addresses     addresses
	strangers     strangers
	identities    identities
	arrivals      arrivals
	users         users
	conversations conversations
	heard         heard
	presence      presence
	searches      searches

	count    atomic.Int64 // sockets, also those in the handshake
	queued   atomic.Int64 // bytes that wait to be written to all sockets
	serving  atomic.Bool
	draining atomic.Bool

	doubts  chan string   // reasons to check everything anew
	pollNow chan struct{} // auth is asked for revocations at once
	filling chan struct{} // holes being filled
	loads   chan struct{} // memberships being read again
	hellos  chan struct{} // hellos being worked on
	leaving chan struct{} // closed when the drain begins

	mu         sync.Mutex
	ended      bool                        // nothing may be started any more
	run        func(func(context.Context)) // runs something in the background with the context of Run's work; set once by Run
	background sync.WaitGroup
}

// New returns an edge that does not serve yet. It listens where Config has no listener; the error says what is wrong with the Config, or why
// the address or the metrics cannot be had.
func New(cfg Config) (*Edge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	e := &Edge{
		cfg: cfg, log: cfg.Log, feeds: newFeeds(), laggards: newLaggards(),
		doubts: make(chan string, 1), pollNow: make(chan struct{}, 1),
		filling: make(chan struct{}, fillsAtOnce), loads: make(chan struct{}, loadsAtOnce),
		hellos: make(chan struct{}, hellosAtOnce), leaving: make(chan struct{}),
	}
	for _, origin := range cfg.Origins {
		u, _ := parseOrigin(origin) // Validate has read it
		e.origins = append(e.origins, u.String())
	}
	e.sockets.open = map[*socket]struct{}{}
	e.paces = e.cfg.Limits.paces()
	e.addresses = addresses{limits: &e.cfg.Limits, pace: e.paces.address, known: map[string]*address{}}
	e.strangers = strangers{known: map[subjects.User]taken{}}
	e.arrivals = e.newArrivals()
	e.identities.known = map[[sha256.Size]byte]identity{}
	e.users.known = map[subjects.User]*user{}
	e.conversations = conversations{edge: e, known: map[subjects.Conversation]*conversation{}}
	e.presence = presence{
		edge: e, own: cfg.Name, followed: map[subjects.User]*followed{}, leases: map[subjects.Edge]lease{}, unsaid: unheard{},
	}
	e.searches.failed = map[subjects.Function]time.Time{}
	e.readers = readers{edge: e, turns: make(chan *socket)}
	e.flushers.some.L = &e.flushers.mu
	e.wheel.tick = int64(rightNow()) / int64(wheelTick)
	e.metrics = newMetrics(e)
	if cfg.Registry != nil {
		if err := e.metrics.register(cfg.Registry); err != nil {
			return nil, err
		}
	}
	if cfg.Listener == nil {
		listener, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen for clients: %w", err)
		}
		e.cfg.Listener = listener
	}
	return e, nil
}

// Run makes an edge and serves until ctx ends and all is drained.
func Run(ctx context.Context, cfg Config) error {
	e, err := New(cfg)
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

// Addr returns the address that clients connect to.
func (e *Edge) Addr() net.Addr { return e.cfg.Listener.Addr() }

// Ready returns nil while the edge can serve clients, and otherwise what it lacks.
func (e *Edge) Ready() error {
	switch {
	case e.draining.Load():
		return errors.New("the edge drains")
	case !e.serving.Load():
		return errors.New("the edge does not serve yet")
	case !e.cfg.NATS.IsConnected():
		return errors.New("there is no connection to NATS")
	}
	for _, needed := range []struct {
		f subjects.Function
		m subjects.Method
	}{{funcAuth, "verify"}, {funcConversations, "mine"}, {funcHistory, "check"}} {
		if _, known := e.caller.Method(needed.f, needed.m); !known {
			return fmt.Errorf("no instance of the function %s has been heard of", needed.f)
		}
	}
	if reason := e.caller.Impaired(funcSend); reason != "" {
		return fmt.Errorf("nothing can be sent: %s", reason)
	}
	return nil
}

// CutOff reports whether nothing can be stored as far as the edge hears: all instances of send say so, or those that were up are not heard any more. Its NATS server may have lost
// the others of its cluster.
func (e *Edge) CutOff() bool {
	return e.serving.Load() && (e.caller.Impaired(funcSend) != "" || e.caller.Lost(funcSend))
}

// Run serves clients until ctx ends or an operator asks for the end, and drains then: it accepts nobody any more, tells the clients,
// answers the open calls and closes the sockets over the drain window. It returns nil after a drain, and an error when it could not
// serve. It may be called once.
func (e *Edge) Run(ctx context.Context) error {
	defer func() { _ = e.cfg.Listener.Close() }() // the HTTP server has closed it already, where it came so far
	caller, err := functions.NewCaller(e.cfg.NATS, e.log)
	if err != nil {
		return fmt.Errorf("begin to call functions: %w", err)
	}
	defer caller.Close()
	e.caller = caller
	e.born = time.Now()
	// What serves sockets outlives ctx, until the drain is over.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.run = func(f func(context.Context)) { e.background.Go(func() { f(work) }) }
	defer e.end(stop)
	ctx, drain := context.WithCancel(ctx)
	defer drain()
	if err := e.listenControl(drain); err != nil {
		return fmt.Errorf("subscribe to requests: %w", err)
	}
	unsubscribe, err := e.subscribe()
	defer unsubscribe()
	if err != nil {
		return fmt.Errorf("subscribe to what is direct: %w", err)
	}
	e.startAll()
	server := e.server(e.serve)
	server.ErrorLog = slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(e.cfg.Listener) }()
	e.serving.Store(true)
	e.log.Info("edge serves", "address", e.cfg.Listener.Addr().String())
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	e.draining.Store(true)
	close(e.leaving)
	if err == nil {
		shut := make(chan struct{})
		go func() { e.shutHTTP(work, server.Shutdown); close(shut) }()
		e.drainSockets()
		<-shut
		<-failed // it has ended with the shutdown
	} else {
		err = fmt.Errorf("serve clients: %w", err)
		e.drainSockets()
	}
	e.flush(work)
	return err
}

// end stops what runs in the background and waits for it.
func (e *Edge) end(stop context.CancelFunc) {
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
	stop()
	e.background.Wait()
}

// start runs f in the background, unless the edge has ended; it reports whether it does. The context of f ends when the drain is over: what
// f does outlives the call that was the reason for it.
func (e *Edge) start(f func(context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return false
	}
	e.run(f)
	return true
}

// startAll starts the edge's own goroutines.
func (e *Edge) startAll() {
	e.startPoller()
	for range runtime.GOMAXPROCS(0) {
		e.start(e.flushers.run)
	}
	out := newFanOut(e, runtime.GOMAXPROCS(0))
	for _, lane := range out.lanes {
		e.start(func(ctx context.Context) { out.work(ctx, lane) })
	}
	doubt := func(f *feed) func() { return func() { e.unsure(f.name + " overflow") } }
	e.start(func(ctx context.Context) {
		e.feeds.live.drain(ctx, func(m *nats.Msg) { out.route(ctx, m) }, doubt(&e.feeds.live))
	})
	e.start(func(ctx context.Context) {
		e.feeds.users.drain(ctx, e.onUserEvent, doubt(&e.feeds.users))
	})
	e.start(func(ctx context.Context) { e.feeds.signals.drain(ctx, e.onSignal, func() {}) }) // what is lost of signals stays lost
	e.start(func(ctx context.Context) { e.feeds.presence.drain(ctx, e.presence.handle, e.presence.rereadSoon) })
	for _, f := range []func(context.Context){e.laggards.run, e.watchHeads, e.watchConnection, e.pollRevocations, e.pulse, e.presence.beat, e.presence.keep} {
		e.start(f)
	}
}

// startPoller begins to watch parked sockets, where the system can.
func (e *Edge) startPoller() {
	if e.cfg.KeepReaders {
		return
	}
	p, err := newPoller()
	if err != nil {
		e.log.Info("each connection keeps a goroutine", "err", err)
		return
	}
	e.poller = p
	e.start(func(ctx context.Context) {
		stop := context.AfterFunc(ctx, p.close)
		defer stop()
		if err := p.run(); err != nil && ctx.Err() == nil {
			e.log.Error("connections are no longer watched", "err", err)
		}
	})
}

// subscribe subscribes to what is followed whoever is here. Events of users and records of devices come of all users, for a subscription each
// would cost more memory here and in the server than all else of an idle connection.
func (e *Edge) subscribe() (unsubscribe func(), err error) {
	var subs []*nats.Subscription
	unsubscribe = func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // fails only on a closed connection
		}
	}
	for _, s := range []struct {
		subject string
		feed    *feed
	}{
		{subjects.AllLiveDirect, &e.feeds.live},
		{subjects.AllSignalDirect, &e.feeds.signals},
		{subjects.AllUserEvents, &e.feeds.users},
		{subjects.AllLeases, &e.feeds.presence},
		{subjects.AllDevices, &e.feeds.presence},
	} {
		sub, err := e.cfg.NATS.ChanSubscribe(s.subject, s.feed.messages)
		if err != nil {
			return unsubscribe, err
		}
		subs = append(subs, sub)
	}
	return unsubscribe, nil
}

// watchConnection has everything checked after each reconnect to NATS: what was said meanwhile did not come.
func (e *Edge) watchConnection(ctx context.Context) {
	connected := e.cfg.NATS.StatusChanged(nats.CONNECTED)
	defer e.cfg.NATS.RemoveStatusListener(connected)
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-connected:
			if !ok {
				return // the connection was closed for good
			}
			select {
			case e.pollNow <- struct{}{}:
			default:
			}
			e.presence.renewLease() // at once: it may be about to run out
			e.unsure("reconnect")
		}
	}
}

// serve begins with a socket, unless the edge has ended.
func (e *Edge) serve(s *socket) {
	if !e.sockets.add(s) {
		s.line.close()
		e.addresses.disconnect(s.address)
		e.count.Add(-1)
		return
	}
	s.open()
}

// leave forgets a socket that ends.
func (e *Edge) leave(s *socket) {
	e.addresses.disconnect(s.address)
	e.count.Add(-1)
	e.presence.forget(s)
	if sess := s.session.Load(); sess != nil {
		left := e.detach(s, sess)
		e.presence.leave(sess, left)
	}
}

// flush sends what the connection still buffers, so that the departures of the last devices are written.
func (e *Edge) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := e.cfg.NATS.FlushWithContext(ctx); err != nil {
		e.log.Warn("the last words were not sent", "err", err)
	}
}
