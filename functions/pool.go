package functions

import (
	"sync"
	"time"
)

// spareTime is for how long a worker that had nothing to do is kept, and up to twice that: a new goroutine begins with a small stack, and making it large enough
// for a call costs more than the rest of the hand-over.
const spareTime = time.Second

// pool works on tasks with a bounded number of goroutines. Tasks of one lane run one after another, in the order of their submission; the
// others run in parallel. After each task a lane goes to the end of the queue, so a busy lane does not hold up the rest.
//
// Bounds: at most workers tasks run; at most waiting wait, a quarter of them in one lane. What comes on top is refused at once, because
// a caller that is told can go elsewhere, and one that waits in vain cannot. mu guards every field; a worker ends when it had no work for spareTime.
type pool struct {
	mu      sync.Mutex
	workers int              // tasks that may still be started
	room    int              // places to wait that are left
	perLane int              // places in one lane
	lanes   map[string]*lane // those at work or waiting
	ready   []*lane          // those with a task and no worker, oldest first
	working int
	spare   []*worker     // those without work, the one that had some last at the end
	fewest  int           // of them since the last tidy
	tidying *time.Timer   // nil = no worker is spare
	idle    chan struct{} // closed when nothing runs or waits, once draining
	ended   bool
}

// task is something to be done.
type task interface{ work() }

// taskFunc is a task that is a function.
type taskFunc func()

func (f taskFunc) work() { f() }

// lane is a queue of tasks of which one runs at a time. A task without a lane has one of its own.
type lane struct {
	name  string
	tasks []task
}

// worker is a goroutine. What it is to do next comes through the channel, which has room for it; a closed channel ends it.
type worker struct {
	turns chan turn
}

type turn struct {
	lane *lane
	task task
}

func newPool(workers, waiting int) *pool {
	return &pool{workers: workers, room: waiting, perLane: max(1, waiting/4), lanes: map[string]*lane{}, idle: make(chan struct{})}
}

// submit hands a task over and reports whether there was a place for it. It does not wait.
func (p *pool) submit(name string, t task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lanes[name]; p.startable(name) || p.room > 0 && (l == nil || len(l.tasks) < p.perLane) {
		p.add(name, t)
		return true
	}
	return false
}

// begin opens a lane for a task that its caller begins without a worker, which counts as one at work all the same, and returns nil where the task would have to
// wait, or where others do. What follows is finish, or carry.
func (p *pool) begin(name string) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.startable(name) {
		return nil
	}
	p.workers--
	p.working++
	return p.open(name)
}

// carry has a worker go on with a task that was begun, or is to be.
func (p *pool) carry(l *lane, t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start(turn{l, t})
}

// finish ends a task that was begun without a worker, and begins what waits.
func (p *pool) finish(done *lane) {
	next := p.next(nil, done)
	if next.task == nil {
		return
	}
	if r, ok := next.task.(*request); !ok || !r.begin(next.lane) {
		p.carry(next.lane, next.task)
	}
}

// put hands over a task that has a place already, because whoever has it bounds how many there are. It takes places from the tasks of submit only while
// it waits.
func (p *pool) put(name string, t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(name, t)
}

// startable reports whether a task of a lane would not have to wait. mu is held.
func (p *pool) startable(name string) bool {
	return p.workers > 0 && (name == "" || p.lanes[name] == nil)
}

// add starts a task, or lets it wait. mu is held.
func (p *pool) add(name string, t task) {
	if p.startable(name) {
		p.workers--
		p.working++
		p.start(turn{p.open(name), t})
		return
	}
	p.room--
	var l *lane
	if name != "" {
		l = p.lanes[name]
	}
	if l == nil {
		l = p.open(name)
		p.ready = append(p.ready, l)
	}
	l.tasks = append(l.tasks, t)
}

// start gives a task to the worker that had work last, or to a new one. mu is held.
func (p *pool) start(first turn) {
	last := len(p.spare) - 1
	if last < 0 {
		go p.work(&worker{turns: make(chan turn, 1)}, first)
		return
	}
	w := p.spare[last]
	p.spare[last] = nil
	p.spare = p.spare[:last]
	p.fewest = min(p.fewest, last)
	w.turns <- first // has room
}

func (p *pool) open(name string) *lane {
	l := &lane{name: name}
	if name != "" {
		p.lanes[name] = l
	}
	return l
}

// work runs a task of a lane, then whatever waits, and waits itself for more.
func (p *pool) work(w *worker, t turn) {
	for more := true; more; {
		t.task.work()
		if next := p.next(w, t.lane); next.task != nil {
			t = next
			continue
		}
		t, more = <-w.turns
	}
}

// next puts the lane back and takes the oldest one that waits; without one the worker, if there is one, is spare.
func (p *pool) next(w *worker, done *lane) turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(done.tasks) > 0 {
		p.ready = append(p.ready, done)
	} else {
		delete(p.lanes, done.name)
	}
	if len(p.ready) == 0 {
		p.workers++
		p.working--
		if w != nil {
			p.rest(w)
		}
		p.signal()
		return turn{}
	}
	l := p.ready[0]
	p.ready[0] = nil
	p.ready = p.ready[1:]
	t := l.tasks[0]
	l.tasks[0] = nil
	l.tasks = l.tasks[1:]
	p.room++
	return turn{l, t}
}

// rest keeps a worker without work for the next task; during a drain there is none. mu is held.
func (p *pool) rest(w *worker) {
	if p.ended {
		close(w.turns)
		return
	}
	p.spare = append(p.spare, w)
	if p.tidying == nil {
		p.fewest = 0
		p.tidying = time.AfterFunc(spareTime, p.tidy)
	}
}

// tidy ends the workers that were spare all the time since it ran last.
func (p *pool) tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dismiss(p.fewest)
	p.fewest = len(p.spare)
	if p.fewest == 0 {
		p.tidying = nil
		return
	}
	p.tidying.Reset(spareTime)
}

// dismiss ends the first n of the spare workers. mu is held.
func (p *pool) dismiss(n int) {
	for _, w := range p.spare[:n] {
		close(w.turns)
	}
	left := copy(p.spare, p.spare[n:])
	clear(p.spare[left:])
	p.spare = p.spare[:left]
	p.fewest = min(p.fewest, left) // a tidy that has begun to wait while a drain dismisses all finds none
}

// signal closes idle when the last worker of a drain has ended; work that waits always has a worker.
func (p *pool) signal() {
	if p.ended && p.working == 0 {
		select {
		case <-p.idle:
		default:
			close(p.idle)
		}
	}
}

// drained returns a channel that is closed as soon as nothing runs or waits. Nothing may be submitted any more.
func (p *pool) drained() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.dismiss(len(p.spare))
	if p.tidying != nil {
		p.tidying.Stop()
	}
	p.signal()
	return p.idle
}

// load returns how many tasks run and how many wait, of all that may.
func (p *pool) load(waiting int) (working, queued int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.working, waiting - p.room
}
