package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxBadLines is how many lines that are no frames a socket may send.
const maxBadLines = 10

// socket is one connection of a client. Its reader goroutine, serve, owns what is not said to belong to others; each open call has a
// goroutine, and a writer runs while there is something to write.
type socket struct {
	edge    *Edge
	ws      *websocket.Conn
	line    *line
	address string // of the client, for functions' limits on failures
	key     string // what the address is counted under
	since   time.Time

	token    string // that came with the upgrade
	unspoken bool   // the client speaks no version that is spoken here
	inside   bool   // a message has begun and not ended
	badLines int
	lines    *rate.Limiter
	signals  *rate.Limiter
	control  *rate.Limiter
	refused  *rate.Limiter

	session atomic.Pointer[session] // nil before hello
	retired atomic.Bool             // the edge drains: no new calls
	heardAt atomic.Int64            // Unix nanoseconds of the last sign of life
	pinged  int64                   // Unix nanoseconds of the last ping; owned by the pulse

	out   outbox
	calls calls
	wg    sync.WaitGroup // writer and calls

	watching map[subjects.User]struct{} // guarded by presence.mu
}

// session is who a socket belongs to. It is replaced as a whole when a new token extends it.
type session struct {
	user    *user
	device  subjects.Device
	id      string
	issued  time.Time
	expires time.Time
	at      time.Time // when the device connected, in whole milliseconds as in its record
	warned  *atomic.Bool
}

func newSocket(e *Edge, ws *websocket.Conn, l *line, address, key, token string) *socket {
	limits := &e.cfg.Limits
	now := time.Now()
	s := &socket{
		edge: e, ws: ws, line: l, address: address, key: key, token: token, since: now,
		lines: limits.Connection.limiter(), signals: limits.Signal.limiter(), control: limits.Control.limiter(), refused: limits.Refused.limiter(),
	}
	s.heardAt.Store(now.UnixNano())
	ws.SetReadLimit(int64(limits.FrameBytes))
	ws.SetPingHandler(func(payload string) error {
		s.pong(payload)
		return s.heardControl()
	})
	ws.SetPongHandler(func(string) error { return s.heardControl() })
	return s
}

// serve reads until the socket ends, and cleans up. ctx is the edge's own and ends after a drain.
func (s *socket) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.line.endBy(s.since.Add(s.edge.cfg.Limits.Hello))
	code := s.read(ctx)
	alive := code != 0
	if alive {
		s.close(code)
	} else {
		s.abandon()
	}
	s.edge.leave(s)
	cancel()
	s.wg.Wait()
	s.settle()
	if alive {
		s.line.linger()
	}
	_ = s.ws.Close() // the peer may have closed already
	s.edge.metrics.closed(s.out.code())
}

// read handles messages until the socket ends. It returns the code to close it with, or 0 where the peer is gone.
func (s *socket) read(ctx context.Context) wire.CloseCode {
	if s.unspoken {
		return wire.CloseVersion
	}
	buffer := messageBuffers.Get().(*bytes.Buffer)
	defer func() { messageBuffers.Put(buffer) }()
	for {
		s.inside = false
		s.line.rest(s.patience())
		kind, r, err := s.ws.NextReader()
		if err != nil {
			return s.failure(err)
		}
		s.inside = true
		s.line.begun()
		if kind != websocket.TextMessage {
			return wire.CloseBinary
		}
		buffer.Reset()
		if _, err := buffer.ReadFrom(r); err != nil {
			return s.failure(err)
		}
		s.heardAt.Store(time.Now().UnixNano())
		if !utf8.Valid(buffer.Bytes()) {
			return wire.CloseInvalidUTF8
		}
		if s.out.closing.Load() {
			continue // what comes now is no longer heard
		}
		if code := s.message(ctx, buffer.Bytes()); code != 0 {
			return code
		}
		if buffer.Cap() > 8<<10 {
			buffer = new(bytes.Buffer) // a large one is left to the collector
		}
	}
}

var messageBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// patience returns until when a sign of life must come.
func (s *socket) patience() time.Time {
	limits := &s.edge.cfg.Limits
	return time.Now().Add(limits.Ping + limits.Pong)
}

// heardControl counts a ping or a pong. Between messages it is a sign of life; within one it moves no deadline.
func (s *socket) heardControl() error {
	now := time.Now()
	if _, ok := take(s.control, now); !ok {
		return errFlood
	}
	s.heardAt.Store(now.UnixNano())
	if !s.inside {
		s.line.rest(s.patience())
	}
	return nil
}

var errFlood = errors.New("too many control frames")

// failure returns the code to close with after reading failed, or 0 where the peer is gone.
func (s *socket) failure(err error) wire.CloseCode {
	var timeout net.Error
	var closed *websocket.CloseError
	switch {
	case s.out.closing.Load(), errors.As(err, &closed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return 0
	case errors.Is(err, errFlood):
		return wire.CloseRateLimited
	case errors.Is(err, errBloated), errors.Is(err, websocket.ErrReadLimit):
		return wire.CloseTooBig
	case errors.As(err, &timeout) && timeout.Timeout():
		return s.lateness()
	case errors.As(err, new(*net.OpError)):
		return 0
	}
	return wire.CloseProtocol // and the library has said so, with what was wrong
}

// lateness returns the code for a peer from which nothing came in time.
func (s *socket) lateness() wire.CloseCode {
	switch {
	case s.session.Load() == nil:
		return wire.CloseUnauthenticated
	case s.line.quiet:
		return wire.CloseNoPong
	}
	return wire.CloseTooSlow
}

// message handles the lines of one message; it returns the code to close the socket with, or 0.
func (s *socket) message(ctx context.Context, text []byte) wire.CloseCode {
	now := time.Now()
	if len(bytes.TrimSpace(text)) == 0 {
		_, ok := take(s.lines, now) // nothing at all costs as much as a line
		return s.forgive(ok, now)
	}
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if code := s.oneLine(ctx, line, now); code != 0 {
			return code
		}
	}
	return 0
}

// oneLine handles one line; it returns the code to close the socket with, or 0.
func (s *socket) oneLine(ctx context.Context, line []byte, now time.Time) wire.CloseCode {
	wait, allowed := take(s.lines, now)
	frame, err := wire.ParseFrame(line)
	if err != nil {
		e := asWireError(err)
		if e.Code == wire.BadFrame {
			return s.bad(frame.ID, e)
		}
		s.fail(frame.ID, e)
		return s.forgive(allowed, now)
	}
	if !allowed {
		s.fail(frame.ID, tooMany(wait))
		return s.forgive(false, now)
	}
	return s.handle(ctx, frame, now)
}

// bad answers a line that is no frame, also where no id can be read.
func (s *socket) bad(id []byte, err *wire.Error) wire.CloseCode {
	s.edge.metrics.badLines.Inc()
	s.push(wire.AppendError(nil, id, err))
	if s.badLines++; s.badLines >= maxBadLines {
		return wire.CloseBadFrames
	}
	return 0
}

// forgive counts what was refused for coming too fast; who goes on regardless is closed.
func (s *socket) forgive(allowed bool, now time.Time) wire.CloseCode {
	if allowed {
		return 0
	}
	s.edge.metrics.limited.Inc()
	if _, ok := take(s.refused, now); !ok {
		return wire.CloseRateLimited
	}
	return 0
}

// answer pushes the answer of a call that wants one.
func (s *socket) answer(id, data []byte) {
	if len(id) > 0 {
		s.push(wire.AppendOK(nil, id, data))
	}
}

// fail pushes the error of a call that wants an answer.
func (s *socket) fail(id []byte, err *wire.Error) {
	if len(id) > 0 {
		s.push(wire.AppendError(nil, id, err))
	}
}

// asWireError returns the error that clients may see.
func asWireError(err error) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	return wire.Errorf(wire.Internal, "Something broke on the server.")
}
