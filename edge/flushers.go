package edge

import (
	"context"
	"sync"
)

// flushBatch is how many sockets a flusher takes at one time.
const flushBatch = 16

// flushers write what was queued to sockets: a few goroutines for all of them, which never wait for a peer. Each socket stands in the queue
// once at most, so it is as long as there are sockets at most; what is queued to a socket while it stands there is written with the rest.
type flushers struct {
	mu      sync.Mutex
	some    sync.Cond
	waiting int // flushers that wait
	queue   []*socket
	head    int // of the queue
	ended   bool
}

// add has a socket flushed. It must have been marked as writing.
func (f *flushers) add(s *socket) {
	f.mu.Lock()
	f.queue = append(f.queue, s)
	wake := f.waiting > 0
	f.mu.Unlock()
	if wake {
		f.some.Signal()
	}
}

// next fills batch with the sockets to be flushed next; it returns 0 when the edge has ended.
func (f *flushers) next(batch []*socket) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.head == len(f.queue) && !f.ended {
		f.waiting++
		f.some.Wait()
		f.waiting--
	}
	n := copy(batch, f.queue[f.head:])
	clear(f.queue[f.head : f.head+n])
	f.head += n
	if f.head == len(f.queue) {
		f.queue, f.head = f.queue[:0], 0
		if cap(f.queue) > 1<<14 {
			f.queue = nil
		}
	}
	return n
}

// run flushes sockets until ctx ends.
func (f *flushers) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		f.ended = true
		f.mu.Unlock()
		f.some.Broadcast()
	})
	defer stop()
	var batch [flushBatch]*socket
	for {
		n := f.next(batch[:])
		if n == 0 {
			return
		}
		for i, s := range batch[:n] {
			batch[i] = nil
			s.flush()
		}
	}
}
