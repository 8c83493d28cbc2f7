package edge

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The functions that an edge itself calls.
const (
	funcAuth          subjects.Function = "auth"
	funcSend          subjects.Function = "send"
	funcConversations subjects.Function = "conversations"
	funcHistory       subjects.Function = "history"
	funcPresence      subjects.Function = "presence"
)

// maxCall bounds the time of any call, whatever the method says.
const maxCall = 30 * time.Second

// calls holds the open calls of one socket.
type calls struct {
	mu    sync.Mutex
	open  int
	ids   map[string]struct{}
	lanes map[string][]*call // what waits behind the call at work; a lane is there while one is
	work  []*worker          // in no order
	air   []*call            // those in flight, in no order
	over  bool               // the socket has ended, and with it all work

	leaving int  // open calls of auth.logout, until they are answered
	revoked bool // the session has ended, and the answer to the last of these ends the socket
}

// call is one call of a client.
type call struct {
	id      json.RawMessage // as the client wrote it; empty = wants no answer
	name    string
	data    []byte
	lane    string // calls of one lane are worked on one after another; "" = beside all others
	session *session
	begun   time.Time

	flight functions.Flight
	state  callState // guarded by calls.mu
	place  int       // in calls.air; guarded by that mutex
}

// posts reports whether the call makes an entry of its author's.
func (c *call) posts() bool {
	return c.session != nil && c.lane != "" && strings.HasPrefix(c.name, callsOfSend)
}

// keep copies what is part of the line that the call stands in, which the reader uses again.
func (c *call) keep() {
	own := append(append(make([]byte, 0, len(c.id)+len(c.data)), c.id...), c.data...)
	c.id = own[:len(c.id):len(c.id)]
	if c.data != nil {
		c.data = own[len(c.id):]
	}
}

// handle begins what a frame asks for; it returns the code to close the socket with, or 0.
func (s *socket) handle(ctx context.Context, frame wire.Frame, now time.Time) wire.CloseCode {
	if frame.Call == wire.CallHello {
		if s.calls.isOpen(frame.ID) {
			return s.bad(frame.ID, errOpenID)
		}
		return s.hello(ctx, frame)
	}
	sess := s.session.Load()
	if sess == nil {
		if err := s.edge.allowAnonymous(frame.Call, s.address.key, momentOf(now)); err != nil {
			s.fail(frame.ID, asWireError(err))
			return s.forgive(wire.CodeOf(err) != wire.RateLimited, now)
		}
	} else if wait, ok := sess.user.take(s.edge, s.edge.knownCall(frame.Call), momentOf(now)); !ok {
		s.fail(frame.ID, tooMany(wait))
		return s.forgive(false, now)
	}
	if s.retired.Load() {
		s.fail(frame.ID, errDraining)
		return 0
	}
	c := &call{id: frame.ID, name: frame.Call, data: frame.Data, session: sess, begun: now, lane: laneOf(frame, sess)}
	switch err := s.calls.begin(c, s.edge.cfg.Limits.OpenCalls); err {
	case errOpenID:
		return s.bad(frame.ID, errOpenID)
	case errManyOpen:
		s.fail(frame.ID, errManyOpen)
		return s.forgive(false, now)
	}
	switch c.name {
	case wire.CallPing:
		s.done(c, nil, nil, s.push)
	case wire.CallSignal:
		data, err := s.signal(sess, frame.Data, now)
		s.done(c, data, err, s.push)
	default:
		c.keep()
		if s.calls.enqueue(c) {
			s.start(c)
		}
	}
	return 0
}

var (
	errOpenID   = wire.Errorf(wire.BadFrame, "The id belongs to a call that is still open.")
	errManyOpen = wire.RetryAfter(wire.RateLimited, 50*time.Millisecond, "Too many calls wait for an answer.")
	errDraining = wire.RetryAfter(wire.Unavailable, retrySoon, "This edge is about to stop.")
	errNotYet   = wire.Errorf(wire.Unauthenticated, "Sign in first: with hello on a connection, with the Authorization header over HTTP.")
)

