package edge

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// togetherWait is how long a question waits at most for a call that is on its way: one that is not answered holds nobody up who came later.
const togetherWait = 20 * time.Millisecond

// together asks a function what many sockets ask of it at the same moment. A lone question is asked at once. While as many calls are on their way as there are processors, what comes
// is gathered for the next one, so that a thousand who come together cost a few calls. A question is only ever part of a call that begins after it was asked.
type together[In, Out any] struct {
	edge     *Edge
	function subjects.Function
	most     int // questions in one call
	call     func(ctx context.Context, in []In) ([]Out, error)

	mu      sync.Mutex
	waiting []*question[In, Out] // bounded by the sockets, each of which waits for its answer
	running int                  // goroutines that make calls
}

type question[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{} // closed when out or err is there
}

// ask returns the answer to one question. The error is a *wire.Error.
func (t *together[In, Out]) ask(ctx context.Context, in In) (Out, error) {
	q := &question[In, Out]{in: in, done: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, q)
	switch {
	case t.running < runtime.GOMAXPROCS(0) || len(t.waiting) >= t.most:
		t.beginLocked()
	case len(t.waiting) == 1:
		t.hurryLocked()
	}
	t.mu.Unlock()
	select {
	case <-q.done:
		return q.out, q.err
	case <-ctx.Done():
		var none Out
		return none, wire.Errorf(wire.Timeout, "The function %s did not answer in time.", t.function)
	}
}

// beginLocked makes a call of what waits.
func (t *together[In, Out]) beginLocked() {
	first := t.takeLocked()
	t.running++
	if !t.edge.start(func(ctx context.Context) { t.run(ctx, first) }) {
		t.running--
		reply(first, nil, errNoNATS)
	}
}

// hurryLocked sees to it that what waits first does not wait for longer than togetherWait.
func (t *together[In, Out]) hurryLocked() {
	first := t.waiting[0]
	time.AfterFunc(togetherWait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.waiting) > 0 && t.waiting[0] == first {
			t.beginLocked()
		}
	})
}

// takeLocked returns what goes into the next call.
func (t *together[In, Out]) takeLocked() []*question[In, Out] {
	n := min(len(t.waiting), t.most)
	taken := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	if len(t.waiting) > 0 {
		t.hurryLocked()
	} else {
		t.waiting = nil
	}
	return taken
}

// run makes one call after another, until nothing waits.
func (t *together[In, Out]) run(ctx context.Context, questions []*question[In, Out]) {
	for {
		in := make([]In, len(questions))
		for i, q := range questions {
			in[i] = q.in
		}
		out, err := t.call(ctx, in)
		if err == nil && len(out) != len(in) {
			err = wire.Errorf(wire.Internal, "The function %s gave an answer of another form.", t.function)
		}
		reply(questions, out, err)
		t.mu.Lock()
		if len(t.waiting) == 0 || t.running > runtime.GOMAXPROCS(0) {
			t.running--
			t.mu.Unlock()
			return
		}
		questions = t.takeLocked()
		t.mu.Unlock()
	}
}

// reply answers questions.
func reply[In, Out any](questions []*question[In, Out], out []Out, err error) {
	for i, q := range questions {
		if q.err = err; err == nil {
			q.out = out[i]
		}
		close(q.done)
	}
}
