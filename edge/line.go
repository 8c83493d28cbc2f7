package edge

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var (
	// errBloated is what reading returns when a message has many more bytes on the line than it may have content: it came in a great many
	// fragments, or with a great many control frames in between.
	errBloated = errors.New("a message has too many bytes on the line")

	// errEmpty is what reading without waiting returns when there is nothing to read, and errFull what writing does when the peer takes no more.
	errEmpty = errors.New("nothing has come")
	errFull  = errors.New("nothing more is taken")
)

// line is the network connection of one socket. It keeps the deadlines that must hold whatever the WebSocket library is busy with: a
// message has so long from its first byte to its last, however many fragments and control frames it comes in, and nothing moves the end
// of the time to hello or the end of a socket that is closing.
//
// Most lines can be parked: they have a descriptor of their own that the poller watches, and nobody reads while nothing comes. The others
// (TLS, and all of them where the system has no poller) have a net.Conn, and a reader that waits in it.
//
// Reading belongs to the socket's reader, writing to its writer; the deadlines may be set by others. The descriptor is closed once, when
// neither is left, so that nobody can use the number when it belongs to another connection.
type line struct {
	limits *Limits
	poller *poller
	conn   net.Conn // nil where the line can be parked
	fd     int      // where it can

	quiet bool // the reader waits for a message; its first byte starts the clock
	dry   bool // all that had come was read
	bytes int  // since the clock started

	mu       sync.Mutex
	bound    moment // no read deadline is later than this; zero = no bound
	deadline moment // for reading; zero = none
	busy     bool   // somebody reads, or is about to
	again    bool   // there is something to read, or to look at
	hung     bool   // the peer has ended its side: there is an end to be read, whatever has been read
	dead     bool   // all waiting is over
	reader   waiter // where the reader waits in the middle of a message
	writer   waiter // where the writer waits for the peer
}

// waiter is what a goroutine waits on; nil while none does.
type waiter chan struct{}

var waiters = sync.Pool{New: func() any { return make(waiter, 1) }}

// wake ends a wait; the caller holds the line's mutex.
func (w waiter) wake() {
	select {
	case w <- struct{}{}:
	default: // it is awake already, or there is none
	}
}

// read reads, starts the clock at the first byte of a message and counts. Where wait is false it returns errEmpty when nothing has come.
func (l *line) read(p []byte, wait bool) (int, error) {
	var n int
	var err error
	if l.conn != nil {
		n, err = l.conn.Read(p)
	} else {
		n, err = l.fetch(p, wait)
	}
	if n == 0 {
		return n, err
	}
	l.begun()
	if l.bytes += n; l.bytes > 2*l.limits.FrameBytes+4096 && err == nil {
		err = errBloated
	}
	return n, err
}

// fetch reads from the descriptor. The poller tells of what comes once: what is not known to be read to the end is read until it is.
func (l *line) fetch(p []byte, wait bool) (int, error) {
	for {
		l.mu.Lock()
		look := !l.dry || l.again || l.hung
		l.again = false
		dead, late := l.dead, l.deadline != 0 && rightNow() >= l.deadline
		l.mu.Unlock()
		switch {
		case dead:
			return 0, net.ErrClosed
		case late:
			return 0, os.ErrDeadlineExceeded
		}
		if look {
			n, err := receive(l.fd, p)
			l.dry = n < len(p)
			if err != errEmpty {
				return n, err
			}
		}
		if !wait {
			return 0, errEmpty
		}
		l.awaitBytes()
	}
}

// awaitBytes waits until there is something to look at: bytes, a new deadline, or that the deadline has come.
func (l *line) awaitBytes() {
	w := waiters.Get().(waiter)
	l.mu.Lock()
	deadline := l.deadline
	if l.again || l.dead {
		w.wake()
	}
	l.reader = w
	l.mu.Unlock()
	w.wait(deadline)
	l.mu.Lock()
	l.reader = nil
	l.mu.Unlock()
	w.put()
}

// wait waits until it is woken, or until a deadline, and reports whether it was woken.
func (w waiter) wait(deadline moment) bool {
	if deadline == 0 {
		<-w
		return true
	}
	timer := time.NewTimer(rightNow().until(deadline))
	defer timer.Stop()
	select {
	case <-w:
		return true
	case <-timer.C:
		return false
	}
}

