package edge

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/subjects"
)

// Config is what an edge needs. Only NATS, Name and one of Listener and Listen must be given.
type Config struct {
	Name     subjects.Edge // unique among the edges that run at one time
	NATS     *nats.Conn    // open; it stays the program's, and nobody else should drain it before Run returns
	Listener net.Listener  // where clients connect; Run closes it. TLS, where there is any, is the listener's
	Listen   string        // host:port, for where Listener is nil

	Origins        []string       // web origins beside the host's own, such as https://chat.example
	TrustedProxies []netip.Prefix // whose X-Forwarded-For counts
	Limits         Limits
	Web            http.Handler // answers what is no call; nil = 404

	KeepReaders bool // each connection keeps a goroutine that reads, also where the system can watch many at once; TLS always does

	DrainWindow time.Duration // the time over which a drain spreads the closing of its sockets; 0 = 10 s, below 0 = at once
	HeadEvery   time.Duration // how often the heads of active conversations are compared with the store; 0 = 2 s

	Log      *slog.Logger          // nil = none
	Registry prometheus.Registerer // where metrics are registered; nil = nowhere
	Now      func() time.Time      // the clock for what is compared with stored times; nil = time.Now
}

// Validate returns an error that names the first field that is wrong.
func (c *Config) Validate() error {
	if _, err := subjects.ParseEdge(string(c.Name)); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if c.NATS == nil {
		return errors.New("nats: a connection is needed")
	}
	if c.Listener == nil && c.Listen == "" {
		return errors.New("listen: give an address or a listener")
	}
	for _, origin := range c.Origins {
		if _, ok := parseOrigin(origin); !ok {
			return fmt.Errorf("origins: %q is not of the form https://host or https://host:port", origin)
		}
	}
	return c.Limits.Validate()
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.DrainWindow = cmp.Or(c.DrainWindow, 10*time.Second)
	if c.HeadEvery <= 0 {
		c.HeadEvery = 2 * time.Second
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

// parseOrigin returns the one written form of a web origin: scheme and host in lower case, without the scheme's own port.
func parseOrigin(s string) (origin *url.URL, ok bool) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, false
	}
	return &url.URL{Scheme: u.Scheme, Host: plainHost(u.Scheme, u.Host)}, true
}

// plainHost returns a host in lower case and without the scheme's own port.
func plainHost(scheme, host string) string {
	host = strings.ToLower(host)
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}
