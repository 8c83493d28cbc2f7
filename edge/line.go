package edge

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// errBloated is what reading returns when a message has many more bytes on the line than it may have content: it came in a great many
// fragments, or with a great many control frames in between.
var errBloated = errors.New("a message has too many bytes on the line")

// line is the network connection of one socket. It keeps the deadlines that must hold whatever the WebSocket library is busy with: a
// message has so long from its first byte to its last, however many fragments and control frames it comes in, and nothing moves the end
// of the time to hello or the end of a socket that is closing.
//
// Reading belongs to the socket's reader; the deadlines may be set by others.
type line struct {
	net.Conn
	message  time.Duration // from the first byte to the last
	maxBytes int           // of one message on the line

	quiet bool // the reader waits for a message; its first byte starts the clock
	bytes int  // since the clock started

	mu    sync.Mutex
	bound time.Time // no read deadline is later than this; zero = no bound
}

// Read reads, starts the clock at the first byte of a message and counts.
func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	l.begun()
	if l.bytes += n; l.bytes > l.maxBytes && err == nil {
		err = errBloated
	}
	return n, err
}

// rest says that the next byte begins a message, which may take until the deadline to come.
func (l *line) rest(deadline time.Time) {
	l.quiet = true
	l.readBy(deadline)
}

// begun says that a message has begun. Its first bytes may have come behind those of the one before; then the clock starts here.
func (l *line) begun() {
	if l.quiet {
		l.quiet, l.bytes = false, 0
		l.readBy(time.Now().Add(l.message))
	}
}

// readBy sets the deadline for reading, within the bound.
func (l *line) readBy(deadline time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.bound.IsZero() && l.bound.Before(deadline) {
		deadline = l.bound
	}
	_ = l.Conn.SetReadDeadline(deadline) // fails only on a closed connection, where reading fails too
}

// endBy bounds all reading from now on. A zero bound takes an earlier one away; the deadline in force stays until the next is set.
func (l *line) endBy(bound time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bound = bound
	if !bound.IsZero() {
		_ = l.Conn.SetReadDeadline(bound)
	}
}

// linger lets the peer read what was written last: closing at once, with bytes unread, would reset the connection and could take the
// close frame with it. It reads on, for a second and a bounded number of bytes.
func (l *line) linger() {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the peer may be gone
	}
	l.endBy(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, l.Conn, 8<<20)
}
