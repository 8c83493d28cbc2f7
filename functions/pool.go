package functions

import "sync"

// pool works on tasks with a bounded number of goroutines. Tasks of one lane run one after another, in the order of their submission; the
// others run in parallel. After each task a lane goes to the end of the queue, so a busy lane does not hold up the rest.
//
// Bounds: at most workers tasks run; at most waiting wait, a quarter of them in one lane. What comes on top is refused at once, because
// a caller that is told can go elsewhere, and one that waits in vain cannot. mu guards every field; a worker exists only while there is work.
type pool struct {
	mu      sync.Mutex
	workers int              // goroutines that may still be started
	room    int              // places to wait that are left
	perLane int              // places in one lane
	lanes   map[string]*lane // those at work or waiting
	ready   []*lane          // those with a task and no worker, oldest first
	working int
	idle    chan struct{} // closed when nothing runs or waits, once draining
	ended   bool
}

// lane is a queue of tasks of which one runs at a time. A task without a lane has one of its own.
type lane struct {
	name  string
	tasks []func()
}

func newPool(workers, waiting int) *pool {
	return &pool{workers: workers, room: waiting, perLane: max(1, waiting/4), lanes: map[string]*lane{}, idle: make(chan struct{})}
}

// submit hands a task over and reports whether there was a place for it. It does not wait.
func (p *pool) submit(name string, task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lanes[name]; p.startable(name) || p.room > 0 && (l == nil || len(l.tasks) < p.perLane) {
		p.add(name, task)
		return true
	}
	return false
}

// put hands over a task that has a place already, because whoever has it bounds how many there are. It takes places from the tasks of submit only while
// it waits.
func (p *pool) put(name string, task func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(name, task)
}

// startable reports whether a task of a lane would not have to wait. mu is held.
func (p *pool) startable(name string) bool {
	return p.workers > 0 && (name == "" || p.lanes[name] == nil)
}

// add starts a task, or lets it wait. mu is held.
func (p *pool) add(name string, task func()) {
	if p.startable(name) {
		p.workers--
		p.working++
		l := p.open(name)
		go p.work(l, task)
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
	l.tasks = append(l.tasks, task)
}

func (p *pool) open(name string) *lane {
	l := &lane{name: name}
	if name != "" {
		p.lanes[name] = l
	}
	return l
}

// work runs a task of a lane, and then whatever waits, until nothing does.
func (p *pool) work(l *lane, task func()) {
	for task != nil {
		task()
		l, task = p.next(l)
	}
}

// next puts the lane back and takes the oldest one that waits; without one the worker ends.
func (p *pool) next(done *lane) (*lane, func()) {
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
		p.signal()
		return nil, nil
	}
	l := p.ready[0]
	p.ready[0] = nil
	p.ready = p.ready[1:]
	task := l.tasks[0]
	l.tasks[0] = nil
	l.tasks = l.tasks[1:]
	p.room++
	return l, task
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
	p.signal()
	return p.idle
}

// load returns how many tasks run and how many wait, of all that may.
func (p *pool) load(waiting int) (working, queued int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.working, waiting - p.room
}
