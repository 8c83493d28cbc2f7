package functions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Limits bounds what a Caller holds in memory for functions that sleep or are full. A call beyond a bound is refused at once as Unavailable. The
// zero value is fit for use.
type Limits struct {
	Hold        time.Duration // the longest that a call is held for an instance, beside its method's timeout and its deadline; 0 = 30 s
	PerClient   int           // calls held for one user, or one address before sign-in, in one function; 0 = 128
	PerFunction int           // calls held for one function; 0 = 4,096
	Bytes       int64         // bodies held for all functions together, with 512 bytes a call for what belongs to it; 0 = 64 MiB
}

// The defaults of Limits, and what a held call costs beside its body.
const (
	defaultHold        = 30 * time.Second
	defaultPerClient   = 128
	defaultPerFunction = 4096
	defaultHeldBytes   = 64 << 20
	heldOverhead       = 512
)

func (l Limits) withDefaults() Limits {
	if l.Hold <= 0 {
		l.Hold = defaultHold
	}
	if l.PerClient <= 0 {
		l.PerClient = defaultPerClient
	}
	if l.PerFunction <= 0 {
		l.PerFunction = defaultPerFunction
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultHeldBytes
	}
	return l
}

// gates holds one gate for each function that was called or heard of: names come from programs and from instances, never from clients. Its
// lock is held alone; a gate's is taken before that of the inbox.
type gates struct {
	nc     *nats.Conn
	log    *slog.Logger
	table  *table
	inbox  *inbox
	limits Limits
	caller string // the name of this Caller in demands
	bytes  atomic.Int64
	done   chan struct{}
	wg     sync.WaitGroup // of the gates' pumps

	mu     sync.Mutex
	byName map[subjects.Function]*gate
	closed bool
}

func newGates(nc *nats.Conn, log *slog.Logger, inbox *inbox, limits Limits) *gates {
	return &gates{
		nc: nc, log: log, inbox: inbox, limits: limits.withDefaults(), caller: strings.ToLower(rand.Text()[:10]),
		done: make(chan struct{}), byName: map[subjects.Function]*gate{},
	}
}

// of returns the gate of a function.
func (a *gates) of(f subjects.Function) *gate {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.byName[f]
	if g == nil {
		g = &gate{all: a, function: f, closed: a.closed, clients: map[string]int{}, lanes: map[string]struct{}{}}
		a.byName[f] = g
	}
	return g
}

// close refuses what is held and whatever else comes.
func (a *gates) close() {
	a.mu.Lock()
	a.closed = true
	all := make([]*gate, 0, len(a.byName))
	for _, g := range a.byName {
		all = append(all, g)
	}
	a.mu.Unlock()
	for _, g := range all {
		g.close()
	}
	close(a.done)
	a.wg.Wait()
}

// gate is where calls to one function wait while it sleeps or is full. What waits is released in the order in which the calls were made, so
// that no more of them are unanswered at once than the function's instances work on, and at most one of each lane: with two instances
// a second one could overtake the first. Calls are published under mu, which makes the order of releases that of the messages.
//
// A call goes past the gate, unseen, while crowd is 0. mu guards everything else.
type gate struct {
	all      *gates
	function subjects.Function
	crowd    atomic.Int64 // calls that wait, and lanes of released calls

	mu      sync.Mutex
	queue   []*heldCall // by ticket
	clients map[string]int
	lanes   map[string]struct{} // of released calls that have no answer yet
	window  window              // of released calls
	peak    int                 // the most that waited since the last demand
	told    int                 // what the last demand said
	urged   uint64              // the waking before the sleep of which demand was said
	pumping bool                // the goroutine pump runs
	closed  bool
}

// heldCall is one call at a gate.
type heldCall struct {
	gate   *gate
	ticket uint64
	method subjects.Method
	msg    *nats.Msg
	client string // "" = none: a program for itself
	lane   string // "" = beside all others
	since  time.Time
	until  time.Time // after it the call is not released any more
	due    time.Time // before it the call is not released

	out     chan struct{} // closed when the call has left the queue, and what follows may be read
	err     error         // why it was not sent
	pending pending
	sent    time.Time
	known   knownMethod
	age     int    // of the window's
	by      string // the instance that answered; "" = none
}

// clientOf returns who a call is for.
func clientOf(header nats.Header) string {
	if user := first(header, subjects.HeaderUser); user != "" {
		return "user " + user
	}
	if address := first(header, subjects.HeaderAddress); address != "" {
		return "address " + address
	}
	return ""
}

// laneOf returns the lane of a call: its client and the conversation that the body speaks of.
func laneOf(client string, msg *nats.Msg) string {
	if client == "" || len(msg.Data) == 0 {
		return ""
	}
	var named struct {
		Conversation string        `json:"conversation"`
		To           subjects.User `json:"to"`
	}
	if json.Unmarshal(msg.Data, &named) != nil { // the function says what is wrong with it
		return ""
	}
	if named.Conversation == "" && named.To != "" {
		if direct, err := subjects.Direct(subjects.User(first(msg.Header, subjects.HeaderUser)), named.To); err == nil {
			named.Conversation = string(direct)
		}
	}
	if named.Conversation == "" {
		return ""
	}
	return client + " " + named.Conversation
}

