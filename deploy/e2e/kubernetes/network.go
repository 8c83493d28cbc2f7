package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// network is a part of the machine's loopback network, 127.N.0.0/16, that one cluster has for itself: every program may have the port that it has
// elsewhere, on an address of its own. Linux answers on all of 127.0.0.0/8 without any configuration.
//
// Addresses below 127.N.0.0/24 are the control plane's, those in 127.N.1.0/24 the services', those from 127.N.2.1 on the pods'.
type network struct {
	n    int
	held net.Listener // keeps others from the same network

	mu   sync.Mutex
	pods int // addresses handed out so far; none is used twice, so that a stale address reaches nobody
}

// takeNetwork finds a network that nobody has.
func takeNetwork() (*network, error) {
	var err error
	for range 100 {
		n := &network{n: 1 + rand.IntN(254)}
		if n.held, err = net.Listen("tcp", net.JoinHostPort(n.control(0), "6442")); err == nil {
			return n, nil
		}
	}
	return nil, fmt.Errorf("find a free loopback network: %w", err)
}

func (n *network) free() { _ = n.held.Close() }

// control returns an address of the control plane.
func (n *network) control(i int) string { return fmt.Sprintf("127.%d.0.%d", n.n, i+1) }

// services returns the range of the services' addresses.
func (n *network) services() string { return fmt.Sprintf("127.%d.1.0/24", n.n) }

// pod returns an address for one more pod.
func (n *network) pod() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods++
	return fmt.Sprintf("127.%d.%d.%d", n.n, 2+n.pods/250, 1+n.pods%250)
}
