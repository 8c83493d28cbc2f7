package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// coalesce is how many bytes of frames are written at one time. A larger frame is written alone.
const coalesce = 16 << 10

// closeWithin bounds what is still written to a socket that closes, and answerWithin the peer's answer to a close frame.
const (
	closeWithin = 5 * time.Second
	byeWithin   = time.Second
)

// outbox is what waits to be written to a socket. When more waits than the limits allow, the client is too slow: all of it is dropped
// and the socket closed. Frames are shared between sockets and never changed.
type outbox struct {
	mu      sync.Mutex
	frames  []framed
	one     [1]framed // where frames begins: one that waits alone needs no space of its own
	count   int       // frames that are not written yet, in frames or with the writer
	bytes   int       // their bytes
	by      moment    // all writing ends then; zero = no end yet
	special *special
	reason  wire.CloseCode // why it closes; 0 = it does not, or its peer closed it
	posting *call          // a post that is at work, with whose answer its event is written; nil = none
	late    bool           // the socket is among the laggards
	writing bool           // somebody writes, or is about to; at most one does
	ping    bool           // a ping is due
	gone    bool           // the peer is gone: nothing is written any more
	closing atomic.Bool    // nothing is queued any more: the close frame is the last
}

// special is what is rarely written.
type special struct {
	pong    []byte // the payload of the newest ping that is not answered yet; nil = none
	goodbye []byte // the payload of the close frame; nil = none
}

func (o *outbox) code() wire.CloseCode {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reason
}

// push queues a frame. It never waits.
func (s *socket) push(frame framed) {
	if s.queue(frame) {
		s.edge.flushers.add(s)
	}
}

// say queues a frame and writes it on the goroutine of the caller, where nobody writes to the socket. It does not wait for the peer.
func (s *socket) say(frame framed) {
	if s.queue(frame) {
		s.flush()
	}
}

// queue queues a frame. It reports whether the caller must have the socket flushed.
func (s *socket) queue(frame framed) (flush bool) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.queueLocked(frame, false)
}

// queueLocked is queue. A frame that waits is flushed with what comes next, or as a laggard.
func (s *socket) queueLocked(frame framed, waits bool) (flush bool) {
	limits := &s.edge.cfg.Limits
	o := &s.out
	if o.closing.Load() || o.gone {
		return false
	}
	crowded := o.bytes > coalesce && s.edge.queued.Load() > int64(limits.QueueTotal)
	if o.count > 0 && (crowded || o.count >= limits.QueueFrames || o.bytes+len(frame) > limits.QueueBytes) {
		s.dropLocked()
		return s.closeLocked(wire.CloseTooSlow, farewell(wire.CloseTooSlow, ""))
	}
	if len(o.frames) == 0 {
		o.frames = o.one[:0]
	}
	o.frames = append(o.frames, frame)
	o.count++
	o.bytes += len(frame)
	s.edge.queued.Add(int64(len(frame)))
	if !waits {
		return s.beginLocked()
	}
	if !o.writing && !o.late { // a writer takes it anyway
		o.late = true
		s.edge.laggards.add(s)
	}
	return false
}

// beginLocked reports whether the caller must have the socket flushed, which then counts as being written to.
func (s *socket) beginLocked() bool {
	if s.out.writing || s.out.gone {
		return false
	}
	s.out.writing = true
	s.wg.Add(1)
	return true
}

// dropLocked forgets the frames that the writer has not taken yet.
func (s *socket) dropLocked() {
	n := 0
	for _, frame := range s.out.frames {
		n += len(frame)
	}
	s.out.count -= len(s.out.frames)
	s.out.bytes -= n
	s.out.frames, s.out.one[0] = nil, nil
	s.edge.queued.Add(-int64(n))
}

// settle takes what was never written out of the edge's account. The socket has ended, so nothing comes on top.
func (s *socket) settle() {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.edge.queued.Add(-int64(s.out.bytes))
	s.out.bytes = 0
}

// alter changes what is to be written, and has it written where the change asks for that.
func (s *socket) alter(change func(o *outbox) (flush bool)) {
	s.out.mu.Lock()
	flush := change(&s.out)
	s.out.mu.Unlock()
	if flush {
		s.edge.flushers.add(s)
	}
}

// ping has a ping sent.
func (s *socket) ping() {
	s.alter(func(o *outbox) bool { o.ping = true; return s.beginLocked() })
}

// pong has a ping answered. Of several pings that wait only the newest is answered, as the standard allows.
func (s *socket) pong(payload string) {
	s.alter(func(o *outbox) bool {
		if o.special == nil {
			o.special = &special{}
		}
		o.special.pong = append([]byte{}, payload...)
		return s.beginLocked()
	})
}

