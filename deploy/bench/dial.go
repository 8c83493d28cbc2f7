package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

const (
	dialWithin = 30 * time.Second
	atRest     = 512      // bytes of the buffer of a socket that hears little
	mostRead   = 64 << 10 // bytes that are read at once
)

// addresses is how many addresses of this machine connections to it come from, since from one of them some 28,000 reach one port.
const addresses = 16

// address returns where the next connection to url comes from; nothing = as the system chooses.
func (r *run) address(url string) (from netip.Addr) {
	if !onLinux || !strings.HasPrefix(url, "http://127.") {
		return from
	}
	i := r.dialled.Add(1) % addresses
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)})
}

// dial opens a WebSocket at the path of a base URL, such as http://127.0.0.1:8080, and hears its events.
func (r *run) dial(ctx context.Context, base, path string, heard func(wire.Event, []byte)) (*socket, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	s := newSocket(heard)
	if r.loops != nil && u.Scheme == "http" {
		err = r.loops.dial(s, hostPort(u), r.address(base), upgrade(u.Host, path))
	} else {
		err = s.dial(ctx, u, r.address(base), upgrade(u.Host, path))
	}
	if err != nil {
		return nil, err
	}
	select {
	case <-s.ready:
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("the upgrade: %w", s.err)
	case <-ctx.Done():
		s.close()
		return nil, fmt.Errorf("the upgrade: %w", ctx.Err())
	}
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// upgrade returns the request for a WebSocket.
func upgrade(host, path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Protocol: " + wire.Protocol + "\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
}

// dial connects a socket that has a goroutine of its own as its reader: as it goes on every system, and through TLS.
func (s *socket) dial(ctx context.Context, u *url.URL, from netip.Addr, request []byte) error {
	var dialer net.Dialer
	if from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	plain, err := dialer.DialContext(ctx, "tcp", hostPort(u))
	if err != nil {
		return err
	}
	if u.Scheme == "https" {
		plain = tls.Client(plain, &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	s.conn = plain
	go func() { s.end(s.read(plain, request)) }()
	return nil
}

// read asks for the WebSocket and handles what comes until the connection ends.
func (s *socket) read(from net.Conn, request []byte) error {
	defer func() { _ = from.Close() }()
	if _, err := from.Write(request); err != nil {
		return err
	}
	buffer := make([]byte, atRest)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if err := s.came(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if n == len(buffer) && n < mostRead {
			buffer = make([]byte, 2*n) // it hears more than little
		}
	}
}
