package lab

import (
	"io"
	"net"
	"sync"
	"time"
)

// proxy stands between two parts and is the network that fails: it passes bytes on, cuts every connection, or swallows what both sides say
// while their connections look fine.
type proxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	target string
	cut    bool
	open   map[net.Conn]bool
	flow   *sync.Cond // broadcast when stalled ends
	stall  bool
}

// newProxy listens on a free port of the loopback interface.
func newProxy() (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, open: map[net.Conn]bool{}}
	p.flow = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// to has new connections go to an address.
func (p *proxy) to(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// setCut ends all connections and refuses new ones until it is taken back.
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		p.endAll()
	}
}

// setStall swallows nothing and passes nothing on, until it is taken back.
func (p *proxy) setStall(stall bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stall = stall
	p.flow.Broadcast()
}

// endAll closes every connection. mu is held.
func (p *proxy) endAll() {
	for conn := range p.open {
		_ = conn.Close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.cut, p.stall = true, false
	p.endAll()
	p.flow.Broadcast()
	p.mu.Unlock()
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
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	to, err := net.DialTimeout("tcp", target, 2*time.Second)
	if err != nil {
		_ = from.Close()
		return
	}
	if !p.add(from, to) {
		return
	}
	defer p.remove(from, to)
	var both sync.WaitGroup
	both.Go(func() { p.copy(to, from) })
	p.copy(from, to)
	both.Wait()
}

// add notes both ends of a connection, or closes them where nothing may pass.
func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.cut {
			_ = conn.Close()
			continue
		}
		p.open[conn] = true
	}
	return !p.cut
}

func (p *proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(p.open, conn)
	}
}

// copy passes on what comes, and ends both ways when one ends.
func (p *proxy) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for p.stall {
			p.flow.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); err == nil {
				err = failed
			}
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