// begin counts one more open call; the error is errOpenID, errManyOpen or nil.
func (c *calls) begin(next *call, most int) *wire.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(next.id) > 0 {
		if _, open := c.ids[string(next.id)]; open {
			return errOpenID
		}
	}
	if c.open >= most {
		return errManyOpen
	}
	c.open++
	if next.name == callLogout {
		c.leaving++
	}
	if len(next.id) > 0 {
		if c.ids == nil {
			c.ids = map[string]struct{}{}
		}
		c.ids[string(next.id)] = struct{}{}
	}
	return nil
}

func (c *calls) isOpen(id json.RawMessage) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, open := c.ids[string(id)]
	return open
}

// idle reports whether no call is open.
func (c *calls) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open == 0
}

// enqueue reports whether the call begins now; otherwise it waits in its lane.
func (c *calls) enqueue(next *call) bool {
	if next.lane == "" {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting, busy := c.lanes[next.lane]; busy {
		c.lanes[next.lane] = append(waiting, next)
		return false
	}
	if c.lanes == nil {
		c.lanes = map[string][]*call{}
	}
	c.lanes[next.lane] = nil
	return true
}

// next returns what waits behind a call, or nil, and then the lane is gone.
func (c *calls) next(lane string) *call {
	if lane == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.lanes[lane]
	if len(waiting) == 0 {
		delete(c.lanes, lane)
		return nil
	}
	c.lanes[lane] = waiting[1:]
	return waiting[0]
}

// hold reports whether the end of the session has to wait for the answer to an open logout, which may have caused it. It does once: whoever
// asks again, as the next poll of revocations does, waits no longer; told is true then.
func (c *calls) hold() (held, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held, told = c.leaving > 0 && !c.revoked, c.revoked
	c.revoked = c.revoked || held
	return held, told
}

// left counts an answered logout, and reports whether the end of the session waited for it.
func (c *calls) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving--
	return c.revoked && c.leaving == 0
}

// enter notes a worker that begins to work for the socket; leave, that it ends.
func (c *calls) enter(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.place = len(c.work)
	c.work = append(c.work, w)
	if c.over {
		w.cancel()
	}
}

func (c *calls) leave(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.work[len(c.work)-1]
	c.work[w.place], last.place = last, w.place
	c.work[len(c.work)-1] = nil
	c.work = c.work[:len(c.work)-1]
}

// stop ends the work on all calls, for the socket has ended.
func (c *calls) stop() {
	c.mu.Lock()
	c.over = true
	for _, w := range c.work {
		w.cancel()
	}
	air := slices.Clone(c.air)
	c.mu.Unlock()
	for _, f := range air {
		f.flight.Abandon()
	}
}

// ended reports whether stop was called.
func (c *calls) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// rest lets go of the space that past calls took.
func (c *calls) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == 0 {
		c.ids, c.lanes = nil, nil
	}
	if len(c.work) == 0 {
		c.work = nil
	}
	if len(c.air) == 0 {
		c.air = nil
	}
}

// work does a call and then those of its lane that came meanwhile.
func (s *socket) work(ctx context.Context, w *worker, c *call) {
	s.calls.enter(w)
	defer s.calls.leave(w)
	for ; c != nil; c = s.calls.next(c.lane) {
		if c.posts() {
			s.posts(c)
		}
		data, err := s.edge.perform(ctx, s, c)
		s.conclude(c, data, err)
	}
}

// conclude learns from the answer to a call, and answers it.
func (s *socket) conclude(c *call, data []byte, err error) {
	if err == nil && c.session != nil {
		if c.name == callHeads {
			s.edge.learnDirects(c.session.user, data)
		} else {
			s.edge.touch(c.session.user, subjects.Conversation(c.lane)) // nothing where the lane is no direct conversation
		}
	}
	if c.posts() {
		s.posted(c)
	}
	s.done(c, data, err, s.say)
}

