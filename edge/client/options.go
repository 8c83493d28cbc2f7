package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Option changes how Dial, Register, Login and Refresh work.
type Option func(*config)

// Source gives tokens, such as by a login. It is asked when there is no token, or the one at hand is expired and cannot be refreshed.
type Source func(ctx context.Context) (wire.Tokens, error)

type config struct {
	base      *url.URL // http or https, without a trailing slash
	tokens    wire.Tokens
	source    Source
	refreshed func(wire.Tokens)
	device    subjects.Device
	log       *slog.Logger
	outbox    Outbox
	onEvent   func(Event)
	events    int
	tls       *tls.Config
	plaintext bool
	least     time.Duration // of a pause before a reconnect
	most      time.Duration
	try       time.Duration // of one try of a call
	http      *http.Client
}

// WithToken signs in with a token that cannot be renewed: when it expires, the client ends with token_expired.
func WithToken(token string) Option {
	return func(c *config) { c.tokens = wire.Tokens{Token: token} }
}

// WithTokens signs in with the answer to an earlier register, login or refresh, and renews it with its refresh token.
func WithTokens(t wire.Tokens) Option { return func(c *config) { c.tokens = t } }

// WithPassword signs in with a password, at the start and whenever tokens cannot be renewed otherwise.
func WithPassword(user subjects.User, password string) Option {
	return func(c *config) {
		c.source = func(ctx context.Context) (wire.Tokens, error) {
			var tokens wire.Tokens
			err := c.post(ctx, "auth", "login", "", &wire.Login{User: user, Password: password, Device: c.device}, &tokens)
			return tokens, err
		}
	}
}

// WithSource asks source for tokens, for accounts of another issuer.
func WithSource(source Source) Option { return func(c *config) { c.source = source } }

// WithRefresh calls keep with every new set of tokens, before they are used. A refresh token works once, so a program that starts again
// must have kept the newest one.
func WithRefresh(keep func(wire.Tokens)) Option { return func(c *config) { c.refreshed = keep } }

// WithDevice names this device; two connections of one device replace each other. The default is "go".
func WithDevice(d subjects.Device) Option { return func(c *config) { c.device = d } }

// WithLog sets where the client logs; the default is nowhere. Bodies and tokens are never logged.
func WithLog(log *slog.Logger) Option { return func(c *config) { c.log = log } }

// WithOutbox sets where unsent messages are kept; the default is memory, which a restart empties.
func WithOutbox(o Outbox) Option { return func(c *config) { c.outbox = o } }

// WithOnEvent calls f with every event, one at a time and in the order of arrival. While f runs nothing else is read from the connection,
// so f must not wait for anything of this client.
func WithOnEvent(f func(Event)) Option { return func(c *config) { c.onEvent = f } }

// WithEventBuffer sets how many events Events holds for a slow reader; the default is 256.
func WithEventBuffer(n int) Option { return func(c *config) { c.events = n } }

// WithTLS sets the configuration of TLS, for private certificates.
func WithTLS(t *tls.Config) Option { return func(c *config) { c.tls = t } }

// WithInsecurePlaintext allows ws and http to addresses beyond loopback, where everybody on the way can read the token.
func WithInsecurePlaintext() Option { return func(c *config) { c.plaintext = true } }

// configure applies the options to the defaults for the server at address, which is http, https, ws or wss.
func configure(address string, opts []Option) (*config, error) {
	c := &config{device: "go", log: slog.New(slog.DiscardHandler), events: 256, least: 500 * time.Millisecond, most: 20 * time.Second, try: 15 * time.Second}
	for _, opt := range opts {
		opt(c)
	}
	if c.outbox == nil {
		c.outbox = &MemoryOutbox{}
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the address of the server is no URL")
	}
	switch base.Scheme {
	case "ws", "http":
		base.Scheme = "http"
		if !c.plaintext && !loopback(base.Hostname()) {
			return nil, ErrInsecure
		}
	case "wss", "https":
		base.Scheme = "https"
	default:
		return nil, fmt.Errorf("the address of the server begins with %q instead of https, wss, http or ws", base.Scheme)
	}
	if base.Host == "" || base.RawQuery != "" || base.User != nil {
		return nil, errors.New("the address of the server needs a host and may have no query and no user")
	}
	base.Path = strings.TrimSuffix(strings.TrimSuffix(base.Path, "/"), "/v1/ws")
	c.base = base
	if _, err := subjects.ParseDevice(string(c.device)); err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: c.tls.Clone(), ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// socketURL returns the address of the WebSocket.
func (c *config) socketURL() string {
	u := *c.base
	u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
	u.Path += "/v1/ws"
	return u.String()
}
