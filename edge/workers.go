package edge

import (
	"context"
	"sync"
)

// restingWorkers is how many workers without a call wait for the next. Each keeps a stack of some kilobytes, which has grown to what calls need.
const restingWorkers = 512

// workers are the goroutines that do calls: one for each that is at work, for the limits on open calls bound them, and a few that rest. The last to rest is the first to
// work again, and those that nobody missed for a while leave: an edge where nothing happens has none.
type workers struct {
	mu    sync.Mutex
	idle  []*worker
	least int // the fewest that rested since the last sweep
	ended bool
}

// worker is a goroutine that does calls. What ends one call, the end of its socket, ends the worker's context, of which it makes a new one then.
type worker struct {
	next   chan job           // with room for one; closed when the worker is to leave
	cancel context.CancelFunc // of the context; used while the worker is in the calls of a socket
	place  int                // in calls.work; guarded by that mutex
}

// job is a call of a socket, with what waits in its lane.
type job struct {
	socket *socket
	call   *call
}

// take has a worker do a call, which start has counted in the socket's wg.
func (e *Edge) take(j job) {
	if w := e.workers.wake(); w != nil {
		w.next <- j
		return
	}
	e.start(func(ctx context.Context) { e.workers.run(ctx, j) }) // once the edge has ended there are no sockets
}

// wake returns a worker that rested, or nil.
func (t *workers) wake() *worker {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.idle) - 1
	if last < 0 {
		return nil
	}
	w := t.idle[last]
	t.idle[last] = nil
	t.idle = t.idle[:last]
	t.least = min(t.least, last)
	return w
}

// rest reports whether a worker is to wait for the next call.
func (t *workers) rest(w *worker) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || len(t.idle) >= restingWorkers {
		return false
	}
	t.idle = append(t.idle, w)
	return true
}

// sweep has those leave that nobody has missed since the last sweep.
func (t *workers) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dismissLocked(t.least)
	t.least = len(t.idle)
}

// end has all leave that rest, and lets none rest any more.
func (t *workers) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.dismissLocked(len(t.idle))
}

// dismissLocked has the first n leave, which have rested longest.
func (t *workers) dismissLocked(n int) {
	for _, w := range t.idle[:n] {
		close(w.next)
	}
	kept := copy(t.idle, t.idle[n:])
	clear(t.idle[kept:])
	t.idle = t.idle[:kept]
	if kept == 0 {
		t.idle = nil
	}
}

// run does calls until none comes any more.
func (t *workers) run(ctx context.Context, j job) {
	w := &worker{next: make(chan job, 1)}
	for more := true; more; {
		more = t.serve(ctx, w, &j)
	}
}

// serve does calls until the worker leaves, or the end of a socket has ended its context; then it reports true, and j is what comes next.
func (t *workers) serve(ctx context.Context, w *worker, j *job) (more bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.cancel = cancel
	for {
		j.socket.work(ctx, w, j.call)
		j.socket.wg.Done()
		*j = job{}
		if !t.rest(w) {
			return false
		}
		if *j, more = <-w.next; !more || ctx.Err() != nil {
			return more
		}
	}
}
