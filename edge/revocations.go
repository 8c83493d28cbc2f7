package edge

import (
	"context"
	"time"

	"github.com/confab-im/confab/functions"
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
	frame := wire.AppendEvent(nil, wire.EventSession, told)
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

// pollRevocations asks for revocations until ctx ends: every second, and at once after a reconnect.
func (e *Edge) pollRevocations(ctx context.Context) {
	ticker := time.NewTicker(revocationsEvery)
	defer ticker.Stop()
	var after uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.pollNow:
		}
		if e.caller.Instances(funcAuth) == 0 {
			continue // asking would wake it; it says nothing while it sleeps
		}
		after = e.askRevocations(ctx, after)
	}
}

// askRevocations applies what auth has revoked after a revision, and returns the newest.
func (e *Edge) askRevocations(ctx context.Context, after uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, 2*revocationsEvery)
	defer cancel()
	answer, err := functions.Invoke[wire.RevocationsQuery, wire.Revocations](ctx, e.caller, nil, funcAuth, "revoked", wire.RevocationsQuery{After: after})
	if err != nil {
		if ctx.Err() == nil {
			e.log.Debug("revocations not read", "code", string(wire.CodeOf(err)))
		}
		return after
	}
	for _, r := range answer.Revocations {
		e.revoke(r)
	}
	return answer.Revision
}
