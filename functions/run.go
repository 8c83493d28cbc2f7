package functions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// flushTimeout bounds each flush of a drain: a connection that works needs milliseconds.
const flushTimeout = 3 * time.Second

// byeHeard is how long an instance that said bye still takes calls, while callers hear it. Without that, a call that was sent meanwhile would
// find nobody, and with somebody who listens to everything would not even learn so.
const byeHeard = 50 * time.Millisecond

// Run runs one instance of a function until ctx ends or it was idle for opts.IdleTimeout, and drains it then: what was handed to the instance
// is answered before Run returns nil. It returns an error at once when the function or its constructor is broken, ErrDisconnected when the NATS connection is closed under it,
// and ErrDrainIncomplete when calls had to be cancelled. It does not close env.NATS.
func Run(ctx context.Context, f Function, env Env, opts Options) error {
	if err := f.Validate(); err != nil {
		return err
	}
	if err := connected(ctx, f, env); err != nil || ctx.Err() != nil {
		return err
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	in, err := newInstance(base, f, env, opts.withDefaults())
	if err != nil {
		return notStarted(f, env, err)
	}
	defer in.release()
	closed := in.nc.StatusChanged(nats.CLOSED)
	defer in.nc.RemoveStatusListener(closed)
	if err := in.start(ctx, cancel); err != nil {
		ended := ctx.Err() != nil
		if ended {
			in.log.Info("instance leaves: it was asked to end before it was up", "instance", in.env.Instance, "err", err)
		}
		if ended && in.subscribed && !in.nc.IsClosed() {
			return in.drain(cancel) // calls come to it already
		}
		in.abandon(cancel)
		if ended {
			return nil
		}
		return notStarted(f, env, err)
	}
	if !in.work(ctx, closed) {
		in.abandon(cancel)
		return fmt.Errorf("function %s: %w", f.Name, ErrDisconnected)
	}
	return in.drain(cancel)
}

// notStarted returns the error of an instance that could not be started. Where its connection was closed meanwhile that is why, whatever failed first.
func notStarted(f Function, env Env, err error) error {
	if env.NATS.IsClosed() {
		return fmt.Errorf("start function %s: %w: %w", f.Name, ErrDisconnected, err)
	}
	return fmt.Errorf("start function %s: %w", f.Name, err)
}

// connected returns when there is a connection for the first time, so that what is subscribed after it reaches the server. It returns nil
// when ctx ends, and ErrDisconnected for a connection that was closed.
func connected(ctx context.Context, f Function, env Env) error {
	changed := env.NATS.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer env.NATS.RemoveStatusListener(changed)
	for waited := false; !env.NATS.IsConnected(); waited = true {
		if env.NATS.IsClosed() {
			return fmt.Errorf("function %s: %w", f.Name, ErrDisconnected)
		}
		if !waited && env.Log != nil {
			env.Log.Info("waiting for nats", "function", string(f.Name))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// work returns true when the instance is to drain, because ctx has ended or nobody needs it, and false when its connection is closed. A call that
// comes after the decision is none that is lost: the drain answers it, or it is sent again.
func (in *instance) work(ctx context.Context, closed <-chan nats.Status) bool {
	var idle <-chan time.Time
	timer := time.NewTimer(in.opts.IdleTimeout)
	defer timer.Stop()
	if in.opts.IdleTimeout > 0 {
		idle = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			in.log.Info("instance leaves: it was asked to end", "instance", in.env.Instance)
			return true
		case <-closed:
			return false
		case <-idle:
			left := in.opts.IdleTimeout - in.activity.idle()
			if left <= 0 {
				in.log.Info("instance leaves: nobody called it", "instance", in.env.Instance, "timeout", in.opts.IdleTimeout)
				return true
			}
			timer.Reset(left)
		}
	}
}

// instance is one running function. Its goroutines are the beat, which ends with stopBeat, and the workers of the pool.
type instance struct {
	base      context.Context // ends when the drain is over or cancels what is still at work
	function  Function
	env       Env
	opts      Options
	nc        *nats.Conn
	log       *slog.Logger
	service   micro.Service
	pool      *pool
	announcer *announcer
	feed      *feed // nil where the function works on calls alone
	endpoints map[subjects.Method]*endpoint
	counters  map[subjects.Method]*counters
	answered  nats.Header // of every answer; nobody changes it
	activity  activity
	ownCaller bool

	subscribed bool // calls may come; base ends with the instance from then on, and not with the context of Run

	began time.Time    // when it had its connection
	ready atomic.Int64 // Unix nanoseconds of the first up; 0 = not yet
	cold  atomic.Int64 // calls within coldWindow of it
}

// newInstance fills in what the program left out and adds the micro service, which names the instance, without endpoints.
func newInstance(base context.Context, f Function, env Env, opts Options) (*instance, error) {
	in := &instance{
		base: base, function: f, env: env, opts: opts, nc: env.NATS, began: time.Now(),
		pool: newPool(opts.Concurrency, opts.Waiting), counters: map[subjects.Method]*counters{},
		endpoints: map[subjects.Method]*endpoint{},
	}
	for _, m := range f.handled() {
		in.counters[m.Name] = &counters{}
	}
	if in.env.Log == nil {
		in.env.Log = slog.New(slog.DiscardHandler)
	}
	in.env.Log = slog.New(LogHandler(in.env.Log.Handler())).With("function", string(f.Name))
	in.log = in.env.Log
	if in.env.Now == nil {
		in.env.Now = time.Now
	}
	service, err := micro.AddService(in.nc, micro.Config{
		Name: subjects.Service(f.Name), Version: opts.Version, Description: f.Description, QueueGroup: subjects.Service(f.Name),
		Metadata:     map[string]string{"confab.view": "nats micro info " + subjects.Service(f.Name)},
		StatsHandler: in.stats,
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) {
			in.log.Warn("error on a subscription", "subject", err.Subject, "err", err.Description)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("add the service of function %s: %w", f.Name, err)
	}
	in.service = service
	in.env.Instance = service.Info().ID
	in.answered = nats.Header{subjects.HeaderReply: {in.env.Instance}}
	in.announcer = newAnnouncer(in.nc, in.log, wire.InstanceUp{
		Function: f.Name, Instance: in.env.Instance, Description: f.Description, Concurrency: opts.Concurrency, Methods: f.instanceMethods(), Unit: opts.Unit,
	}, &in.activity)
	in.env.impair, in.env.prompts = in.announcer.impair, map[subjects.Method]Prompt{}
	if in.env.Caller == nil {
		in.ownCaller = true
		if in.env.Caller, err = NewCaller(in.nc, in.log); err != nil {
			_ = service.Stop()
			return nil, err
		}
	}
	return in, nil
}

// release gives back what newInstance made; it may follow a drain.
func (in *instance) release() {
	in.feed.close()
	if err := in.service.Stop(); err != nil && !in.nc.IsClosed() {
		in.log.Warn("service did not stop", "err", err)
	}
	if in.ownCaller {
		in.env.Caller.Close()
	}
}

// start calls the constructor, subscribes, and says up once the server has every subscription. ctx ends the wait for the constructor.
func (in *instance) start(ctx context.Context, cancel context.CancelFunc) error {
	detach := context.AfterFunc(ctx, cancel)
	handlers, err := in.function.New(in.base, in.env)
	if err != nil {
		return err
	}
	if !detach() {
		return context.Cause(ctx) // base has ended already
	}
	if err := in.function.check(handlers); err != nil {
		return err
	}
	for _, m := range in.function.handled() {
		in.endpoints[m.Name] = &endpoint{instance: in, method: m, handler: handlers[m.Name], counters: in.counters[m.Name], lane: m.lane(), prompt: in.env.prompts[m.Name]}
	}
	in.subscribed = true
	for _, m := range in.function.Methods {
		if err := in.addEndpoint(in.endpoints[m.Name]); err != nil {
			return fmt.Errorf("add endpoint %s: %w", m.Name, err)
		}
	}
	if in.function.works() {
		if in.feed, err = newFeed(in); err != nil {
			return err
		}
	}
	in.activity.up()
	if err := in.announcer.start(ctx); err != nil {
		return err
	}
	in.ready.Store(time.Now().UnixNano())
	in.feed.start()
	in.log.Info("instance ready", "instance", in.env.Instance, "took", time.Since(in.began))
	if in.opts.Ready != nil {
		in.opts.Ready(in.env.Instance)
	}
	return nil
}

func (in *instance) addEndpoint(e *endpoint) error {
	m := e.method
	subject := subjects.RPC(in.function.Name, m.Name)
	return in.service.AddEndpoint(string(m.Name), micro.HandlerFunc(e.handle),
		micro.WithEndpointSubject(subject),
		micro.WithEndpointMetadata(map[string]string{
			"description": m.Description,
			"public":      strconv.FormatBool(m.Public),
			"anonymous":   strconv.FormatBool(m.Anonymous),
			"idempotent":  strconv.FormatBool(m.Idempotent),
			"passive":     strconv.FormatBool(m.Passive),
			"timeout":     m.timeout().String(),
			"confab.view": "nats req " + subject + " '{}'",
		}))
}

func (in *instance) stats(e *micro.Endpoint) any {
	c := in.counters[subjects.Method(e.Name)]
	if c == nil {
		return nil
	}
	s := c.stats()
	for _, m := range in.function.Methods {
		s.Passive = s.Passive || m.Name == subjects.Method(e.Name) && m.Passive
	}
	s.Working, s.Waiting = in.pool.load(in.opts.Waiting)
	s.IdleMS = in.activity.idle().Milliseconds()
	s.Cold = in.cold.Load()
	if !in.opts.Began.IsZero() {
		s.ConnectMS = milliseconds(in.began.Sub(in.opts.Began))
	}
	if ready := in.ready.Load(); ready != 0 {
		s.ReadyMS = milliseconds(time.Unix(0, ready).Sub(in.began))
	}
	if in.opts.Violations != nil {
		s.Violations = in.opts.Violations()
	}
	return s
}

// touch notes a call that came, for the count of those that had waited for the instance.
func (in *instance) touch(now time.Time) {
	if ready := in.ready.Load(); ready == 0 || now.UnixNano()-ready < int64(coldWindow) {
		in.cold.Add(1)
	}
}

// drain ends the instance so that nothing handed to it is lost: say bye, let it be heard, unsubscribe, wait until the server and then the client library
// have handed over all they had, wait for the workers, and flush the answers. Each step is bounded by the drain's time; micro's own Stop and
// the connection's Drain do not wait for workers.
func (in *instance) drain(cancel context.CancelFunc) error {
	began := time.Now()
	ctx, done := context.WithTimeout(in.base, in.opts.DrainTimeout)
	defer done()
	in.announcer.stop()
	in.feed.hush()
	in.flush()
	select {
	case <-time.After(byeHeard):
	case <-ctx.Done():
	}
	if err := in.service.Stop(); err != nil {
		in.log.Warn("service did not stop", "err", err)
	}
	in.feed.unsubscribe()
	// The answer to this flush comes after every message that the server sent before it forgot the subscriptions.
	in.flush()
	handedOver := make(chan struct{})
	if err := in.nc.Barrier(func() { close(handedOver) }); err == nil {
		select {
		case <-handedOver:
		case <-ctx.Done():
		}
	}
	in.feed.refuse()
	var err error
	select {
	case <-in.pool.drained():
	case <-ctx.Done():
		working, waiting := in.pool.load(in.opts.Waiting)
		err = fmt.Errorf("function %s: %w: %d at work, %d waiting", in.function.Name, ErrDrainIncomplete, working, waiting)
		in.abandon(cancel)
	}
	in.flush()
	in.log.Info("instance drained", "instance", in.env.Instance, "took", time.Since(began))
	return err
}

// flush waits until the server has everything, for at most flushTimeout: without a connection there is nobody to wait for.
func (in *instance) flush() {
	ctx, done := context.WithTimeout(context.WithoutCancel(in.base), flushTimeout)
	defer done()
	if err := in.nc.FlushWithContext(ctx); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		in.log.Warn("flush of a drain", "err", err)
	}
}

// abandon cancels what is at work and waits for it: handlers must return when their context ends.
func (in *instance) abandon(cancel context.CancelFunc) {
	in.announcer.stop()
	in.feed.refuse()
	if err := in.service.Stop(); err != nil && !in.nc.IsClosed() {
		in.log.Warn("service did not stop", "err", err)
	}
	cancel()
	<-in.pool.drained()
}
