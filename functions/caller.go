package functions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of a caller.
const (
	holdFor     = 3 * time.Second        // the longest wait for an instance
	maxHeld     = 4096                   // calls that wait for an instance; beyond it they are refused at once
	askEvery    = 250 * time.Millisecond // how often a held call asks who is up
	retryAfter  = time.Second            // what a call that found no instance is told
	firstResend = 5 * time.Millisecond   // the wait after a call that nobody got although somebody is up; doubled up to lastResend
	lastResend  = 200 * time.Millisecond
)

// Caller sends calls to functions and waits for their answers. It keeps a table of the instances that are up, so that a call to a sleeping
// function can be held instead of being lost. It is safe for concurrent use; one Caller serves a whole process.
type Caller struct {
	nc    *nats.Conn
	log   *slog.Logger
	table *table
	inbox *inbox
	held  atomic.Int64
}

// NewCaller returns a Caller on an open connection, which stays the program's. The table fills within milliseconds where instances are up.
func NewCaller(nc *nats.Conn, log *slog.Logger) (*Caller, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	inbox, err := newInbox(nc)
	if err != nil {
		return nil, fmt.Errorf("subscribe to answers: %w", err)
	}
	table, err := newTable(nc, log)
	if err != nil {
		inbox.close()
		return nil, fmt.Errorf("subscribe to instances: %w", err)
	}
	return &Caller{nc: nc, log: log, table: table, inbox: inbox}, nil
}

// Close ends the Caller's goroutines and subscriptions. Calls under way run into their deadlines; none may begin any more.
func (c *Caller) Close() {
	c.table.close()
	c.inbox.close()
}

// Method returns what is known of a method, also while no instance of its function is up. Where several releases run side by side, a method
// is public, anonymous or idempotent only if all of them say so.
func (c *Caller) Method(f subjects.Function, m subjects.Method) (method wire.InstanceMethod, known bool) {
	found, known := c.table.now().method(f, m)
	return found.InstanceMethod, known
}

// Public returns the calls that clients may make, such as "send.post", in ascending order. It must not be changed.
func (c *Caller) Public() []string { return c.table.now().public }

// Instances returns how many instances of a function are up.
func (c *Caller) Instances(f subjects.Function) int {
	if s := c.table.now().functions[f]; s != nil {
		return s.instances
	}
	return 0
}

// Changed returns a channel that is closed at the next change of what Method, Public and Instances return. Take it before you read them.
func (c *Caller) Changed() <-chan struct{} { return c.table.now().changed }

// Call sends data to an instance of a function and returns its answer. The error is a *wire.Error: the function's own; Timeout where no answer
// came before ctx ended, so that the call may have taken effect; Unavailable where no instance was up for min(ctx, 3 s). A ctx
// without deadline gets the method's timeout. A call that provably reached nobody is sent again; one that was not answered within the
// method's timeout is repeated once if the method is idempotent and ctx leaves time. The header belongs to Call from here on; it gains deadline and trace.
func (c *Caller) Call(ctx context.Context, f subjects.Function, m subjects.Method, header nats.Header, data []byte) ([]byte, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		timeout := DefaultTimeout
		if method, known := c.Method(f, m); known {
			timeout = time.Duration(method.TimeoutMS) * time.Millisecond
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	if header == nil {
		header = make(nats.Header, 2)
	}
	header[subjects.HeaderDeadline] = []string{formatDeadline(deadline)}
	if trace, ok := TraceOf(ctx); ok && header[subjects.HeaderTraceparent] == nil {
		header[subjects.HeaderTraceparent] = []string{trace.String()}
	}
	answer, err := c.send(ctx, f, m, &nats.Msg{Header: header, Data: data})
	if err != nil {
		return nil, err
	}
	if err := errorOf(answer); err != nil {
		return nil, err
	}
	return answer.Data, nil
}

// send tries until somebody answers, ctx ends, or nobody is up for too long.
func (c *Caller) send(ctx context.Context, f subjects.Function, m subjects.Method, msg *nats.Msg) (*nats.Msg, error) {
	resend := firstResend
	repeated := false
	var holdUntil time.Time
	for {
		table := c.table.now()
		if s := table.functions[f]; s == nil || s.instances == 0 {
			if holdUntil.IsZero() {
				holdUntil = time.Now().Add(holdFor)
			}
			if err := c.hold(ctx, f, table, holdUntil); err != nil {
				return nil, err
			}
			continue
		}
		method, known := table.method(f, m)
		if !known {
			return nil, wire.Errorf(wire.UnknownCall, "The function %s has no method %s.", f, m)
		}
		var try time.Duration
		if method.Idempotent && !repeated {
			try = time.Duration(method.TimeoutMS) * time.Millisecond
		}
		sent := time.Now()
		msg.Subject = method.subject
		answer, err := c.inbox.request(ctx, msg, try)
		switch {
		case err == nil:
			return answer, nil
		case errors.Is(err, nats.ErrNoResponders):
			// Provably not delivered. The table was wrong, or the server does not know yet what the instance said.
			c.table.correct(f, sent)
			if holdUntil.IsZero() {
				holdUntil = sent.Add(holdFor)
			}
			if err := c.pause(ctx, f, resend, holdUntil); err != nil {
				return nil, err
			}
			resend = min(2*resend, lastResend)
		case errors.Is(err, errTryOver):
			repeated = true
		default:
			return nil, c.failure(err, f)
		}
	}
}

// hold waits until the table is another than the given one, and asks who is up from time to time. This is where a call to a sleeping
// function waits; nothing of it has been sent.
func (c *Caller) hold(ctx context.Context, f subjects.Function, seen *snapshot, until time.Time) error {
	if c.held.Add(1) > maxHeld {
		c.held.Add(-1)
		return unavailable(f)
	}
	defer c.held.Add(-1)
	for {
		left := time.Until(until)
		if left <= 0 {
			return unavailable(f)
		}
		c.table.ask(f)
		timer := time.NewTimer(min(left, askEvery))
		select {
		case <-seen.changed:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return unavailable(f)
		}
	}
}

// pause waits a little before a call that reached nobody is sent again.
func (c *Caller) pause(ctx context.Context, f subjects.Function, wait time.Duration, until time.Time) error {
	if time.Until(until) <= 0 {
		return unavailable(f)
	}
	timer := time.NewTimer(wait/2 + rand.N(wait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return unavailable(f)
	}
}

func unavailable(f subjects.Function) error {
	return wire.RetryAfter(wire.Unavailable, retryAfter, "No instance of the function %s is up.", f)
}

// failure is what a caller learns of a call that was sent, or could not be, and has no answer.
func (c *Caller) failure(err error, f subjects.Function) error {
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
