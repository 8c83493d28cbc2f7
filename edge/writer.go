package edge

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects/wire"
)

// coalesce is how many bytes of frames are put into one WebSocket message. A larger frame has a message of its own.
const coalesce = 16 << 10

// closeWithin bounds what is still written to a socket that closes, and closeFrame the close frame itself.
const (
	closeWithin = 5 * time.Second
	closeFrame  = 2 * time.Second
)

// outbox is what waits to be written to a socket. When more waits than the limits allow, the client is too slow: all of it is dropped
// and the socket closed. Frames are shared between sockets and never changed.
type outbox struct {
	mu      sync.Mutex
	frames  [][]byte
	count   int    // frames that are not written yet, in frames or with the writer
	bytes   int    // their bytes
	writing bool   // the writer runs; at most one does
	ping    bool   // a ping is due
	pong    []byte // the payload of the newest ping that is not answered yet; nil = none
	gone    bool   // the peer is gone: nothing is written any more
	reason  wire.CloseCode
	by      time.Time   // all writing ends then; zero = no end yet
	closing atomic.Bool // reason is set, for readers without the lock
}

func (o *outbox) code() wire.CloseCode {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reason
}

// push queues a frame, which ends in a newline. It never waits.
func (s *socket) push(frame []byte) {
	limits := &s.edge.cfg.Limits
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reason != 0 || o.gone {
		return
	}
	crowded := s.edge.queued.Load() > int64(limits.QueueTotal) && o.bytes > coalesce
	if o.count > 0 && (crowded || o.count >= limits.QueueFrames || o.bytes+len(frame) > limits.QueueBytes) {
		s.dropLocked()
		s.closeLocked(wire.CloseTooSlow)
		return
	}
	o.frames = append(o.frames, frame)
	o.count++
	o.bytes += len(frame)
	s.edge.queued.Add(int64(len(frame)))
	s.wakeLocked()
}

// dropLocked forgets the frames that the writer has not taken yet.
func (s *socket) dropLocked() {
	n := 0
	for _, frame := range s.out.frames {
		n += len(frame)
	}
	s.out.count -= len(s.out.frames)
	s.out.bytes -= n
	s.out.frames = nil
	s.edge.queued.Add(-int64(n))
}

// settle takes what was never written out of the edge's account. The socket has ended, so nothing comes on top.
func (s *socket) settle() {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.edge.queued.Add(-int64(s.out.bytes))
	s.out.bytes = 0
}

// ping has the writer send a ping.
func (s *socket) ping() {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.ping = true
	s.wakeLocked()
}

// pong has the writer answer a ping. Of several pings that wait only the newest is answered, as the standard allows.
func (s *socket) pong(payload string) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.pong = []byte(payload)
	if s.out.pong == nil {
		s.out.pong = []byte{}
	}
	s.wakeLocked()
}

// close writes what is queued and then closes the socket with the code. Only the first code counts.
func (s *socket) close(code wire.CloseCode) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.closeLocked(code)
}

func (s *socket) closeLocked(code wire.CloseCode) {
	o := &s.out
	if o.reason != 0 || o.gone {
		return
	}
	o.reason = code
	o.by = time.Now().Add(closeWithin)
	o.closing.Store(true)
	s.wakeLocked()
}

// abandon gives up a socket whose peer is gone.
func (s *socket) abandon() {
	s.out.mu.Lock()
	s.out.gone = true
	s.dropLocked()
	s.out.mu.Unlock()
	_ = s.line.Close() // so that a write under way ends
}

func (s *socket) wakeLocked() {
	if !s.out.writing && !s.out.gone {
		s.out.writing = true
		s.wg.Go(s.write)
	}
}

// work is what the writer takes at one time.
type work struct {
	frames [][]byte
	ping   bool
	pong   []byte
	reason wire.CloseCode
	by     time.Time
}

// take returns the next work; ok is false where there is none, and then the writer has ended.
func (o *outbox) take() (w work, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w = work{frames: o.frames, ping: o.ping, pong: o.pong, reason: o.reason, by: o.by}
	o.frames, o.ping, o.pong = nil, false, nil
	if o.gone || (len(w.frames) == 0 && !w.ping && w.pong == nil && w.reason == 0) {
		o.writing = false
		return work{}, false
	}
	return w, true
}

// wrote takes n frames out of the accounts. It returns whether to go on with the others: not where they were dropped.
func (o *outbox) wrote(n, bytes int) (by time.Time, goOn bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count -= n
	o.bytes -= bytes
	return o.by, !o.gone && o.reason != wire.CloseTooSlow
}

// write is the writer. It ends when there is nothing to write, when the socket was closed, and when writing fails.
func (s *socket) write() {
	for {
		w, ok := s.out.take()
		if !ok {
			return
		}
		err := s.writeControl(w)
		if err == nil {
			err = s.writeFrames(w.frames, w.by)
		}
		// The library sends a close frame of its own after a violation of the protocol; then only the end remains to be awaited.
		violated := errors.Is(err, websocket.ErrCloseSent)
		if err != nil && !violated {
			s.abandon()
			continue // take ends the writer
		}
		if w.reason != 0 || violated {
			s.writeClose(w.reason)
			return // writing stays true: no other writer begins
		}
	}
}

func (s *socket) writeControl(w work) error {
	deadline := time.Now().Add(s.edge.cfg.Limits.Write)
	if w.pong != nil {
		if err := s.ws.WriteControl(websocket.PongMessage, w.pong, deadline); err != nil {
			return err
		}
	}
	if w.ping {
		return s.ws.WriteControl(websocket.PingMessage, nil, deadline)
	}
	return nil
}

// writeFrames writes frames, several to a message where they are small.
func (s *socket) writeFrames(frames [][]byte, by time.Time) error {
	for len(frames) > 0 {
		n, size := 1, len(frames[0])
		for n < len(frames) && size+len(frames[n]) <= coalesce {
			size += len(frames[n])
			n++
		}
		deadline := time.Now().Add(s.edge.cfg.Limits.Write)
		if !by.IsZero() && by.Before(deadline) {
			deadline = by
		}
		if err := s.writeMessage(frames[:n], deadline); err != nil {
			return err
		}
		frames = frames[n:]
		var goOn bool
		s.edge.queued.Add(-int64(size))
		if by, goOn = s.out.wrote(n, size); !goOn {
			return nil
		}
	}
	return nil
}

var coalesced = sync.Pool{New: func() any { b := make([]byte, 0, coalesce); return &b }}

func (s *socket) writeMessage(frames [][]byte, deadline time.Time) error {
	_ = s.ws.SetWriteDeadline(deadline) // keeps a number, and cannot fail
	if len(frames) == 1 {
		return s.ws.WriteMessage(websocket.TextMessage, frames[0])
	}
	buffer := coalesced.Get().(*[]byte)
	defer coalesced.Put(buffer)
	text := (*buffer)[:0]
	for _, frame := range frames {
		text = append(text, frame...)
	}
	return s.ws.WriteMessage(websocket.TextMessage, text)
}

// writeClose ends the connection from this side. The reader ends when the peer answers, or after a second.
func (s *socket) writeClose(code wire.CloseCode) {
	// Where the library has closed already, after a violation of the protocol, this changes nothing.
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), ""), time.Now().Add(closeFrame))
	s.line.endBy(time.Now().Add(time.Second))
}
