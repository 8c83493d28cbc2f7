package lab

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// proxy stands between two parts and is the network that fails. It passes bytes on to the first of its targets that takes a connection.
type proxy struct {
	name     string // as the history calls it, such as clients-1 or send-1
	kind     string // whose link it is: clients, edge, function
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex // guards what follows
	targets []string
	first   int // the target that the next connection tries first
	spread  bool
	open    map[*pair]bool
	changed *sync.Cond // broadcast when trouble changes
	trouble trouble
	frames  func() filter // a new one for each connection; nil = bytes pass as they come
	passed  int64         // bytes, both ways
}

// filter lets pass what is not to be swallowed of what a server says.
type filter interface{ pass(data []byte) []byte }

// The two ways through a proxy.
const (
	up   = 0 // from who connected
	down = 1 // to who connected
)

// trouble is what is wrong with the network. The zero value is a network that works.
type trouble struct {
	cut   bool                 // no connection stays, none is made
	stall [2]bool              // nothing passes this way; who sends does not notice
	delay func() time.Duration // that each piece waits, nil = none
	slow  bool                 // a few bytes at a time
	reset bool                 // the next piece of each connection ends in its middle, and the connection with it
}

// pair is one connection through a proxy.
type pair struct{ from, to net.Conn }

// newProxy listens on a free port of the loopback interface.
func newProxy(name, kind string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{name: name, kind: kind, listener: listener, open: map[*pair]bool{}}
	p.changed = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// destination returns where connections go first while nothing is wrong; empty = nowhere.
func (p *proxy) destination() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.targets) == 0 {
		return ""
	}
	return p.targets[0]
}

// to has new connections go to the first of these addresses that takes them.
func (p *proxy) to(targets ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = targets
}

// through has what servers say go through a filter, a new one for each new connection.
func (p *proxy) through(frames func() filter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frames = frames
}

// prefer has the next connection go to the target of a number, and each one after that to the next, as at a balancer of load.
func (p *proxy) prefer(first int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spread, p.first = true, first
}

// setTrouble makes the network as bad as it says; the zero value mends it.
func (p *proxy) setTrouble(t trouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = t
	if t.cut {
		p.endAll()
	}
	p.changed.Broadcast()
}

// forget ends all connections as a router does that has lost its memory: what was on its way is gone, and both sides learn of it when they speak.
func (p *proxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endAll()
	p.changed.Broadcast()
}

// endAll is called with the lock.
func (p *proxy) endAll() {
	for conn := range p.open {
		conn.reset()
		delete(p.open, conn)
	}
}

// reset closes both ends so that the kernel throws away what it holds and says so to the other side.
func (c *pair) reset() {
	for _, conn := range []net.Conn{c.from, c.to} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.setTrouble(trouble{cut: true})
	p.wg.Wait()
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.connect(conn) })
	}
}

func (p *proxy) connect(from net.Conn) {
	to := p.dial()
	if to == nil {
		_ = from.Close()
		return
	}
	conn := &pair{from, to}
	p.mu.Lock()
	if p.trouble.cut {
		p.mu.Unlock()
		conn.reset()
		return
	}
	p.open[conn] = true
	var filter filter
	if p.frames != nil {
		filter = p.frames()
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(conn, up, nil) })
	p.copy(conn, down, filter)
	both.Wait()
	p.mu.Lock()
	delete(p.open, conn)
	p.mu.Unlock()
	_, _ = from.Close(), to.Close()
}

// dial connects to the first target that answers; with spread each connection begins at the next one, as at a balancer of load.
func (p *proxy) dial() net.Conn {
	p.mu.Lock()
	cut, targets, first := p.trouble.cut, p.targets, p.first
	if p.spread && len(targets) > 0 {
		p.first = (p.first + 1) % len(targets)
	}
	p.mu.Unlock()
	if cut {
		return nil
	}
	for i := range targets {
		target := targets[(first+i)%len(targets)]
		if target == "" {
			continue // its program has not said yet where it serves
		}
		if to, err := net.DialTimeout("tcp", target, 2*time.Second); err == nil {
			return to
		}
	}
	return nil
}

// copy passes on what comes one way, and ends both ways when one ends.
func (p *proxy) copy(conn *pair, way int, filter filter) {
	from, to := conn.from, conn.to
	if way == down {
		from, to = to, from
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		data := buffer[:n]
		if filter != nil {
			data = filter.pass(data)
		}
		if !p.flow(conn, way) {
			return
		}
		if len(data) > 0 && !p.send(conn, to, way, data) {
			return
		}
		if err != nil {
			if err != io.EOF {
				_ = from.Close()
			}
			_ = to.Close()
			return
		}
	}
}

// flow waits while nothing passes, and reports whether the connection is still there.
func (p *proxy) flow(conn *pair, way int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.trouble.stall[way] && p.open[conn] {
		p.changed.Wait()
	}
	return p.open[conn]
}

// send writes data as the trouble of the moment lets it, and reports whether the connection is to go on.
func (p *proxy) send(conn *pair, to net.Conn, way int, data []byte) bool {
	p.mu.Lock()
	now := p.trouble
	p.passed += int64(len(data))
	p.mu.Unlock()
	switch {
	case now.reset && len(data) > 1:
		_, _ = to.Write(data[:1+rand.IntN(len(data)-1)])
		conn.reset()
		return false
	case now.delay != nil:
		time.Sleep(now.delay())
	}
	for len(data) > 0 {
		n := len(data)
		if p.isSlow() {
			n = min(n, 16)
			time.Sleep(4 * time.Millisecond)
			if !p.flow(conn, way) {
				return false
			}
		}
		if _, err := to.Write(data[:n]); err != nil {
			conn.reset()
			return false
		}
		data = data[n:]
	}
	return true
}

func (p *proxy) isSlow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble.slow
}

// during makes the network bad for a time, and mends it.
func (p *proxy) during(ctx context.Context, t trouble, d time.Duration) {
	p.setTrouble(t)
	sleep(ctx, d)
	p.setTrouble(trouble{})
}
