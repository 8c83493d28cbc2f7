package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// refusedRetry is what a caller whose call found no place to wait is told: long enough for a full queue to move, short enough to be worth it.
const refusedRetry = 200 * time.Millisecond

// endpoint answers the calls of one method.
type endpoint struct {
	instance *instance
	method   Method
	handler  Handler
	counters *counters
	lane     func() Laned // nil where the order does not matter
	prompt   Prompt       // nil where every call gets a worker
}

// request is one call on its way through the pool, and the context of its work: what is the call's and what is its trace's stands in it, and the rest in the
// instance's own.
type request struct {
	bounded
	endpoint *endpoint
	call     Call
	reply    string
	came     time.Time
	header   micro.Headers
	refusal  error // a reason not to ask the handler

	untouched bool // no work was begun, and callers may know that

	finish Handler // of a call that was begun without a worker: what is left to do; nil = the handler

	traced sync.Once
	trace  Trace // once traced
}

// Value returns the call and its trace, and what the instance's context has.
func (r *request) Value(key any) any {
	switch key.(type) {
	case callKey:
		return &r.call
	case traceKey:
		r.traced.Do(func() {
			from, ok := ParseTraceparent(first(r.header, subjects.HeaderTraceparent))
			if !ok {
				from = NewTrace()
			}
			r.trace = from.Child()
		})
		return r.trace
	}
	return r.bounded.Value(key)
}

// work runs in a worker.
func (r *request) work() {
	if !r.endpoint.method.Passive {
		defer r.endpoint.instance.activity.end()
	}
	r.endpoint.serve(r)
}

// begin begins a call without a worker, in its lane, where its method has a Prompt. It reports false where a worker must do it.
func (r *request) begin(l *lane) (begun bool) {
	e := r.endpoint
	if e.prompt == nil || r.refusal != nil || r.call.decoded == nil || !time.Now().Before(r.deadline) {
		return false
	}
	defer func() {
		if p := recover(); p != nil {
			e.instance.log.ErrorContext(r, "prompt panicked", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			begun = false
		}
	}()
	return e.prompt(r, &r.call, func(finish Handler, waits bool) {
		r.finish = finish
		if waits {
			e.instance.pool.carry(l, r)
			return
		}
		r.work()
		e.instance.pool.finish(l)
	})
}

// handle runs in the subscription's goroutine, where micro runs an endpoint's requests one after another: it only reads headers, and the
// body where that decides the lane, and hands over, or begins what needs no worker.
func (e *endpoint) handle(req micro.Request) {
	now := time.Now()
	r := &request{endpoint: e, reply: req.Reply(), came: now, header: req.Headers()}
	r.bounded.Context, r.deadline = e.instance.base, now.Add(e.method.timeout())
	r.call = Call{Function: e.instance.function.Name, Method: e.method.Name, Data: req.Data()}
	if deadline, ok := parseDeadline(first(r.header, subjects.HeaderDeadline)); ok && deadline.Before(r.deadline) {
		r.deadline = deadline
	}
	r.refusal = r.call.readIdentity(r.header)
	if r.refusal == nil && e.method.Public && !e.method.Anonymous && r.call.User == "" {
		r.refusal = wire.Errorf(wire.Unauthenticated, "Sign in first.")
	}
	if !e.method.Passive {
		e.instance.touch(now)
		e.instance.activity.begin()
	}
	lane := ""
	if r.refusal == nil {
		lane = e.laneOf(&r.call)
	}
	if e.prompt != nil {
		if l := e.instance.pool.begin(lane); l != nil {
			if !r.begin(l) {
				e.instance.pool.carry(l, r)
			}
			return
		}
	}
	if !e.instance.pool.submit(lane, r) {
		if !e.method.Passive {
			e.instance.activity.end()
		}
		e.counters.refused.Add(1)
		r.untouched = true
		e.answerError(r, wire.RetryAfter(wire.Unavailable, refusedRetry, "Too many calls wait; try again."))
	}
}

// laneOf decodes the request where its type has a lane. The handler gets what was decoded, or the error.
func (e *endpoint) laneOf(call *Call) string {
	if e.lane == nil {
		return ""
	}
	in := e.lane()
	if err := call.Decode(in); err != nil {
		call.decodeErr = err
		return ""
	}
	call.decoded = in
	return in.Lane(call.User)
}

// serve asks the handler and answers.
func (e *endpoint) serve(r *request) {
	if r.finish == nil && !time.Now().Before(r.deadline) {
		e.counters.refused.Add(1)
		e.answerError(r, wire.Errorf(wire.Timeout, "The deadline had passed before the work began."))
		return
	}
	defer r.end()

	ctx := context.Context(r)
	handler := e.handler
	if r.finish != nil {
		handler = r.finish
	}
	data, err := e.run(ctx, &r.call, handler, r.refusal)
	took := time.Since(r.came)
	e.counters.latency.add(took)
	e.counters.processed.Add(1)
	if err == nil {
		if err = e.answer(r, data); err == nil {
			e.debug(ctx, took, "")
			return
		}
	}
	refusal := e.refusalOf(ctx, err)
	if refusal.Code.Info().Unknown {
		e.counters.failed.Add(1)
	}
	e.answerError(r, refusal)
	e.debug(ctx, took, refusal.Code)
}

func (e *endpoint) debug(ctx context.Context, took time.Duration, code wire.Code) {
	log := e.instance.log
	if log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "call answered", "took", took, "code", string(code))
	}
}

