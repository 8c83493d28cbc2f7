package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// revocationPoll is how often Run asks for news. An ended session is refused by every process after at most this long.
const revocationPoll = 500 * time.Millisecond

// Revocations is what one process knows of ended sessions, in memory, so that a token is judged without a request. It follows the store by
// asking its leader what is new, which needs no consumer and misses nothing over a lost connection or a restart. It is safe for concurrent use.
type Revocations struct {
	store *Store

	mu       sync.RWMutex
	revision uint64 // everything stored up to here is known
	asOf     time.Time
	known    map[string]revocation // by key
}

// revocation is one record; it goes when all tokens that it speaks of have expired.
type revocation struct {
	wire.Revocation
	Until    wire.Time `json:"until"`
	revision uint64
}

// Revocations reads all revocations that still matter. Run keeps them current.
func (s *Store) Revocations(ctx context.Context) (*Revocations, error) {
	r := &Revocations{store: s}
	if err := r.reload(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Run keeps the revocations current until ctx ends, and tells failed of every poll that failed.
func (r *Revocations) Run(ctx context.Context, failed func(error)) {
	ticker := time.NewTicker(revocationPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := r.Poll(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}
}

// Poll asks the leader for what is new, once. Without news it costs one request.
func (r *Revocations) Poll(ctx context.Context) error {
	began := time.Now()
	stream := subjects.BucketStream(subjects.BucketSessions)
	last, err := r.store.lastSequence(ctx, stream)
	if err != nil {
		return fmt.Errorf("poll the revocations: %w", err)
	}
	r.mu.RLock()
	seen := r.revision
	r.mu.RUnlock()
	if last < seen { // the store was restored from a backup
		return r.reload(ctx)
	}
	for next := seen; next < last; {
		msg, err := r.store.readLeader(ctx, stream, readRequest{
			Seq: next + 1, NextFor: subjects.BucketSubject(subjects.BucketSessions, subjects.AllRevocationKeys),
		})
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err == nil {
			err = r.add(msg)
		}
		if err != nil {
			return fmt.Errorf("poll the revocations: %w", err)
		}
		next = msg.Sequence
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision = max(r.revision, last)
	r.current(began)
	return nil
}

// reload reads everything anew. The last sequence is read first: what comes later is found by the next poll.
func (r *Revocations) reload(ctx context.Context) error {
	began := time.Now()
	last, err := r.store.lastSequence(ctx, subjects.BucketStream(subjects.BucketSessions))
	if err != nil {
		return fmt.Errorf("read the revocations: %w", err)
	}
	found, err := r.store.fresh(ctx, subjects.BucketSessions, subjects.AllRevocationKeys)
	if err != nil {
		return fmt.Errorf("read the revocations: %w", err)
	}
	r.mu.Lock()
	r.revision, r.known = last, make(map[string]revocation, len(found))
	r.mu.Unlock()
	for _, msg := range found {
		if err := r.add(msg); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current(began)
	return nil
}

// current notes that nothing was missing at a time, and forgets what has run out. The caller holds mu.
func (r *Revocations) current(at time.Time) {
	r.asOf = at
	for key, one := range r.known {
		if at.After(one.Until.Time) {
			delete(r.known, key)
		}
	}
}

func (r *Revocations) add(msg *rawMsg) error {
	if msg.gone() {
		return nil
	}
	one := revocation{revision: msg.Sequence}
	if err := decode(msg, &one); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, ok := r.known[msg.Subject]; !ok || have.revision < one.revision {
		r.known[msg.Subject] = one
	}
	return nil
}

// Revoke ends one session of a user, or all that began before a time, for every process; until is when the last token that it speaks of
// expires. It is in force here when it returns, and in other processes when they next poll. It may be repeated.
func (r *Revocations) Revoke(ctx context.Context, end wire.Revocation, until time.Time) error {
	key := subjects.RevocationKey(end.User, end.Session)
	one := revocation{Revocation: end, Until: wire.At(until)}
	for try := range raiseTries {
		var have revocation
		revision, err := r.store.readKey(ctx, subjects.BucketSessions, key, &have)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil { // neither end goes back when two devices sign out at once
			if one.Before != nil && have.Before != nil && have.Before.After(one.Before.Time) {
				one.Before = have.Before
			}
			if have.Until.After(one.Until.Time) {
				one.Until = have.Until
			}
		}
		one.revision, err = r.store.update(ctx, subjects.BucketSessions, key, one, revision, lifetime(one.Until.Time))
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.known[subjects.BucketSubject(subjects.BucketSessions, key)] = one
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
	return fmt.Errorf("revoke %s: %w", key, ErrConflict)
}

// Revoked reports whether a token of a session, issued at a time, is no longer good.
func (r *Revocations) Revoked(user subjects.User, session string, issued time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	bucket := subjects.BucketSessions
	if _, ok := r.known[subjects.BucketSubject(bucket, subjects.RevocationKey(user, session))]; ok && session != "" {
		return true
	}
	all, ok := r.known[subjects.BucketSubject(bucket, subjects.RevocationKey(user, ""))]
	return ok && all.Before != nil && issued.Before(all.Before.Time)
}

// After returns the revocations that are newer than a revision of an earlier answer, of this process or another; 0 asks for all.
func (r *Revocations) After(revision uint64) wire.Revocations {
	r.mu.RLock()
	defer r.mu.RUnlock()
	answer := wire.Revocations{Revision: r.revision, Revocations: []wire.Revocation{}}
	for _, one := range r.known {
		if one.revision > revision {
			answer.Revocations = append(answer.Revocations, one.Revocation)
		}
	}
	slices.SortFunc(answer.Revocations, func(a, b wire.Revocation) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Session, b.Session))
	})
	return answer
}

// AsOf returns the time at which the newest successful poll began: everything that was revoked before is known.
func (r *Revocations) AsOf() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.asOf
}
