package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxFailureKeys bounds the memory of failures: the least recently tried pair of account and address is forgotten beyond it. Flushing a pair
// out takes as many failed sign-ins, each of which costs a hash: hours at the cap on hashing.
const maxFailureKeys = 1 << 16

// failures counts failed sign-ins per account and address. It lives in memory: each instance counts for itself, so n instances allow at most n
// times the limit. mu guards all fields.
type failures struct {
	limit  int
	window time.Duration
	now    func() time.Time

	mu     sync.Mutex
	byKey  map[failureKey]*list.Element
	recent *list.List // of *attempts, the most recently tried first
}

type failureKey struct {
	user    subjects.User
	address string
}

// attempts are the tries of one key: those that failed within the window, and those that are still being decided, which count as failed until
// then so that parallel tries cannot outrun the limit.
type attempts struct {
	key    failureKey
	failed []time.Time // ascending, at most limit
	open   int
}

func newFailures(limit int, window time.Duration, now func() time.Time) *failures {
	return &failures{limit: limit, window: window, now: now, byKey: map[failureKey]*list.Element{}, recent: list.New()}
}

// outcome is how a try ended.
type outcome int

const (
	undecided outcome = iota // it could not be checked, and counts as nothing
	succeeded                // it clears earlier failures
	failed
)

// begin notes a try. It returns a *wire.Error with RateLimited when the pair has used up its tries; otherwise done must be called once.
func (f *failures) begin(user subjects.User, address string) (done func(outcome), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.of(failureKey{user, network(address)})
	now := f.now()
	for len(a.failed) > 0 && now.Sub(a.failed[0]) >= f.window {
		a.failed = a.failed[1:]
	}
	if len(a.failed)+a.open >= f.limit {
		wait := time.Second // others are being decided at this moment
		if len(a.failed) >= f.limit {
			wait = f.window - now.Sub(a.failed[0])
		}
		return nil, wire.RetryAfter(wire.RateLimited, wait, "Too many failed sign-ins; wait before the next one.")
	}
	a.open++
	return func(o outcome) { f.end(a, o) }, nil
}

func (f *failures) end(a *attempts, o outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.open--
	switch o {
	case failed:
		a.failed = append(a.failed, f.now())
	case succeeded:
		a.failed = nil
	}
	if e, ok := f.byKey[a.key]; ok && len(a.failed) == 0 && a.open == 0 && e.Value == a {
		f.recent.Remove(e)
		delete(f.byKey, a.key)
	}
}

// of returns the tries of a key and moves them to the front.
func (f *failures) of(key failureKey) *attempts {
	if e, ok := f.byKey[key]; ok {
		f.recent.MoveToFront(e)
		return e.Value.(*attempts)
	}
	if f.recent.Len() >= maxFailureKeys {
		oldest := f.recent.Back()
		f.recent.Remove(oldest)
		delete(f.byKey, oldest.Value.(*attempts).key)
	}
	a := &attempts{key: key}
	f.byKey[key] = f.recent.PushFront(a)
	return a
}

// network returns what an address counts as: itself for IPv4, its /64 for IPv6, where one household has 2^64 addresses.
func network(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		address = ap.Addr().String()
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address[:min(len(address), 64)]
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
