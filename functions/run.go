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

// Run runs one instance of a function until ctx ends, and drains it then: what was handed to the instance is answered before Run returns
// nil. It returns an error at once when the function or its constructor is broken, ErrDisconnected when the NATS connection is closed under it,
// and ErrDrainIncomplete when calls had to be cancelled. It does not close env.NATS.
func Run(ctx context.Context, f Function, env Env, opts Options) error {
	if err := f.Validate(); err != nil {
		return err
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	in, err := newInstance(base, f, env, opts.withDefaults())
	if err != nil {
		return err
	}
	defer in.release()
	closed := in.nc.StatusChanged(nats.CLOSED)
	defer in.nc.RemoveStatusListener(closed)
	if err := in.start(ctx, cancel); err != nil {
		in.abandon(cancel)
		if ctx.Err() != nil {
			in.log.Info("instance stopped before it was ready", "err", err)
			return nil
		}
		return fmt.Errorf("start function %s: %w", f.Name, err)
	}
	select {
	case <-ctx.Done():
		return in.drain(cancel)
	case <-closed:
		in.abandon(cancel)
		return fmt.Errorf("function %s: %w", f.Name, ErrDisconnected)
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
	counters  map[subjects.Method]*counters
	ownCaller bool

	began  time.Time
	ready  atomic.Int64 // Unix nanoseconds of the first up
	active atomic.Int64 // Unix nanoseconds of the newest call that is not passive
	cold   atomic.Int32 // 0 = no call yet, 1 = the first one had waited, 2 = it had not
}

// newInstance fills in what the program left out and adds the micro service, which names the instance, without endpoints.
func newInstance(base context.Context, f Function, env Env, opts Options) (*instance, error) {
	in := &instance{
		base: base, function: f, env: env, opts: opts, nc: env.NATS, began: time.Now(),
		pool: newPool(opts.Concurrency, opts.Waiting), counters: map[subjects.Method]*counters{},
	}
	in.active.Store(in.began.UnixNano())
	for _, m := range f.Methods {
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
	in.announcer = newAnnouncer(in.nc, in.log, wire.InstanceUp{
		Function: f.Name, Instance: in.env.Instance, Description: f.Description, Concurrency: opts.Concurrency, Methods: f.instanceMethods(), Unit: opts.Unit,
	})
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
	for _, m := range in.function.Methods {
		if err := in.addEndpoint(m, handlers[m.Name]); err != nil {
			return fmt.Errorf("add endpoint %s: %w", m.Name, err)
		}
	}
	if err := in.announcer.start(ctx); err != nil {
		return err
	}
	in.ready.Store(time.Now().UnixNano())
	in.log.Info("instance ready", "instance", in.env.Instance, "took", time.Since(in.began))
	if in.opts.Ready != nil {
		in.opts.Ready(in.env.Instance)
	}
	return nil
}

func (in *instance) addEndpoint(m Method, handler Handler) error {
	subject := subjects.RPC(in.function.Name, m.Name)
	e := &endpoint{instance: in, method: m, handler: handler, counters: in.counters[m.Name], lane: m.lane()}
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
	s.IdleMS = max(0, time.Since(time.Unix(0, in.active.Load())).Milliseconds())
	s.Cold = in.cold.Load() == 1
	return s
}

// touch notes a call for idle and cold.
func (in *instance) touch(now time.Time) {
	in.active.Store(now.UnixNano())
	if in.cold.Load() == 0 {
		cold := int32(2)
		if now.UnixNano()-in.ready.Load() < int64(coldWindow) {
			cold = 1
		}
		in.cold.CompareAndSwap(0, cold)
	}
}

// drain ends the instance so that nothing handed to it is lost: say bye, unsubscribe, wait until the server and then the client library
// have handed over all they had, wait for the workers, and flush the answers. Each step is bounded by the drain's time; micro's own Stop and
// the connection's Drain do not wait for workers.
func (in *instance) drain(cancel context.CancelFunc) error {
	began := time.Now()
	ctx, done := context.WithTimeout(in.base, in.opts.DrainTimeout)
	defer done()
	in.announcer.stop()
	if err := in.service.Stop(); err != nil {
		in.log.Warn("service did not stop", "err", err)
	}
	// The answer to this flush comes after every message that the server sent before it forgot the subscriptions.
	in.flush()
	handedOver := make(chan struct{})
	if err := in.nc.Barrier(func() { close(handedOver) }); err == nil {
		select {
		case <-handedOver:
		case <-ctx.Done():
		}
	}
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
	if err := in.service.Stop(); err != nil && !in.nc.IsClosed() {
		in.log.Warn("service did not stop", "err", err)
	}
	cancel()
	<-in.pool.drained()
}
