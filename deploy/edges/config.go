// Package edges is the program of an edge: its configuration, its listener with or without TLS, and its life as a process. Package edge itself reads no
// environment and opens no file.
package edges

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"crypto/tls"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/edge"
	"github.com/confab-im/confab/edge/web"
	"github.com/confab-im/confab/subjects"
)

// Config is the configuration of one edge, alone or inside the all-in-one.
type Config struct {
	Listen      string        `conf:"listen" help:"where clients connect"`
	Name        string        `conf:"edge-name" help:"name of this edge, unique among those that run; empty = a random one"`
	Certificate string        `conf:"tls-certificate" help:"PEM file with the certificate of the listener"`
	Key         string        `conf:"tls-key" help:"PEM file with the key of the listener"`
	Plaintext   bool          `conf:"insecure-plaintext" help:"speak no TLS on a listener that is not loopback, because something in front does"`
	Origins     []string      `conf:"origins" help:"web origins that may connect beside the edge's own, such as https://chat.example"`
	Proxies     []string      `conf:"trusted-proxies" help:"addresses or networks whose X-Forwarded-For counts"`
	Drain       time.Duration `conf:"drain-window" help:"the time over which a stopping edge spreads the closing of its connections"`
	Lifted      string        `conf:"limits" help:"default, or none to lift all rate limits, on loopback only"`
	Limits      edge.Limits
}

// DefaultConfig returns the configuration without any setting: loopback, all limits on.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:8080", Drain: 10 * time.Second, Lifted: limitsDefault}
}

// The values of Config.Lifted.
const (
	limitsDefault = "default"
	limitsNone    = "none"
)

// ErrTaken is wrapped by the error of Open when another program has the port.
var ErrTaken = syscall.EADDRINUSE

// Validate returns an error that names the setting that is wrong.
func (c *Config) Validate() error {
	if c.Lifted != limitsDefault && c.Lifted != limitsNone {
		return fmt.Errorf("limits %q is neither default nor none", c.Lifted)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen %q is not of the form host:port", c.Listen)
	}
	if (c.Certificate == "") != (c.Key == "") {
		return errors.New("tls-certificate and tls-key belong together")
	}
	if !c.Loopback() {
		if c.Certificate == "" && !c.Plaintext {
			return fmt.Errorf("listen %s is not loopback, so it needs TLS: give tls-certificate and tls-key, or insecure-plaintext when something in front of it speaks TLS", c.Listen)
		}
		if c.Lifted == limitsNone {
			return errors.New("limits none is for tests on loopback only")
		}
	}
	if _, err := c.proxies(); err != nil {
		return err
	}
	return c.Limits.Validate()
}

// Loopback reports whether only programs on this machine can connect.
func (c *Config) Loopback() bool {
	host, _, _ := net.SplitHostPort(c.Listen)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (c *Config) proxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.Proxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("trusted-proxies: %q is neither an address nor a network such as 10.0.0.0/8", text)
			}
			prefix = netip.PrefixFrom(ip, ip.BitLen())
		}
		all = append(all, prefix)
	}
	return all, nil
}

// Listener is the open port of an edge.
type Listener struct {
	net.Listener
	tls bool
}

// URL returns where a browser on this machine opens the web client.
func (l Listener) URL() string {
	scheme := "http"
	if l.tls {
		scheme = "https"
	}
	address := l.Addr().String()
	if host, port, _ := net.SplitHostPort(address); net.ParseIP(host).IsUnspecified() {
		address = net.JoinHostPort("localhost", port)
	}
	return scheme + "://" + address
}

// Open opens the port, with TLS 1.2 or better where there is a certificate; the error wraps ErrTaken when another program has the port.
func (c *Config) Open() (Listener, error) {
	var config *tls.Config
	if c.Certificate != "" {
		certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return Listener{}, fmt.Errorf("load the certificate: %w", err)
		}
		// WebSockets are upgraded from HTTP/1.1 only.
		config = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return Listener{}, fmt.Errorf("listen: %w", err)
	}
	if config != nil {
		return Listener{tls.NewListener(listener, config), true}, nil
	}
	return Listener{listener, false}, nil
}

// New returns an edge on an open port and a NATS connection that is its alone.
func (c *Config) New(public Listener, nc *nats.Conn, log *slog.Logger, registry prometheus.Registerer) (*edge.Edge, error) {
	proxies, err := c.proxies()
	if err != nil {
		return nil, err
	}
	name := c.Name
	if name == "" {
		name = "edge-" + strings.ToLower(rand.Text()[:8])
	}
	limits := c.Limits
	if c.Lifted == limitsNone {
		limits = edge.None()
		limits.Hello, limits.Message, limits.Write, limits.Ping, limits.Pong = c.Limits.Hello, c.Limits.Message, c.Limits.Write, c.Limits.Ping, c.Limits.Pong
	}
	window := c.Drain
	if window == 0 {
		window = -1 // what the edge takes for "at once"
	}
	return edge.New(edge.Config{
		Name: subjects.Edge(name), NATS: nc, Listener: public.Listener,
		Origins: c.Origins, TrustedProxies: proxies, Limits: limits, Web: web.Handler(),
		DrainWindow: window, Log: log, Registry: registry,
	})
}
