package functions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Waits of a caller.
const (
	retryAfter  = time.Second            // what a call that found no instance is told
	firstResend = 5 * time.Millisecond   // the wait before a call that provably was not begun is sent again; doubled up to lastResend
	lastResend  = 200 * time.Millisecond // no more than refusedRetry, which is about as long as a full queue needs to move
	answerSlack = 500 * time.Millisecond // beyond the method's timeout, for an answer that says that it is over
)

// Caller sends calls to functions and waits for their answers. It keeps a table of the instances that are up, so that a call to a sleeping
// function can be held instead of being lost. It is safe for concurrent use; one Caller serves a whole process.
type Caller struct {
	nc    *nats.Conn
	log   *slog.Logger
	table *table
	inbox *inbox
	gates *gates
	calls atomic.Uint64 // made so far; the number of a call is its place in the order

	closing sync.Once
}

// NewCaller returns a Caller on an open connection, which stays the program's. The table fills within milliseconds where instances are up. At
// most one Limits is given.
func NewCaller(nc *nats.Conn, log *slog.Logger, limits ...Limits) (*Caller, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	inbox, err := newInbox(nc)
	if err != nil {
		return nil, fmt.Errorf("subscribe to answers: %w", err)
	}
	var bounds Limits
	if len(limits) > 0 {
		bounds = limits[0]
	}
	gates := newGates(nc, log, inbox, bounds)
	table, err := newTable(nc, log, gates)
	if err != nil {
		inbox.close()
		return nil, fmt.Errorf("subscribe to instances: %w", err)
	}
	gates.table = table
	return &Caller{nc: nc, log: log, table: table, inbox: inbox, gates: gates}, nil
}

// Close ends the Caller's goroutines and subscriptions. Calls that are held are refused, those that were sent run into their deadlines; none may
// begin any more. It may be called more than once.
func (c *Caller) Close() {
	c.closing.Do(func() {
		c.gates.close()
		c.table.close()
		c.inbox.close()
	})
}

// Method returns what is known of a method, also while no instance of its function is up. Where several releases run side by side, a method
// is public, anonymous or idempotent only if all of them say so.
func (c *Caller) Method(f subjects.Function, m subjects.Method) (method wire.InstanceMethod, known bool) {
	found, known := c.table.now().method(f, m)
	return found.InstanceMethod, known
}

// Public returns the calls that clients may make, such as "send.post", in ascending order. It must not be changed.
func (c *Caller) Public() []string { return c.table.now().public }

// Impaired returns why calls to a function cannot succeed now, in words for operators, as all of its instances that are up say; "" when one does not, or none is up.
func (c *Caller) Impaired(f subjects.Function) string {
	if s := c.table.now().functions[f]; s != nil {
		return s.impaired
	}
	return ""
}

// Lost reports whether instances of a function were up and are not heard any more, though the last one has said no bye: they were killed, or there is no way from them to here.
func (c *Caller) Lost(f subjects.Function) bool {
	s := c.table.now().functions[f]
	return s != nil && s.lost
}

// Instances returns how many instances of a function are up.
func (c *Caller) Instances(f subjects.Function) int {
	if s := c.table.now().functions[f]; s != nil {
		return s.instances
	}
	return 0
}

// Held returns how many calls to a function this Caller holds, because no instance is up or all are full.
func (c *Caller) Held(f subjects.Function) int {
	g := c.gates.of(f)
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

// Changed returns a channel that is closed at the next change of what Method, Public and Instances return. Take it before you read them.
func (c *Caller) Changed() <-chan struct{} { return c.table.now().changed }

// Call sends data to an instance of a function and returns its answer. A call to a function that sleeps is held until an instance comes up, for
// at most the method's timeout, Limits.Hold, or until ctx ends; a ctx without deadline gets that time and the method's timeout. A call that provably
// did not begin, because nobody got it or the instance was full, is sent again until ctx ends. One that was sent and not answered within the method's timeout
// may have taken effect: it is repeated, once, if the method is idempotent and ctx leaves time.
//
// The error is a *wire.Error: the function's own; Timeout where no answer came, so that the call may have taken effect; Unavailable where it has
// not, as no instance took it or too many calls wait. The header belongs to Call from here on; it gains deadline and trace.
func (c *Caller) Call(ctx context.Context, f subjects.Function, m subjects.Method, header nats.Header, data []byte) ([]byte, error) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		hold, timeout := c.Times(f, m)
		deadline = time.Now().Add(hold + timeout)
	}
	return c.CallBy(ctx, deadline, f, m, header, data)
}