// done answers a call with write and forgets it. The id is free before the answer is queued: a client may use it again at once.
func (s *socket) done(c *call, data []byte, err error, write func(framed)) {
	s.calls.mu.Lock()
	s.calls.open--
	if len(c.id) > 0 {
		delete(s.calls.ids, string(c.id))
	}
	s.calls.mu.Unlock()
	s.edge.metrics.took(s.edge.knownCall(c.name), wire.CodeOf(err), time.Since(c.begun))
	switch {
	case len(c.id) == 0: // wants no answer
	case err != nil:
		write(errorFrame(c.id, asWireError(err)))
	default:
		write(okFrame(c.id, data))
	}
	if c.name == callLogout && s.calls.left() {
		s.close(wire.CloseRevoked)
	}
}

// perform does one call of a socket.
func (e *Edge) perform(ctx context.Context, s *socket, c *call) ([]byte, error) {
	switch {
	case c.session != nil && c.name == wire.CallWatch:
		return e.presence.watch(ctx, s, c.data)
	case c.session != nil && c.name == wire.CallUnwatch:
		return e.presence.unwatch(s, c.data)
	}
	if c.state == landed { // and is in this worker's hands since
		return c.flight.Finish(ctx)
	}
	if c.session != nil && c.name == callHeads {
		return e.listFor(ctx, c, s.caller(c))
	}
	return e.forward(ctx, c.name, s.caller(c), functions.NewTrace(), c.data, c.begun)
}

// caller returns who makes a call, as functions know it.
func (s *socket) caller(c *call) functions.Call {
	from := functions.Call{Address: s.from()}
	if c.session != nil {
		from.User, from.Device, from.Session = c.session.user.name, c.session.device, c.session.id
	}
	return from
}

// callsOfSend begins the names of the calls that make entries of their author's.
const callsOfSend = string(funcSend) + "."

// callLogout is the call that may end the session it is made in.
const callLogout = "auth.logout"

// callHeads is the call whose answer tells of the user's direct conversations.
const callHeads = "history.heads"

// forward sends a call to its function. The error is a *wire.Error; what is not public never reaches NATS.
func (e *Edge) forward(ctx context.Context, name string, from functions.Call, trace functions.Trace, data []byte, begun time.Time) ([]byte, error) {
	f, m, err := subjects.ParseCall(name)
	if err != nil {
		return nil, errUnknownCall
	}
	method, err := e.public(ctx, f, m)
	if err != nil {
		return nil, err
	}
	if from.User == "" && !method.Anonymous {
		return nil, errNotYet
	}
	deadline := e.deadline(f, m, begun)
	if !time.Now().Before(deadline) || ctx.Err() != nil {
		return nil, wire.RetryAfter(wire.Unavailable, retrySoon, "The call waited too long behind others.")
	}
	return e.caller.CallBy(ctx, deadline, f, m, headerOf(from, trace), orEmpty(data))
}

// deadline returns until when a call may be answered: once the time for an instance to come up or for a try that is lost, and once that for the work.
func (e *Edge) deadline(f subjects.Function, m subjects.Method, begun time.Time) time.Time {
	hold, work := e.caller.Times(f, m)
	return begun.Add(min(max(hold+work, functions.DefaultTimeout), maxCall))
}

func headerOf(from functions.Call, trace functions.Trace) nats.Header {
	header := from.Header()
	header[subjects.HeaderTraceparent] = []string{trace.String()}
	return header
}

// orEmpty returns the body of a call that may have none.
func orEmpty(data []byte) []byte {
	if data == nil {
		return []byte("{}")
	}
	return data
}

var errUnknownCall = wire.Errorf(wire.UnknownCall, "No function offers this call to clients.")

// laneOf returns the lane of a call: the conversation that it speaks of, so that a queue group cannot reorder one sender's messages.
func laneOf(frame wire.Frame, sess *session) string {
	if sess == nil || len(frame.Data) == 0 {
		return ""
	}
	if frame.Call == wire.CallWatch || frame.Call == wire.CallUnwatch {
		return frame.Call[:len("presence")]
	}
	return frame.Lane(sess.user.name)
}
