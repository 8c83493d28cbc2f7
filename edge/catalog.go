package edge

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of the search for a function that the edge has not heard of.
const (
	youth      = 10 * time.Second // so long after its start the edge may simply not have heard yet
	searchFor  = time.Second      // how long a call waits for an instance to speak up
	searchMemo = 5 * time.Second  // how long a search that found nothing is not repeated
	maxMemos   = 256              // functions remembered as not found; beyond it nothing is searched
)

// searches remembers the functions that nobody spoke up for, so that a client which makes up names causes next to no traffic.
type searches struct {
	mu     sync.Mutex
	failed map[subjects.Function]time.Time
}

// may reports whether a function may be searched for now.
func (t *searches) may(f subjects.Function, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, at := range t.failed {
		if now.Sub(at) > searchMemo {
			delete(t.failed, name)
		}
	}
	if _, known := t.failed[f]; known || len(t.failed) >= maxMemos {
		return false
	}
	t.failed[f] = now // until found: others that come meanwhile need not ask too
	return true
}

func (t *searches) found(f subjects.Function) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failed, f)
}

// public returns a method that clients may call. The error is a *wire.Error: UnknownCall, or Unavailable while the edge is too young to
// know. For a function that it never heard of, the edge asks who is there and waits a little.
func (e *Edge) public(ctx context.Context, f subjects.Function, m subjects.Method) (wire.InstanceMethod, error) {
	changed := e.caller.Changed()
	method, known := e.caller.Method(f, m)
	search := !known && !e.knows(f) && e.searches.may(f, time.Now())
	if search {
		if err := e.cfg.NATS.Publish(subjects.Scale(f, subjects.Who), nil); err != nil {
			return method, errNoNATS
		}
	}
	if search || !known && !e.knows(f) && e.young() {
		method, known = e.await(ctx, f, m, changed)
		if known {
			e.searches.found(f)
		}
	}
	switch {
	case known && method.Public:
		return method, nil
	case !known && !e.knows(f) && e.young():
		return method, wire.RetryAfter(wire.Unavailable, retrySoon, "The edge has just started and has not heard of this function yet.")
	}
	return method, errUnknownCall
}

// await waits until a method is known, for a second at most.
func (e *Edge) await(ctx context.Context, f subjects.Function, m subjects.Method, changed <-chan struct{}) (wire.InstanceMethod, bool) {
	timer := time.NewTimer(searchFor)
	defer timer.Stop()
	for {
		select {
		case <-changed:
		case <-timer.C:
			return wire.InstanceMethod{}, false
		case <-ctx.Done():
			return wire.InstanceMethod{}, false
		}
		changed = e.caller.Changed()
		if method, known := e.caller.Method(f, m); known || e.knows(f) {
			return method, known
		}
	}
}

// knows reports whether the edge is sure what a function answers: an instance has said so, or whoever deployed it.
func (e *Edge) knows(f subjects.Function) bool { return e.caller.Knows(f) }

// expected are the functions that every confab has. Once all have spoken up, one that is still silent is taken for unknown at once.
var expected = []subjects.Function{funcAuth, "send", funcHistory, funcConversations, "receipts", funcPresence}

// young reports whether the edge may simply not have heard of a function yet.
func (e *Edge) young() bool {
	return time.Since(e.born) < youth && slices.ContainsFunc(expected, func(f subjects.Function) bool { return !e.knows(f) })
}

// knownCall returns the name of a call that clients may make, and "other" for all else: a label of bounded variety.
func (e *Edge) knownCall(name string) string {
	switch name {
	case wire.CallHello, wire.CallPing, wire.CallSignal, wire.CallWatch, wire.CallUnwatch:
		return name
	}
	f, m, err := subjects.ParseCall(name)
	if err != nil {
		return otherCall
	}
	if method, known := e.caller.Method(f, m); known && method.Public {
		return name
	}
	return otherCall
}

const otherCall = "other"

// allowAnonymous returns an error for a call that needs a signed-in user, and for one too many of an address.
func (e *Edge) allowAnonymous(name, key string, now moment) error {
	f, m, err := subjects.ParseCall(name)
	if err != nil {
		return errNotYet
	}
	method, known := e.caller.Method(f, m)
	mayBecome := f == funcAuth && !known && !e.knows(f) && e.young() // nobody has spoken up for it yet
	if !(known && method.Anonymous) && !mayBecome {
		return errNotYet
	}
	if wait, ok := e.addresses.take(key, now); !ok {
		return tooMany(wait)
	}
	return nil
}