// close writes what is queued and then closes the socket with the code. Only the first code counts.
func (s *socket) close(code wire.CloseCode) {
	s.alter(func(*outbox) bool { return s.closeLocked(code, farewell(code, "")) })
}

// answerClose answers the peer's close frame. What is queued is no longer heard.
func (s *socket) answerClose(payload []byte) {
	s.alter(func(*outbox) bool {
		s.dropLocked()
		return s.closeLocked(0, payload)
	})
}

func (s *socket) closeLocked(code wire.CloseCode, payload []byte) (flush bool) {
	o := &s.out
	if o.closing.Load() || o.gone {
		return false
	}
	o.reason = code
	if o.special == nil {
		o.special = &special{}
	}
	o.special.goodbye = payload
	o.by = rightNow().in(closeWithin)
	o.closing.Store(true)
	return s.beginLocked()
}

// abandon gives up a socket whose peer is gone.
func (s *socket) abandon() {
	s.out.mu.Lock()
	s.out.gone = true
	s.dropLocked()
	s.out.mu.Unlock()
	s.line.cut() // so that a write under way ends
	s.look()     // and the reader with it
}

// batch is what a writer takes at one time, and where it puts the bytes together.
type batch struct {
	frames []framed
	size   int    // bytes of frames
	by     moment // until when they must be written
	last   bool   // they end in the close frame
	buffer []byte
	out    []byte // what is still to be written
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) release() {
	clear(b.frames)
	b.frames, b.out = b.frames[:0], nil
	if cap(b.buffer) > 4*coalesce {
		b.buffer = nil
	}
	batches.Put(b)
}

// take takes what is to be written next; it reports false where there is nothing, and then the writer has ended.
func (o *outbox) take(b *batch, now moment, limits *Limits) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(b.frames)
	b.frames, b.size, b.out, b.buffer, b.last = b.frames[:0], 0, nil, b.buffer[:0], false
	if o.gone || (len(o.frames) == 0 && !o.ping && o.special == nil) {
		o.writing = false
		return false
	}
	b.by = now.in(limits.Write)
	if o.by != 0 {
		b.by = min(b.by, o.by)
	}
	for len(o.frames) > 0 && (b.size == 0 || b.size+len(o.frames[0]) <= coalesce) {
		b.size += len(o.frames[0])
		b.frames = append(b.frames, o.frames[0])
		o.frames[0] = nil
		o.frames = o.frames[1:]
	}
	if len(o.frames) == 0 {
		o.frames = nil
	}
	if len(b.frames) == 1 && !o.ping && o.special == nil {
		b.out = b.frames[0]
		return true
	}
	o.composeLocked(b)
	return true
}

// composeLocked puts the bytes together. A close frame comes when nothing else waits.
func (o *outbox) composeLocked(b *batch) {
	if o.special != nil && o.special.pong != nil {
		b.buffer = appendControl(b.buffer, finalPong, o.special.pong)
		o.special.pong = nil
	}
	if o.ping {
		b.buffer = appendControl(b.buffer, finalPing, nil)
		o.ping = false
	}
	for _, frame := range b.frames {
		b.buffer = append(b.buffer, frame...)
	}
	if o.special != nil && o.special.goodbye == nil {
		o.special = nil
	} else if o.special != nil && len(o.frames) == 0 {
		b.buffer = appendControl(b.buffer, finalClose, o.special.goodbye)
		b.last = true
	}
	b.out = b.buffer
}

// wrote counts what was written, or dropped.
func (s *socket) wrote(b *batch) {
	s.edge.queued.Add(-int64(b.size))
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.count -= len(b.frames)
	s.out.bytes -= b.size
}

// flush writes what waits, as far as the peer takes it at once; the rest is written by a goroutine that waits. It is called by whoever was told to
// have the socket flushed.
func (s *socket) flush() {
	b := batches.Get().(*batch)
	if s.line.conn == nil && s.write(b, false) {
		return
	}
	go func() { s.write(b, true) }() // counted in wg since flush was asked for
}

// write is the writer. It reports false where it would have to wait and may not: then it must be called again with the same batch.
func (s *socket) write(b *batch, wait bool) bool {
	for {
		if len(b.out) == 0 && !s.out.take(b, rightNow(), &s.edge.cfg.Limits) {
			break
		}
		n, err := s.line.write(b.out, b.by, wait)
		b.out = b.out[n:]
		if err == errFull {
			return false
		}
		if err != nil {
			b.out = nil
			s.abandon()
			continue // take ends the writer
		}
		s.wrote(b)
		if b.last {
			// Writing stays true: no other writer begins.
			s.endBy(rightNow().in(byeWithin))
			break
		}
	}
	b.release()
	s.wg.Done()
	return true
}

// endBy bounds reading from now on, and has somebody look at the socket then.
func (s *socket) endBy(bound moment) {
	s.line.endBy(bound)
	s.edge.wheel.arm(s, bound)
}
