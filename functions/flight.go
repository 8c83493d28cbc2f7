package functions

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// Flight is a call that was sent and that no goroutine waits for.
type Flight struct {
	caller *Caller
	outgoing
	number uint64
	landed func()
	late   error       // what it is to be over because of time
	timer  *time.Timer // for that
	answer *nats.Msg   // once landed, as err
	err    error
}

// Launch is CallBy without its wait: it sends a call and calls landed once, when there is an answer, or none came in time, or the call was abandoned. landed must not wait, for
// all answers of the process may come through the goroutine that it runs in; it may run before Launch returns, and what it calls Answer of is at *f, which is set before.
// Launch returns false, and has sent nothing, where the call would have to be held or cannot be sent; CallBy does what is to be done then.
func (c *Caller) Launch(f *Flight, deadline time.Time, fn subjects.Function, m subjects.Method, header nats.Header, data []byte, landed func()) bool {
	state := c.table.now().functions[fn]
	if state == nil || state.instances == 0 || state.gate.crowd.Load() > 0 {
		return false
	}
	known, ok := state.methods[m]
	now := time.Now()
	left := deadline.Sub(now)
	if !ok || left <= 0 {
		return false
	}
	header[subjects.HeaderDeadline] = []string{formatDeadline(deadline)}
	*f = Flight{caller: c, landed: landed, late: context.DeadlineExceeded, outgoing: outgoing{
		function: fn, method: m, msg: &nats.Msg{Subject: known.subject, Header: header, Data: data}, deadline: deadline, ticket: c.calls.Add(1), known: known, sent: now,
	}}
	if try := f.patience(); try < left {
		left, f.late = try, errTryOver
	}
	c.inbox.launch(f, left)
	if err := c.inbox.publish(f.msg, f.number); err != nil && c.inbox.take(f.number, nil) != nil {
		f.timer.Stop()
		return false
	}
	return true
}

// end has a flight that is in the air land without an answer.
func (f *Flight) end(err error) {
	if f.caller.inbox.take(f.number, nil) != nil {
		f.land(nil, err)
	}
}

// land is called once, by whoever took the flight out of the inbox.
func (f *Flight) land(answer *nats.Msg, err error) {
	f.timer.Stop()
	if err == nil && isNoResponders(answer) {
		answer, err = nil, nats.ErrNoResponders
	}
	f.answer, f.err = answer, err
	f.landed()
}

// Abandon has a flight land at once, if it has not: nobody wants its answer any more. The call may take effect all the same.
func (f *Flight) Abandon() { f.end(context.Canceled) }

// Answer returns what CallBy would, once landed was called; but where the call is to be sent again settled is false, and Finish does that.
func (f *Flight) Answer() (data []byte, settled bool, err error) {
	if f.err == nil && first(f.answer.Header, subjects.HeaderRefused) != "" || f.again(f.err) {
		return nil, false, nil
	}
	data, err = f.caller.read(f.answer, f.err, f.function)
	return data, true, err
}

// Finish sends a call again that has landed and is not settled, as CallBy does, and returns what that would.
func (f *Flight) Finish(ctx context.Context) ([]byte, error) {
	answer, err := f.caller.goOn(ctx, &f.outgoing, f.answer, f.err)
	return f.caller.read(answer, err, f.function)
}

// again reports whether a call that failed is to be tried once more, beside one that was refused.
func (o *outgoing) again(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errTryOver) && o.known.Idempotent && !o.repeated
}

// patience returns how long the last try waits for its answer.
func (o *outgoing) patience() time.Duration {
	if !o.known.Idempotent || o.repeated {
		return o.known.timeout + answerSlack // there is no next try, and the instance knows more
	}
	return o.known.timeout
}