// enter lets a call pass, or puts it in the queue, from where it may be released at once. The error is a *wire.Error: too much waits.
func (g *gate) enter(h *heldCall) (pass bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	snapshot := g.all.table.now()
	if err := snapshot.refusal(g.function, time.Now()); err != nil {
		return false, err
	}
	if _, busy := g.lanes[h.lane]; !busy && len(g.queue) == 0 && h.due.IsZero() && !snapshot.asleep(g.function) {
		return true, nil
	}
	size := int64(len(h.msg.Data)) + heldOverhead
	limits := g.all.limits
	switch {
	case g.closed:
		return false, unavailable(g.function)
	case h.client != "" && g.clients[h.client] >= limits.PerClient, len(g.queue) >= limits.PerFunction:
		return false, crowded(g.function)
	case g.all.bytes.Add(size) > limits.Bytes:
		g.all.bytes.Add(-size)
		return false, crowded(g.function)
	}
	at, _ := slices.BinarySearchFunc(g.queue, h.ticket, func(other *heldCall, ticket uint64) int {
		if other.ticket < ticket {
			return -1
		}
		return 1
	})
	g.queue = slices.Insert(g.queue, at, h)
	if h.client != "" {
		g.clients[h.client]++
	}
	g.release()
	g.peak = max(g.peak, len(g.queue))
	g.urge()
	if len(g.queue) > 0 && !g.pumping {
		g.pumping = true
		g.all.wg.Go(g.pump)
	}
	return false, nil
}

// wait returns when a call has left the queue, or takes it out at its end; released says whether it was sent.
func (g *gate) wait(ctx context.Context, h *heldCall) (released bool) {
	end := time.NewTimer(time.Until(h.until))
	defer end.Stop()
	var due <-chan time.Time
	if !h.due.IsZero() {
		timer := time.NewTimer(time.Until(h.due))
		defer timer.Stop()
		due = timer.C
	}
	for {
		select {
		case <-h.out:
			return h.err == nil
		case <-due:
			g.mu.Lock()
			g.release()
			g.mu.Unlock()
			continue
		case <-end.C:
		case <-ctx.Done():
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		at := slices.Index(g.queue, h)
		if at < 0 {
			return h.err == nil
		}
		g.queue = slices.Delete(g.queue, at, at+1)
		g.left(h, unavailable(g.function))
		g.release() // others of its lane may have waited behind it
		return false
	}
}

// left notes that a call is not in the queue any more.
func (g *gate) left(h *heldCall, err error) {
	g.all.bytes.Add(-int64(len(h.msg.Data)) - heldOverhead)
	if h.client != "" {
		if g.clients[h.client]--; g.clients[h.client] == 0 {
			delete(g.clients, h.client)
		}
	}
	h.err = err
	close(h.out)
}

// release sends what may be sent.
func (g *gate) release() {
	defer g.count()
	snapshot := g.all.table.now()
	g.refuse(snapshot)
	state := snapshot.functions[g.function]
	if state == nil || state.instances == 0 || len(g.queue) == 0 {
		return
	}
	g.window.look(state)
	now := time.Now()
	var behind map[string]struct{} // lanes of which an earlier call is not due yet
	kept := g.queue[:0]
	for i, h := range g.queue {
		if g.window.used() >= state.capacity {
			kept = append(kept, g.queue[i:]...)
			break
		}
		_, busy := g.lanes[h.lane]
		_, follows := behind[h.lane]
		if busy || follows || now.Before(h.due) || !now.Before(h.until) {
			if h.lane != "" && now.Before(h.due) {
				if behind == nil {
					behind = map[string]struct{}{}
				}
				behind[h.lane] = struct{}{}
			}
			kept = append(kept, h)
			continue
		}
		g.send(h, state, now)
	}
	clear(g.queue[len(kept):])
	g.queue = kept
}

// send publishes a call that has its turn.
func (g *gate) send(h *heldCall, state *functionState, now time.Time) {
	known, ok := state.methods[h.method]
	if !ok {
		g.left(h, unknown(g.function, h.method))
		return
	}
	h.known, h.sent = known, now
	h.msg.Subject = known.subject
	var err error
	if h.pending, err = g.all.inbox.begin(h.msg); err == nil {
		h.age = g.window.take()
		if h.lane != "" {
			g.lanes[h.lane] = struct{}{}
		}
	}
	g.left(h, err)
}

// settle notes that a released call has its answer, or will get none.
func (g *gate) settle(h *heldCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	snapshot := g.all.table.now()
	g.window.settle(h.age, h.by, func(instance string) bool { return snapshot.alive(g.function, instance) })
	if h.lane != "" {
		delete(g.lanes, h.lane)
	}
	g.release()
}

func (g *gate) count() { g.crowd.Store(int64(len(g.queue) + len(g.lanes))) }

// close refuses all that is held.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.giveUp(unavailable(g.function))
	g.count()
	if g.told > 0 {
		g.tell()
	}
}

func crowded(f subjects.Function) error {
	return wire.RetryAfter(wire.Unavailable, retryAfter, "Too many calls wait for the function %s.", f)
}

func unavailable(f subjects.Function) error {
	return wire.RetryAfter(wire.Unavailable, retryAfter, "No instance of the function %s is up.", f)
}

func unknown(f subjects.Function, m subjects.Method) error {
	return wire.Errorf(wire.UnknownCall, "The function %s has no method %s.", f, m)
}