// run asks the handler and encodes what it returns. A panic ends the call, not the instance.
func (e *endpoint) run(ctx context.Context, call *Call, handler Handler, refusal error) (data []byte, err error) {
	if refusal != nil {
		return nil, refusal
	}
	defer func() {
		if p := recover(); p != nil {
			e.instance.log.ErrorContext(ctx, "handler panicked", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			data, err = nil, wire.Errorf(wire.Internal, internalText)
		}
	}()
	out, err := handler(ctx, call)
	if err != nil {
		return nil, err
	}
	return encode(out)
}

// internalText is all that callers learn of an error without a code.
const internalText = "Something broke on the server."

// refusalOf turns an error into what the caller may see. Causes that only an operator can mend are logged here, once.
func (e *endpoint) refusalOf(ctx context.Context, err error) *wire.Error {
	log := e.instance.log
	refusal, ok := errors.AsType[*wire.Error](err)
	switch {
	case ok && refusal.Code.Known():
		if error(refusal) != err {
			level := slog.LevelDebug
			if refusal.Code.Info().Unknown {
				level = slog.LevelWarn
			}
			log.Log(ctx, level, "call refused", "code", string(refusal.Code), "err", err)
		}
		return refusal
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		log.WarnContext(ctx, "call ran out of time", "err", err)
		return wire.Errorf(wire.Timeout, "The time for the call was over before its work was done.")
	}
	log.ErrorContext(ctx, "call failed", "err", err)
	return wire.Errorf(wire.Internal, internalText)
}

// answer publishes data. It does not go through micro's own Respond, which may only be called before the subscription's callback returns.
func (e *endpoint) answer(r *request, data []byte) error {
	if r.reply == "" {
		return nil
	}
	if err := e.instance.nc.PublishMsg(&nats.Msg{Subject: r.reply, Data: data, Header: e.instance.answered}); err != nil {
		return fmt.Errorf("publish an answer of %d bytes: %w", len(data), err)
	}
	return nil
}

// answerError publishes an error in the form of micro's own errors.
func (e *endpoint) answerError(r *request, refusal *wire.Error) {
	if r.reply == "" {
		return
	}
	header := nats.Header{subjects.HeaderReply: {e.instance.env.Instance}}
	setError(header, refusal)
	if r.untouched {
		header[subjects.HeaderRefused] = []string{"full"}
	}
	if err := e.instance.nc.PublishMsg(&nats.Msg{Subject: r.reply, Header: header}); err != nil {
		e.instance.log.Warn("error not sent", "code", string(refusal.Code), "err", err)
	}
}

// encode writes what a handler returned.
func encode(out any) ([]byte, error) {
	switch out := out.(type) {
	case nil:
		return []byte("{}"), nil
	case []byte:
		return out, nil
	case json.RawMessage:
		return out, nil
	}
	data, err := wire.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return data, nil
}
