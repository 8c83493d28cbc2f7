package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// What loops are told of, once each: that bytes came, that a connection takes bytes again, that it ended.
const (
	edgeTriggered = 1 << 31 // syscall.EPOLLET is negative
	watched       = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edgeTriggered
	hungUp        = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
)

// bindNoPort has the kernel choose the port of a socket only when it connects (IP_BIND_ADDRESS_NO_PORT), so that ports are bound by pairs of addresses.
const bindNoPort = 24

// loops read many sockets with few goroutines: one of them serves all that has come to some hundred sockets with one look at epoll and one read for each, into one buffer. A goroutine for each socket would
// cost several times as much, which on a machine of few cores is taken from the server that is measured.
type loops struct {
	all     []*loop
	running int // how many goroutines the runtime let run at once before
	next    atomic.Uint32
	working sync.WaitGroup
}

// loop is one reader. Its sockets are closed by it alone, so that no number of theirs is another's while it reads.
type loop struct {
	fd, stopping, stop int // epoll; the two ends of a pipe whose closing ends the loop

	mu      sync.Mutex // guards what follows; after that of a socket
	sockets map[int32]*looped
}

// looped is the connection of a socket whose reader is a loop. It is guarded by the socket's lock, but for Close.
type looped struct {
	socket  *socket
	fd      int
	pending []byte      // what the kernel did not take yet
	waits   atomic.Bool // there is something pending; of anybody, so that the loop need not lock a socket that is written to

	mu   sync.Mutex // guards what follows, and the closing of fd; after the socket's
	over bool
}

// spareRunning is how many goroutines the runtime may run at once beside the loops: where all that it lets run stand in calls of the system, as loops and pacers do, its monitor wakes up every twenty
// microseconds to take one back, which took a quarter of the generator's time on two cores.
const spareRunning = 3

// newLoops starts a loop for every two cores.
func newLoops() (*loops, error) {
	count := max(1, runtime.NumCPU()/2)
	l := &loops{running: runtime.GOMAXPROCS(0)}
	runtime.GOMAXPROCS(max(l.running, count+spareRunning))
	for range count {
		one, err := newLoop()
		if err != nil {
			l.close()
			return nil, err
		}
		l.all = append(l.all, one)
		l.working.Go(one.run)
	}
	return l, nil
}

func newLoop() (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll descriptor: %w", err)
	}
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	l := &loop{fd: fd, stopping: ends[0], stop: ends[1], sockets: map[int32]*looped{}}
	if err := l.watch(l.stopping); err != nil {
		for _, fd := range []int{fd, ends[0], ends[1]} {
			_ = syscall.Close(fd)
		}
		return nil, err
	}
	return l, nil
}

// close ends the loops, and what connections they still have.
func (l *loops) close() {
	for _, one := range l.all {
		_ = syscall.Close(one.stop)
	}
	l.working.Wait()
	runtime.GOMAXPROCS(l.running)
}

// dial begins to connect a socket, from an address where one is given, and to send the request for the WebSocket.
func (l *loops) dial(s *socket, to string, from netip.Addr, request []byte) error {
	remote, err := net.ResolveTCPAddr("tcp", to)
	if err != nil {
		return err
	}
	fd, err := connectTo(remote.AddrPort(), from)
	if err != nil {
		return fmt.Errorf("dial %s: %w", to, err)
	}
	c := &looped{socket: s, fd: fd, pending: request}
	c.waits.Store(true)
	s.conn = c
	one := l.all[l.next.Add(1)%uint32(len(l.all))]
	one.mu.Lock()
	one.sockets[int32(fd)] = c
	one.mu.Unlock()
	if err := one.watch(fd); err != nil {
		one.drop(c, err)
		return err
	}
	return nil
}

