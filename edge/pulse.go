package edge

import (
	"context"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// Times of the pulse.
const (
	pulseEvery = time.Second
	warnBefore = time.Minute      // before a token expires its client is told so
	sweepEvery = 30 * time.Second // for limits of addresses and users at rest
)

// pulse does for all sockets what time alone asks for: pings to quiet clients, the warning before a token expires and the end after. One
// goroutine for all costs less than timers of their own.
func (e *Edge) pulse(ctx context.Context) {
	ticker := time.NewTicker(pulseEvery)
	defer ticker.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, clock := time.Now(), e.cfg.Now()
		for _, s := range e.sockets.all() {
			s.beat(now, clock)
		}
		if now.Sub(swept) >= sweepEvery {
			swept = now
			e.addresses.sweep(now)
			e.strangers.sweep(now)
		}
	}
}

// beat does what is due for one socket. The clock is the one that tokens expire by.
func (s *socket) beat(now, clock time.Time) {
	sess := s.session.Load()
	if sess == nil {
		return // the time to hello is the reader's
	}
	left := sess.expires.Sub(clock)
	switch {
	case left <= 0:
		s.close(wire.CloseTokenExpired)
		return
	case left <= warnBefore && sess.warned.CompareAndSwap(false, true):
		expires := wire.At(sess.expires)
		if body, err := wire.Marshal(wire.SessionChange{ExpiresAt: &expires}); err == nil {
			s.push(wire.AppendEvent(nil, wire.EventSession, body))
		}
	}
	quiet := now.UnixNano() - max(s.heardAt.Load(), s.pinged)
	if quiet >= int64(s.edge.cfg.Limits.Ping) {
		s.pinged = now.UnixNano()
		s.ping()
	}
}
