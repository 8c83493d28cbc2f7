package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// The events that lines are watched for. They are told of once each: a line remembers that it was told, so that parking and reading
// again cost no call of the system.
const (
	edgeTriggered = 1 << 31 // syscall.EPOLLET is negative
	watched       = syscall.EPOLLIN | syscall.EPOLLRDHUP | edgeTriggered
	over          = syscall.EPOLLHUP | syscall.EPOLLERR
)

// poller watches the descriptors of all parked lines, with epoll. The epoll descriptor itself waits in the runtime's own poller, so that no
// thread is blocked in it.
type poller struct {
	file *os.File
	fd   int

	mu      sync.RWMutex
	sockets []*socket // by the descriptors of their lines
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll descriptor: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("prepare the epoll descriptor: %w", err)
	}
	return &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}, nil
}

// take returns a descriptor of a connection that is the caller's to close, and closes the connection. ok is false for connections that
// are more than a descriptor, such as TLS; they stay as they are.
func (p *poller) take(conn net.Conn) (fd int, ok bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	fd = -1
	if err := raw.Control(func(own uintptr) {
		copied, _, errno := syscall.Syscall(syscall.SYS_FCNTL, own, syscall.F_DUPFD_CLOEXEC, 0)
		if errno == 0 {
			fd = int(copied)
		}
	}); err != nil || fd < 0 {
		return 0, false
	}
	_ = tcp.Close() // the connection lives on in the copy
	return fd, true
}

// add begins to watch a socket's line; what has come already is told of at once.
func (p *poller) add(s *socket) error {
	p.mu.Lock()
	for len(p.sockets) <= s.line.fd {
		p.sockets = append(p.sockets, nil)
	}
	p.sockets[s.line.fd] = s
	p.mu.Unlock()
	return p.control(syscall.EPOLL_CTL_ADD, s.line.fd, watched)
}

// watchWriting tells once more when a line takes bytes, also where it does already.
func (p *poller) watchWriting(l *line) error {
	return p.control(syscall.EPOLL_CTL_MOD, l.fd, watched|syscall.EPOLLOUT)
}

func (p *poller) control(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)}))
}

// drop ends the watching of a line and closes it. An event of it that is being told may reach the next line of the same number, whose
// reader then finds nothing: that does no harm.
func (p *poller) drop(l *line) {
	p.mu.Lock()
	if l.fd < len(p.sockets) {
		p.sockets[l.fd] = nil
	}
	p.mu.Unlock()
	_ = syscall.Close(l.fd) // takes it out of the epoll set, for there is no other copy
}

// run tells lines what happens to them until close.
func (p *poller) run() error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch sockets: %w", err)
	}
	var events [256]syscall.EpollEvent
	var broken error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events[:], 0)
			switch {
			case err == syscall.EINTR:
			case err != nil:
				broken = os.NewSyscallError("epoll_wait", err)
				return true
			case n == 0:
				return false // and so waits
			}
			for i := range max(n, 0) {
				p.tell(events[i])
			}
		}
	})
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, broken)
}

func (p *poller) tell(event syscall.EpollEvent) {
	p.mu.RLock()
	s := p.sockets[event.Fd]
	p.mu.RUnlock()
	if s == nil {
		return
	}
	// A peer that only reads on has hung up for the reader; the writer may still wait for it.
	if s.line.happened(event.Events&syscall.EPOLLIN != 0, event.Events&(syscall.EPOLLOUT|over) != 0, event.Events&(syscall.EPOLLRDHUP|over) != 0) {
		s.edge.readers.take(s)
	}
}

// close ends run.
func (p *poller) close() { _ = p.file.Close() }

// receive reads what has come on a descriptor.
func receive(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		switch {
		case n > 0:
			return n, nil
		case err == syscall.EAGAIN:
			return 0, errEmpty
		case err == syscall.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		default:
			return 0, io.EOF
		}
	}
}

// transmit writes as much as a descriptor takes.
func transmit(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, p)
		switch {
		case n > 0 || err == nil:
			return n, nil
		case err == syscall.EAGAIN:
			return 0, errFull
		case err != syscall.EINTR:
			return 0, os.NewSyscallError("write", err)
		}
	}
}

// shut says that nothing more will be written.
func shut(fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_WR) } // the peer may be gone