// connectTo begins to connect; what comes of it is told by epoll.
func connectTo(to netip.AddrPort, from netip.Addr) (fd int, err error) {
	family, remote := syscall.AF_INET, syscall.Sockaddr(nil)
	if ip := to.Addr().Unmap(); ip.Is4() {
		remote = &syscall.SockaddrInet4{Port: int(to.Port()), Addr: ip.As4()}
	} else {
		family, remote = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(to.Port()), Addr: ip.As16()}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
	if err == nil && from.IsValid() {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindNoPort, 1) // without it there are fewer ports
		err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrInet4{Addr: from.As4()}))
	}
	if err == nil {
		if err = os.NewSyscallError("connect", syscall.Connect(fd, remote)); errors.Is(err, syscall.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (l *loop) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: watched, Fd: int32(fd)}))
}

// run serves sockets until the loop is closed.
func (l *loop) run() {
	var events [256]syscall.EpollEvent
	buffer := make([]byte, mostRead)
	for over := false; !over; {
		n, err := syscall.EpollWait(l.fd, events[:], -1)
		if err != nil && err != syscall.EINTR {
			break // it has no descriptor any more
		}
		for _, event := range events[:max(n, 0)] {
			if int(event.Fd) == l.stopping {
				over = true
				continue
			}
			l.mu.Lock()
			c := l.sockets[event.Fd]
			l.mu.Unlock()
			if c == nil {
				continue // it was dropped by what came before
			}
			if err := c.happened(event.Events, buffer); err != nil {
				l.drop(c, err)
			}
		}
	}
	l.mu.Lock()
	left := l.sockets
	l.sockets = map[int32]*looped{}
	l.mu.Unlock()
	for _, c := range left {
		l.drop(c, errEnded)
	}
	_ = syscall.Close(l.fd)
	_ = syscall.Close(l.stopping)
}

// drop ends a socket.
func (l *loop) drop(c *looped, err error) {
	l.mu.Lock()
	delete(l.sockets, int32(c.fd))
	l.mu.Unlock()
	c.socket.end(err)
	c.mu.Lock()
	c.over = true
	_ = syscall.Close(c.fd) // there is no other copy, so epoll forgets it
	c.mu.Unlock()
}

// happened does what an event asks for.
func (c *looped) happened(events uint32, buffer []byte) error {
	if events&syscall.EPOLLOUT != 0 && c.waits.Load() {
		if err := c.flush(); err != nil {
			return err
		}
	}
	if events&(syscall.EPOLLIN|hungUp) == 0 {
		return nil
	}
	for {
		n, err := syscall.Read(c.fd, buffer)
		switch {
		case n > 0:
			if err := c.socket.came(buffer[:n]); err != nil {
				return err
			}
			if n < len(buffer) && events&hungUp == 0 {
				return nil // whatever comes now is told of anew
			}
		case err == syscall.EAGAIN:
			return nil
		case err == syscall.EINTR:
		case err != nil:
			return os.NewSyscallError("read", err)
		default:
			return io.EOF
		}
	}
}

// flush writes what is pending.
func (c *looped) flush() error {
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	pending := c.pending
	c.pending = nil
	_, err := c.Write(pending)
	return err
}

// Write writes what the kernel takes and keeps the rest.
func (c *looped) Write(data []byte) (int, error) {
	if len(c.pending) > 0 {
		if len(c.pending) > longestMessage {
			return 0, errors.New("the server does not read")
		}
		c.pending = append(c.pending, data...)
		return len(data), nil
	}
	for left := data; len(left) > 0; {
		n, err := syscall.Write(c.fd, left)
		switch {
		case n > 0:
			left = left[n:]
		case err == syscall.EAGAIN && c.waits.Load():
			c.pending = append([]byte(nil), left...)
			return len(data), nil
		case err == syscall.EAGAIN:
			c.waits.Store(true) // and try again: that there is room may have been told when nothing waited
		case err != syscall.EINTR:
			return 0, os.NewSyscallError("write", err)
		}
	}
	if c.waits.Load() {
		c.waits.Store(false)
	}
	return len(data), nil
}

// Close ends the connection; its loop drops it then.
func (c *looped) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	return syscall.Shutdown(c.fd, syscall.SHUT_RDWR)
}
