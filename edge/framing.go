package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Buffers for reading. Larger messages pass through them in parts, so they bound nothing.
const (
	lentBuffer = 4 << 10 // of a framing that is lent to whoever has something to read
	ownBuffer  = 1 << 10 // of one that a socket keeps
)

// framing is the WebSocket library's reading of frames, together with its buffer. A socket that can be parked borrows one while there is
// something to read, and gives it back between two messages; others keep one. The library sees a connection that whoever has
// borrowed the framing is read from, and does not know that it changes.
//
// Writing passes the library by: frames of a server are their bytes behind a short header, and one writer a socket keeps them whole. What the
// library itself wants to say (that a close frame is answered, that the protocol was violated) is kept for that writer.
type framing struct {
	ws     *websocket.Conn
	buffer *bufio.Reader
	socket *socket // who has borrowed it

	between bool   // the library stands between two frames and holds no bytes
	drained bool   // there is nothing more to read: the library was given an empty message to return with
	failed  error  // why reading from the line failed, as the library does not say it
	said    []byte // the payload of the close frame that the library wanted to send
	nothing [1]byte
}

// framings are those that nobody has borrowed.
type framings struct{ idle sync.Pool }

// borrow returns a framing for a socket, which must give it back unless reading has failed.
func (t *framings) borrow(s *socket) (*framing, error) {
	f, ok := t.idle.Get().(*framing)
	if !ok {
		var err error
		if f, err = newFraming(lentBuffer, s.edge.cfg.Limits.FrameBytes); err != nil {
			return nil, err
		}
	}
	f.socket = s
	return f, nil
}

func (t *framings) giveBack(f *framing) {
	f.socket = nil
	t.idle.Put(f)
}

// newFraming makes the library's side of a connection. The library makes one only from a handshake: it is given one that it cannot refuse, with
// nobody at the other end.
func newFraming(buffer, limit int) (*framing, error) {
	f := &framing{}
	f.buffer = bufio.NewReaderSize(f, buffer)
	request := &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}
	var upgrader websocket.Upgrader // without sizes of its own it takes the buffers it is given
	ws, err := upgrader.Upgrade(nobody{f}, request, nil)
	if err != nil {
		return nil, fmt.Errorf("prepare to read frames: %w", err)
	}
	f.ws, f.said = ws, nil
	ws.SetReadLimit(int64(limit))
	ws.SetPingHandler(func(payload string) error {
		f.socket.pong(payload)
		return f.control()
	})
	ws.SetPongHandler(func(string) error { return f.control() })
	return f, nil
}

// control notes a ping or a pong, which has been read to its end.
func (f *framing) control() error {
	if err := f.socket.heardControl(); err != nil {
		return err
	}
	f.between = !f.socket.inside && f.buffer.Buffered() == 0
	return nil
}

// next returns the next message, or ok false where nothing more has come. The error is the library's, or better.
func (f *framing) next() (kind int, text io.Reader, ok bool, err error) {
	f.between = f.buffer.Buffered() == 0
	kind, text, err = f.ws.NextReader()
	f.between = false
	switch {
	case err != nil:
		return 0, nil, false, f.reason(err)
	case f.drained:
		f.drained = false
		_, err = text.Read(f.nothing[:]) // to its end, so that the library stands between two frames
		if err == io.EOF {
			err = nil
		}
		return 0, nil, false, err
	}
	return kind, text, true, nil
}

// reason returns why reading failed: what the line says, where it was the line.
func (f *framing) reason(err error) error {
	if f.failed != nil && f.failed != io.EOF {
		return f.failed
	}
	return err
}

// empty is a frame that says nothing, as a client would send it: final, text, masked with zeros.
var empty = [6]byte{0x81, 0x80}

// Read implements net.Conn. Between two frames it does not wait, but has the library return.
func (f *framing) Read(p []byte) (int, error) {
	between := f.between
	f.between = false
	n, err := f.socket.line.read(p, !between)
	if err == errEmpty {
		f.drained = true
		return copy(p, empty[:]), nil
	}
	if err != nil {
		f.failed = err
	}
	return n, err
}

// Write implements net.Conn. The library writes close frames only, and the answer to the handshake that made it.
func (f *framing) Write(p []byte) (int, error) {
	if len(p) >= 2 {
		f.said = append([]byte(nil), p[2:]...)
	}
	return len(p), nil
}

// Close implements net.Conn; the line is not the framing's to close.
func (f *framing) Close() error { return nil }

// LocalAddr implements net.Conn.
func (f *framing) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (f *framing) RemoteAddr() net.Addr { return nil }

// SetDeadline implements net.Conn; deadlines are the line's.
func (f *framing) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (f *framing) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (f *framing) SetWriteDeadline(time.Time) error { return nil }

// nobody is the other end of the handshake that makes a framing.
type nobody struct{ framing *framing }

// Hijack implements http.Hijacker.
func (n nobody) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return n.framing, bufio.NewReadWriter(n.framing.buffer, bufio.NewWriterSize(n.framing, 300)), nil
}

// Header implements http.ResponseWriter.
func (n nobody) Header() http.Header { return http.Header{} }

// Write implements http.ResponseWriter.
func (n nobody) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (n nobody) WriteHeader(int) {}
