package edge

import (
	"maps"
	"slices"
	"sync"
)

// sockets is the set of all open sockets, and waits for their end.
type sockets struct {
	mu     sync.Mutex
	open   map[*socket]struct{}
	closed bool // no more come in
	wg     sync.WaitGroup
}

// add takes a socket in, unless the edge has ended.
func (t *sockets) add(s *socket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.open[s] = struct{}{}
	t.wg.Add(1)
	return true
}

func (t *sockets) remove(s *socket) {
	t.mu.Lock()
	delete(t.open, s)
	t.mu.Unlock()
	t.wg.Done()
}

// shut lets no more in and returns what is open.
func (t *sockets) shut() []*socket {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	return t.all()
}

func (t *sockets) all() []*socket {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.open))
}