// put gives the waiter back. Nobody has it any more.
func (w waiter) put() {
	select {
	case <-w:
	default:
	}
	waiters.Put(w)
}

// write writes all of p, or returns how much of it. Where wait is false it returns errFull when the peer does not take it at once; otherwise
// the deadline holds.
func (l *line) write(p []byte, deadline moment, wait bool) (int, error) {
	if l.conn != nil {
		_ = l.conn.SetWriteDeadline(deadline.time()) // fails only on a closed connection, where writing fails too
		return l.conn.Write(p)
	}
	written := 0
	for {
		n, err := transmit(l.fd, p[written:])
		written += n
		if written == len(p) || err != nil && err != errFull || err == errFull && !wait {
			return written, err
		}
		if err == nil {
			continue
		}
		if err := l.awaitRoom(deadline); err != nil {
			return written, err
		}
	}
}

// awaitRoom waits until the peer takes more.
func (l *line) awaitRoom(deadline moment) error {
	w := waiters.Get().(waiter)
	l.mu.Lock()
	if l.dead {
		w.wake()
	}
	l.writer = w
	l.mu.Unlock()
	err := l.poller.watchWriting(l)
	if err == nil && !w.wait(deadline) {
		err = os.ErrDeadlineExceeded
	}
	l.mu.Lock()
	l.writer = nil
	if l.dead && err == nil {
		err = net.ErrClosed
	}
	l.mu.Unlock()
	w.put()
	return err
}

// happened notes what the poller says. It reports whether a reader must be found.
func (l *line) happened(readable, writable, hung bool) (read bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if writable {
		l.writer.wake()
	}
	if !readable && !hung {
		return false
	}
	l.again, l.hung = true, l.hung || hung
	l.reader.wake()
	read = !l.busy
	l.busy = true
	return read
}

// park ends the reading of one that has read all. It reports false where something has come meanwhile: then the reader must go on.
func (l *line) park() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.again {
		return false
	}
	l.busy = false
	return true
}

// cut ends all waiting, and all reading and writing that is yet to come.
func (l *line) cut() {
	if l.conn != nil {
		_ = l.conn.Close() // the peer may have closed already
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.reader.wake()
	l.writer.wake()
}

// close closes the connection. Nobody reads or writes any more.
func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close() // the peer may have closed already
		return
	}
	l.poller.drop(l)
}

// rest says that the next byte begins a message, which may take until the deadline to come.
func (l *line) rest(deadline moment) {
	l.quiet = true
	l.readBy(deadline)
}

// begun says that a message has begun. Its first bytes may have come behind those of the one before; then the clock starts here.
func (l *line) begun() {
	if l.quiet {
		l.quiet, l.bytes = false, 0
		l.readBy(rightNow().in(l.limits.Message))
	}
}

// readBy sets the deadline for reading, within the bound.
func (l *line) readBy(deadline moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bound != 0 && l.bound < deadline {
		deadline = l.bound
	}
	l.deadlineLocked(deadline)
}

// endBy bounds all reading from now on. A zero bound takes an earlier one away; the deadline in force stays until the next is set.
func (l *line) endBy(bound moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bound = bound
	if bound != 0 {
		l.deadlineLocked(bound)
		l.reader.wake()
	}
}

func (l *line) deadlineLocked(deadline moment) {
	l.deadline = deadline
	if l.conn != nil {
		_ = l.conn.SetReadDeadline(deadline.time()) // fails only on a closed connection, where reading fails too
	}
}

// late reports whether the time for reading is over, and otherwise when it will be; zero = never.
func (l *line) late(now moment) (over bool, at moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline != 0 && l.deadline <= now, l.deadline
}

// linger lets the peer read what was written last: closing at once, with bytes unread, would reset the connection and could take the
// close frame with it. It reads on, for a second and a bounded number of bytes.
func (l *line) linger() {
	if l.conn == nil {
		shut(l.fd)
	} else if half, ok := l.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the peer may be gone
	}
	l.endBy(rightNow().in(time.Second))
	_, _ = io.CopyN(io.Discard, remainder{l}, 8<<20)
}

// remainder is what still comes on a line that ends.
type remainder struct{ *line }

// Read implements io.Reader.
func (r remainder) Read(p []byte) (int, error) {
	if r.conn != nil {
		return r.conn.Read(p)
	}
	return r.fetch(p, true)
}
