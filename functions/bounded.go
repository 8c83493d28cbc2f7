package functions

import (
	"context"
	"errors"
	"sync"
	"time"
)

// WithDeadline is context.WithDeadline for work that is mostly over before anybody waits for its end: the timer, the channel and the place among the parent's
// children, which cost more than all else about a context, are made for the first who asks for Done. That is also whoever derives a context that can be cancelled.
// The cancel function must be called when the work is over.
func WithDeadline(parent context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	b := &bounded{Context: parent, deadline: earlier(parent, deadline)}
	return b, b.end
}

// earlier returns the deadline, or the parent's where that comes first.
func earlier(parent context.Context, deadline time.Time) time.Time {
	if first, ok := parent.Deadline(); ok && first.Before(deadline) {
		return first
	}
	return deadline
}

// bounded is a context with a deadline. The embedded one is its parent; mu guards what stands below it.
type bounded struct {
	context.Context
	deadline time.Time

	mu   sync.Mutex
	full context.Context // with a channel and a timer; nil until somebody asked for Done
	stop context.CancelFunc
	err  error // as long as full is nil, what Err said or is to say
}

// Deadline returns the time of the end; there always is one.
func (b *bounded) Deadline() (time.Time, bool) { return b.deadline, true }

// Done returns a channel that is closed at the deadline, with the parent, or when the work is over.
func (b *bounded) Done() <-chan struct{} { return b.whole().Done() }

// Err returns nil until then.
func (b *bounded) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full != nil {
		return b.full.Err()
	}
	if b.err == nil {
		b.err = b.Context.Err()
	}
	if b.err == nil && !time.Now().Before(b.deadline) {
		b.err = context.DeadlineExceeded
	}
	return b.err
}

// Value returns what the parent has under a key. Package context asks for its own contexts this way: it finds the whole one wherever there is one or it would be over.
func (b *bounded) Value(key any) any {
	b.mu.Lock()
	full := b.full
	b.mu.Unlock()
	if full == nil && b.Err() != nil {
		full = b.whole()
	}
	if full != nil {
		return full.Value(key)
	}
	return b.Context.Value(key)
}

// whole returns the context that does all that one of package context does.
func (b *bounded) whole() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full != nil {
		return b.full
	}
	switch {
	case b.err == nil:
		b.full, b.stop = context.WithDeadline(b.Context, b.deadline)
	case errors.Is(b.err, context.DeadlineExceeded): // what Err said once stays, whatever became of the parent since
		b.full, b.stop = context.WithDeadline(context.WithoutCancel(b.Context), b.deadline)
	default:
		b.full, b.stop = context.WithCancel(context.WithoutCancel(b.Context))
		b.stop()
	}
	return b.full
}

// end is the cancel function.
func (b *bounded) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		b.stop()
	} else if b.err == nil {
		b.err = context.Canceled
	}
}
