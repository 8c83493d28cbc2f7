package edge

import (
	"context"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
)

// belated is how long a frame may wait for another to be written with: at least once this, at most twice.
const belated = 10 * time.Millisecond

// laggards are the sockets with a frame that waits for an answer which is about to come. It comes within a fraction of a millisecond as a rule, and takes the frame
// with it; where it does not, because the function has ended or stands still, or the call is held, the frame is written without it. Each socket stands here once at most.
type laggards struct {
	wait  time.Duration // belated
	some  chan struct{} // with room for one: there is something to wait for
	mu    sync.Mutex
	fresh []*socket // since the last turn
}

func newLaggards() laggards { return laggards{wait: belated, some: make(chan struct{}, 1)} }

// add takes in a socket that was marked as late.
func (l *laggards) add(s *socket) {
	l.mu.Lock()
	first := len(l.fresh) == 0
	l.fresh = append(l.fresh, s)
	l.mu.Unlock()
	if first {
		select {
		case l.some <- struct{}{}:
		default: // it is known already
		}
	}
}

// run has what waits too long flushed, until ctx ends.
func (l *laggards) run(ctx context.Context) {
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	var old []*socket // what was fresh at the turn before
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.some:
		}
		for more := true; more; more = len(old) > 0 {
			timer.Reset(l.wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			for i, s := range old {
				old[i] = nil
				s.late()
			}
			l.mu.Lock()
			old, l.fresh = l.fresh, old[:0]
			l.mu.Unlock()
		}
	}
}

// accompany queues the event of an entry to a socket of its author. While the post that may have made it is at work on that very socket, the event is not written at
// once but with the answer, which comes at about the same moment: of what a frame costs, one call of the system is the most.
func (s *socket) accompany(frame framed, lane subjects.Conversation) {
	s.out.mu.Lock()
	waits := s.out.posting != nil && s.out.posting.lane == string(lane)
	flush := s.queueLocked(frame, waits)
	s.out.mu.Unlock()
	if flush {
		s.edge.flushers.add(s)
	}
}

// late has what waits for an answer written without it.
func (s *socket) late() {
	s.alter(func(o *outbox) bool {
		o.late = false
		return len(o.frames) > 0 && s.beginLocked()
	})
}

// posts notes that a post is at work, so that its event may wait for its answer. The newest counts where there are several.
func (s *socket) posts(c *call) {
	s.out.mu.Lock()
	s.out.posting = c
	s.out.mu.Unlock()
}

// posted ends what posts began. What waits is written with the answer, or at once where none is wanted.
func (s *socket) posted(c *call) {
	s.alter(func(o *outbox) bool {
		if o.posting == c {
			o.posting = nil
		}
		return len(c.id) == 0 && len(o.frames) > 0 && s.beginLocked()
	})
}
