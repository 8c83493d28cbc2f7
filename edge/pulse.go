package edge

import (
	"context"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// Times of the pulse.
const (
	warnBefore = time.Minute            // before a token expires its client is told so
	sweepEvery = 30 * time.Second       // for what is at rest
	leaveAfter = 5 * time.Second        // for workers that nobody misses
	clockJump  = 500 * time.Millisecond // the clock that tokens expire by was set anew
)

// pulse does for all sockets what time alone asks for: pings to quiet clients, the end of those that answer none, the warning before a
// token expires and the end after. One goroutine for all costs less than timers of their own.
func (e *Edge) pulse(ctx context.Context) {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	defer e.workers.end()
	swept := time.Now()
	watched := swept
	ahead := func(clock, now time.Time) time.Duration {
		return time.Duration(clock.UnixNano() - int64(momentOf(now)))
	}
	offset := ahead(e.cfg.Now(), time.Now())
	var due []*socket
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, clock := time.Now(), e.cfg.Now()
		if o := ahead(clock, now); (o - offset).Abs() > clockJump {
			offset = o
			for _, s := range e.sockets.all() {
				e.wheel.arm(s, momentOf(now))
			}
		}
		due = e.wheel.turn(momentOf(now), due[:0])
		for i, s := range due {
			due[i] = nil
			e.wheel.arm(s, s.beat(momentOf(now), clock))
		}
		if now.Sub(watched) >= leaveAfter {
			watched = now
			e.workers.sweep()
		}
		if now.Sub(swept) >= sweepEvery {
			swept = now
			e.addresses.sweep(momentOf(now))
			e.strangers.sweep(momentOf(now))
			e.identities.sweep(clock)
		}
	}
}

// beat does what is due for one socket, and returns when to look again. The clock is the one that tokens expire by.
func (s *socket) beat(now moment, clock time.Time) (next moment) {
	limits := &s.edge.cfg.Limits
	over, end := s.line.late(now)
	if over {
		s.look() // the reader sees that it is too late
	}
	next = now.in(limits.Ping)
	if end > now {
		next = min(next, end)
	}
	sess := s.session.Load()
	if sess == nil || s.out.closing.Load() {
		return next // the time to hello, and that to the end, is the line's
	}
	s.calls.rest()
	sess.user.rest(now)
	left := sess.expires.Sub(clock)
	switch {
	case left <= 0:
		s.close(wire.CloseTokenExpired)
		return next
	case left > warnBefore:
		next = min(next, now.in(left-warnBefore))
	default:
		next = min(next, now.in(left))
		if sess.warned.CompareAndSwap(false, true) {
			expires := wire.At(sess.expires)
			if body, err := wire.Marshal(wire.SessionChange{ExpiresAt: &expires}); err == nil {
				s.push(eventFrame(wire.EventSession, body))
			}
		}
	}
	quiet := max(moment(s.heardAt.Load()), s.pinged)
	if now >= quiet.in(limits.Ping) {
		s.pinged = now
		s.ping()
		quiet = now
	}
	return min(next, quiet.in(limits.Ping))
}