// CallBy is Call with a deadline that ctx need not have, so that whoever makes many calls needs no context for each.
func (c *Caller) CallBy(ctx context.Context, deadline time.Time, f subjects.Function, m subjects.Method, header nats.Header, data []byte) ([]byte, error) {
	if header == nil {
		header = make(nats.Header, 2)
	}
	header[subjects.HeaderDeadline] = []string{formatDeadline(deadline)}
	if trace, ok := TraceOf(ctx); ok && header[subjects.HeaderTraceparent] == nil {
		header[subjects.HeaderTraceparent] = []string{trace.String()}
	}
	o := outgoing{function: f, method: m, msg: &nats.Msg{Header: header, Data: data}, deadline: deadline, ticket: c.calls.Add(1)}
	answer, err := c.try(ctx, &o)
	answer, err = c.goOn(ctx, &o, answer, err)
	return c.read(answer, err, f)
}

// read returns what the caller learns of the outcome of a call.
func (c *Caller) read(answer *nats.Msg, err error, f subjects.Function) ([]byte, error) {
	if err != nil {
		return nil, c.failure(err, f)
	}
	if err := errorOf(answer); err != nil {
		return nil, err
	}
	return answer.Data, nil
}

// Times returns how long a call is held at most, and how long its work may take. Whoever sets a deadline leaves both.
func (c *Caller) Times(f subjects.Function, m subjects.Method) (hold, timeout time.Duration) {
	timeout = DefaultTimeout
	snapshot := c.table.now()
	if method, known := snapshot.method(f, m); known {
		timeout = method.timeout
	}
	hold = timeout
	if state := snapshot.functions[f]; state != nil && state.registered != nil && state.registered.HoldMS > 0 {
		hold = time.Duration(state.registered.HoldMS) * time.Millisecond
	}
	return min(hold, c.gates.limits.Hold), timeout
}

// outgoing is a call between its tries.
type outgoing struct {
	function subjects.Function
	method   subjects.Method
	msg      *nats.Msg
	deadline time.Time
	ticket   uint64

	known    knownMethod // of the last try
	sent     time.Time   // of the last try
	wait     time.Duration
	since    time.Time // when it was first held; zero = never
	until    time.Time // the end of the hold; zero = not held since the last try that may have taken effect
	released *heldCall // the last try, where the gate has to be told of its end
	repeated bool      // a try that may have taken effect went before
	refusal  error     // what an instance said that was full
}

// goOn tries again, after a first try, until somebody answers, ctx or the time ends, or nobody is up for too long.
func (c *Caller) goOn(ctx context.Context, o *outgoing, answer *nats.Msg, err error) (*nats.Msg, error) {
	defer o.settle()
	for {
		switch {
		case err == nil && first(answer.Header, subjects.HeaderRefused) == "":
			return answer, nil
		case err == nil:
			// Up, and full: the call may wait for its turn as long as it may take at all.
			o.refusal = errorOf(answer)
			o.until = o.deadline
			o.backOff()
		case !o.again(err):
			return nil, err
		case errors.Is(err, nats.ErrNoResponders):
			// Provably not delivered. The table was wrong, or the server does not know yet what the instance said.
			c.table.correct(o.function, o.sent)
			o.backOff()
		default:
			o.repeated, o.until, o.wait = true, time.Time{}, 0
		}
		answer, err = c.try(ctx, o)
	}
}

// backOff makes the next try wait, longer each time.
func (o *outgoing) backOff() { o.wait = max(firstResend, min(2*o.wait, lastResend)) }

// settle tells the gate that the last try is over. For a call that is tried again it follows on entering the queue, so that no later call of
// its lane gets in between.
func (o *outgoing) settle() {
	if o.released != nil {
		o.released.gate.settle(o.released)
		o.released = nil
	}
}

