package edge

import (
	"context"
	"sync/atomic"
)

// restingReaders is how many readers without a socket wait for the next.
const restingReaders = 64

// readers are the goroutines that read from sockets: one for each that has something to read, and a few that rest. A socket that says
// hello, or whose message comes slowly, keeps its reader for as long as the limits allow, so their number is bounded by the sockets' alone.
type readers struct {
	edge  *Edge
	turns chan *socket // to those that rest
	idle  atomic.Int32
}

// take has a socket read, which must be marked as busy.
func (r *readers) take(s *socket) {
	select {
	case r.turns <- s:
	default:
		r.edge.start(func(ctx context.Context) { r.run(ctx, s) }) // once the edge has ended there are no sockets
	}
}

func (r *readers) run(ctx context.Context, s *socket) {
	for {
		s.turn(ctx)
		if r.idle.Add(1) > restingReaders {
			r.idle.Add(-1)
			return
		}
		select {
		case s = <-r.turns:
			r.idle.Add(-1)
		case <-ctx.Done():
			return
		}
	}
}
