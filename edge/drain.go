package edge

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// drainCalls bounds how long the end of a socket waits for its open calls.
const drainCalls = 10 * time.Second

// drainSockets asks all clients to leave and closes their sockets, spread over the drain window so that they do not all connect elsewhere
// at once. Calls that are open are answered first; new ones are refused once a socket's turn has come. It returns when all sockets have ended.
func (e *Edge) drainSockets() {
	open := e.sockets.shut()
	e.log.Info("edge drains", "connections", len(open))
	rand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	window := max(0, e.cfg.DrainWindow)
	turns := make([]time.Duration, len(open))
	for i, s := range open {
		turns[i] = window * time.Duration(i+1) / time.Duration(len(open)+1)
		if body, err := wire.Marshal(wire.Draining{ReconnectAfterMS: max(1, turns[i].Milliseconds())}); err == nil {
			s.push(eventFrame(wire.EventDraining, body))
		}
	}
	begun := time.Now()
	var waiting []*socket // whose turn has come
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	for ; len(open) > 0 || len(waiting) > 0; <-ticker.C {
		since := time.Since(begun)
		for len(open) > 0 && turns[0] <= since {
			open[0].retired.Store(true)
			waiting = append(waiting, open[0])
			open, turns = open[1:], turns[1:]
		}
		waiting = slices.DeleteFunc(waiting, func(s *socket) bool {
			if !s.calls.idle() && since < window+drainCalls {
				return false
			}
			s.close(wire.CloseDraining)
			return true
		})
	}
	e.sockets.wg.Wait()
}

// drainTick is how often a drain looks whose turn has come and whose calls are answered.
const drainTick = 20 * time.Millisecond

// shutHTTP ends the HTTP server: no new requests, and those at work are answered.
func (e *Edge) shutHTTP(ctx context.Context, shutdown func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, drainCalls)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		e.log.Warn("requests were still at work at the end of the drain", "err", err)
	}
}