// try sends the call once: directly where the function is up and nothing waits for it, and otherwise in its turn at the gate.
func (c *Caller) try(ctx context.Context, o *outgoing) (*nats.Msg, error) {
	for {
		state := c.table.now().functions[o.function]
		if state != nil && state.instances > 0 && o.wait == 0 && state.gate.crowd.Load() == 0 {
			o.settle()
			return c.direct(ctx, o, state)
		}
		h := c.heldCall(o)
		pass, err := h.gate.enter(h)
		o.settle()
		switch {
		case err != nil:
			return nil, o.notSent(err)
		case !pass && h.gate.wait(ctx, h):
			o.known, o.sent, o.released = h.known, h.sent, h
			answer, err := c.await(ctx, o, h.pending)
			if err == nil {
				h.by = first(answer.Header, subjects.HeaderReply)
			}
			return answer, err
		case !pass:
			return nil, o.notSent(h.err)
		}
		if state = c.table.now().functions[o.function]; state != nil && state.instances > 0 {
			return c.direct(ctx, o, state)
		}
	}
}

// heldCall returns what stands for the call at the gate.
func (c *Caller) heldCall(o *outgoing) *heldCall {
	now := time.Now()
	if o.since.IsZero() {
		o.since = now
	}
	if o.until.IsZero() {
		hold, _ := c.Times(o.function, o.method)
		o.until = now.Add(hold)
		if o.deadline.Before(o.until) {
			o.until = o.deadline
		}
	}
	h := &heldCall{
		gate: c.gates.of(o.function), ticket: o.ticket, method: o.method, msg: o.msg, client: clientOf(o.msg.Header),
		since: o.since, until: o.until, out: make(chan struct{}),
	}
	h.lane = laneOf(h.client, h.msg)
	if o.wait > 0 {
		h.due = now.Add(o.wait/2 + rand.N(o.wait))
	}
	return h
}

// notSent returns what the caller learns of a try that was not sent: what went before it counts for more.
func (o *outgoing) notSent(err error) error {
	switch {
	case wire.CodeOf(err) != wire.Unavailable:
		return err
	case o.repeated:
		return errTryOver
	case o.refusal != nil:
		return o.refusal
	}
	return err
}

// direct sends a call past the gate.
func (c *Caller) direct(ctx context.Context, o *outgoing, state *functionState) (*nats.Msg, error) {
	known, ok := state.methods[o.method]
	if !ok {
		return nil, unknown(o.function, o.method)
	}
	o.known, o.sent = known, time.Now()
	o.msg.Subject = known.subject
	p, err := c.inbox.begin(o.msg)
	if err != nil {
		return nil, err
	}
	return c.await(ctx, o, p)
}

func (c *Caller) await(ctx context.Context, o *outgoing, p pending) (*nats.Msg, error) {
	return c.inbox.await(ctx, p, o.patience(), o.deadline)
}

// failure is what a caller learns of a call that was sent, or could not be, and has no answer.
func (c *Caller) failure(err error, f subjects.Function) error {
	if refusal, ok := errors.AsType[*wire.Error](err); ok {
		return refusal
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, errTryOver):
		return wire.Errorf(wire.Timeout, "The function %s did not answer in time.", f)
	case errors.Is(err, nats.ErrMaxPayload):
		return wire.Errorf(wire.TooLarge, "The body is larger than a message may be.")
	}
	c.log.Warn("call not sent", "function", string(f), "err", err)
	return wire.RetryAfter(wire.Unavailable, retryAfter, "The function %s cannot be reached.", f)
}

// errorOf returns the error that an answer carries. Its type is error so that no answer is a nil *wire.Error in disguise.
func errorOf(answer *nats.Msg) error {
	code := first(answer.Header, subjects.HeaderErrorCode)
	if code == "" {
		return nil
	}
	e := &wire.Error{Code: wire.Code(code), Message: first(answer.Header, subjects.HeaderErrorText)}
	if !e.Code.Known() {
		return wire.Errorf(wire.Internal, internalText)
	}
	if ms, err := strconv.ParseInt(first(answer.Header, subjects.HeaderRetryAfter), 10, 64); err == nil && ms > 0 {
		e.RetryAfterMS = ms
	}
	return e
}
