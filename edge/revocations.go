package edge

import (
	"context"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// revocationsEvery is how often auth is asked for revocations whose event may have been lost.
const revocationsEvery = time.Second

// revoke closes the sockets whose sessions a revocation ends; one that asked for it gets its answer first.
func (e *Edge) revoke(r wire.Revocation) {
	e.identities.revoke(r, time.Now())
	u := e.users.find(r.User)
	if u == nil {
		return
	}
	told, _ := wire.Marshal(wire.SessionChange{Revoked: true})
	frame := eventFrame(wire.EventSession, told)
	for _, s := range u.list() {
		if session := s.session.Load(); session != nil && ends(r, u.name, session.id, session.issued) {
			held, informed := s.calls.hold()
			if !informed {
				s.push(frame)
			}
			if !held {
				s.close(wire.CloseRevoked)
			}
		}
	}
}

// pollRevocations looks for revocations until ctx ends: every second, and at once after a reconnect. It asks, and so wakes, auth only after
// something was stored where revocations are.
func (e *Edge) pollRevocations(ctx context.Context) {
	ticker := time.NewTicker(revocationsEvery)
	defer ticker.Stop()
	var after uint64 // the newest revision that auth told of
	var tail uint64  // of the sessions, before auth told
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.pollNow:
		}
		now, known := e.sessionsTail(ctx)
		if known && told && now == tail || !known && e.caller.Instances(funcAuth) == 0 {
			continue
		}
		if revision, ok := e.askRevocations(ctx, after); ok {
			after, tail, told = revision, now, known
		}
	}
}

// sessionsTail returns the tail of the bucket that revocations are in, if the store tells it to this program.
func (e *Edge) sessionsTail(ctx context.Context) (tail uint64, known bool) {
	ctx, cancel := context.WithTimeout(ctx, revocationsEvery)
	defer cancel()
	tail, err := e.tail(ctx, subjects.BucketStream(subjects.BucketSessions))
	if err != nil {
		e.log.Debug("tail of the sessions not read", "err", err)
	}
	return tail, err == nil
}

// askRevocations applies what auth has revoked after a revision, and returns the newest.
func (e *Edge) askRevocations(ctx context.Context, after uint64) (revision uint64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*revocationsEvery)
	defer cancel()
	answer, err := functions.Invoke[wire.RevocationsQuery, wire.Revocations](ctx, e.caller, nil, funcAuth, "revoked", wire.RevocationsQuery{After: after})
	if err != nil {
		if ctx.Err() == nil {
			e.log.Debug("revocations not read", "code", string(wire.CodeOf(err)))
		}
		return after, false
	}
	for _, r := range answer.Revocations {
		e.revoke(r)
	}
	return answer.Revision, true
}
