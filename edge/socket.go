package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxBadLines is how many lines that are no frames a socket may send.
const maxBadLines = 10

// socket is one connection of a client. While nothing happens it is this struct and its descriptor, and no goroutine and no buffer beside them: a
// reader comes when something has come, a writer runs while there is something to write, and each open call has a goroutine. Its reader, of whom
// there is one at most, owns what is not said to belong to others.
type socket struct {
	edge    *Edge
	line    line
	client  netip.Addr // for functions' limits on failures
	address *address   // what it is counted under

	token    string // that came with the upgrade
	unspoken bool   // the client speaks no version that is spoken here
	inside   bool   // a message has begun and not ended
	badLines int
	framing  *framing // where the line cannot be parked; the others borrow one
	lines    allowance
	signals  allowance
	control  allowance
	refused  allowance

	session atomic.Pointer[session] // nil before hello
	retired atomic.Bool             // the edge drains: no new calls
	heardAt atomic.Int64            // the moment of the last sign of life
	pinged  moment                  // of the last ping; owned by the pulse
	spoke   spoke                   // its place in the wheel

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

	elsewhere atomic.Bool // a newer connection of the device is on another edge
}

func newSocket(e *Edge, client netip.Addr, address *address, token string) *socket {
	s := &socket{edge: e, line: line{limits: &e.cfg.Limits, poller: e.poller, fd: -1}, client: client, address: address, token: token}
	s.heardAt.Store(int64(rightNow()))
	return s
}

// from returns the client's address, as functions know it.
func (s *socket) from() string {
	if s.client.Is6() {
		return s.client.String()
	}
	return s.address.key // the same text, which is there already
}

// open begins to read. The time to hello begins.
func (s *socket) open() {
	now := rightNow()
	s.line.endBy(now.in(s.edge.cfg.Limits.Hello))
	s.edge.wheel.arm(s, now.in(min(s.edge.cfg.Limits.Hello, s.edge.cfg.Limits.Ping)))
	if s.line.conn != nil {
		s.line.busy = true
		s.edge.readers.take(s)
		return
	}
	unspoken := s.unspoken // once it is watched, a reader may own it
	if err := s.edge.poller.add(s); err != nil {
		s.edge.log.Warn("socket cannot be watched", "err", err)
		s.abandon()
	} else if unspoken {
		s.look()
	}
}

// look has the reader look at the socket, although nothing may have come. It wakes nobody who waits in a net.Conn: there deadlines hold by themselves.
func (s *socket) look() {
	if s.line.conn == nil && s.line.happened(true, false, false) {
		s.edge.readers.take(s)
	}
}

// turn reads what has come, until nothing more has, or to the end of the socket. ctx is the edge's own and ends after a drain.
func (s *socket) turn(ctx context.Context) {
	f := s.framing
	if f == nil {
		var err error
		if f, err = s.edge.framings.borrow(s); err != nil {
			s.edge.log.Error("socket cannot be read", "err", err)
			s.end(ctx, wire.CloseInternal, nil)
			return
		}
	}
	code, parked := s.read(ctx, f)
	if parked {
		s.edge.framings.giveBack(f) // the socket may have another reader already
		return
	}
	f.socket = nil
	s.end(ctx, code, f.said) // a framing that has failed is of no use any more
}

// end cleans up. The code is what to close the socket with, 0 where the peer is gone or has closed it; said is the close frame with which the
// library answers.
func (s *socket) end(ctx context.Context, code wire.CloseCode, said []byte) {
	switch {
	case code != 0 && said != nil:
		s.alter(func(*outbox) bool { return s.closeLocked(code, said) })
	case code != 0:
		s.close(code)
	case said != nil && !s.out.closing.Load():
		s.answerClose(said)
	default:
		s.abandon()
	}
	s.edge.leave(s)
	s.calls.stop()
	s.wg.Wait()
	s.settle()
	if code != 0 {
		s.line.linger()
	}
	s.edge.wheel.forget(s)
	s.line.close()
	s.edge.metrics.closed(s.out.code())
	s.edge.sockets.remove(s)
}

// read handles messages until nothing more has come, and then the socket is parked, or until it ends. Then it returns the code to close it
// with, or 0 where the peer is gone.
func (s *socket) read(ctx context.Context, f *framing) (code wire.CloseCode, parked bool) {
	if s.unspoken {
		return wire.CloseVersion, false
	}
	buffer := messageBuffers.Get().(*bytes.Buffer)
	defer func() { messageBuffers.Put(buffer) }()
	for {
		s.inside = false
		s.line.rest(s.patience())
		kind, r, ok, err := f.next()
		if err != nil {
			return s.failure(err), false
		}
		if !ok {
			if s.line.park() {
				return 0, true
			}
			continue
		}
		s.inside = true
		s.line.begun()
		if kind != websocket.TextMessage {
			return wire.CloseBinary, false
		}
		buffer.Reset()
		if _, err := buffer.ReadFrom(r); err != nil {
			return s.failure(f.reason(err)), false
		}
		s.heardAt.Store(int64(rightNow()))
		if !utf8.Valid(buffer.Bytes()) {
			return wire.CloseInvalidUTF8, false
		}
		if s.out.closing.Load() {
			continue // what comes now is no longer heard
		}
		if code := s.message(ctx, buffer.Bytes()); code != 0 {
			return code, false
		}
		if buffer.Cap() > 8<<10 {
			buffer = new(bytes.Buffer) // a large one is left to the collector
		}
	}
}

var messageBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// patience returns until when a sign of life must come.
func (s *socket) patience() moment {
	limits := &s.edge.cfg.Limits
	return moment(s.heardAt.Load()).in(limits.Ping + limits.Pong)
}

// heardControl counts a ping or a pong. Between messages it is a sign of life; within one it moves no deadline.
func (s *socket) heardControl() error {
	now := rightNow()
	if _, ok := s.control.take(s.edge.paces.control, now); !ok {
		return errFlood
	}
	s.heardAt.Store(int64(now))
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
	case errors.As(err, new(*net.OpError)), errors.As(err, new(*os.SyscallError)):
		return 0
	}
	return wire.CloseProtocol
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
		_, ok := s.lines.take(s.edge.paces.connection, momentOf(now)) // nothing at all costs as much as a line
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
	wait, allowed := s.lines.take(s.edge.paces.connection, momentOf(now))
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
	s.push(errorFrame(id, err))
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
	if _, ok := s.refused.take(s.edge.paces.refused, momentOf(now)); !ok {
		if sess := s.session.Load(); sess != nil {
			sess.user.flooded(s.refused)
		}
		return wire.CloseRateLimited
	}
	return 0
}

// answer pushes the answer of a call that wants one.
func (s *socket) answer(id, data []byte) {
	if len(id) > 0 {
		s.push(okFrame(id, data))
	}
}

// fail pushes the error of a call that wants an answer.
func (s *socket) fail(id []byte, err *wire.Error) {
	if len(id) > 0 {
		s.push(errorFrame(id, err))
	}
}

// asWireError returns the error that clients may see.
func asWireError(err error) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	return wire.Errorf(wire.Internal, "Something broke on the server.")
}
