package edge

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects/wire"
)

// checkOrigin reports whether a request may come from where it says: from no web page at all, from the host itself, or from a configured
// origin. own is false for the configured ones, which need CORS.
func (e *Edge) checkOrigin(r *http.Request) (origin string, own, ok bool) {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return "", true, true
	}
	if len(values) > 1 {
		return "", false, false
	}
	u, valid := parseOrigin(values[0])
	if !valid {
		return "", false, false
	}
	if u.Host == plainHost(u.Scheme, r.Host) && (r.TLS == nil || u.Scheme == "https") {
		return values[0], true, true
	}
	return values[0], false, slices.Contains(e.origins, u.String())
}

// tokenNames are the names under which people put tokens into addresses.
var tokenNames = []string{"token", "access_token", "id_token", "refresh_token", "auth_token", "jwt", "bearer", "auth", "authorization", "api_key", "apikey"}

// hasTokenInQuery reports whether the address carries a token, by its name or by its look.
func hasTokenInQuery(r *http.Request) bool {
	query, _ := url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, ";", "&")) // what parses is looked at
	for name, values := range query {
		if slices.Contains(tokenNames, strings.ToLower(name)) {
			return true
		}
		for _, v := range values {
			if strings.HasPrefix(v, "eyJ") && strings.Count(v, ".") >= 2 {
				return true
			}
		}
	}
	return false
}

// bearer returns the token of the Authorization header, "" where there is none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// offered is what a client offers as subprotocols.
type offered struct {
	protocol bool   // confab.v1 is among them, or there is none
	answer   bool   // confab.v1 is among them, and is answered
	token    string // of bearer.<jwt>
}

func readOffer(r *http.Request) offered {
	var o offered
	unknown := false
	for _, value := range r.Header.Values("Sec-Websocket-Protocol") {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			token, isBearer := strings.CutPrefix(name, wire.BearerProtocol)
			switch {
			case name == wire.Protocol:
				o.answer = true
			case isBearer:
				o.token = token
			case name != "":
				unknown = true
			}
		}
	}
	o.protocol = o.answer || !unknown
	return o
}

// clientAddress returns the address of the client: that of the connection, or what the nearest proxy that is not trusted is said to be by
// the trusted ones after it.
func (e *Edge) clientAddress(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := at.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !e.trusts(client) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		client = next.Unmap().WithZone("")
	}
	return client
}

func (e *Edge) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(e.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// limitKey returns what an address is counted under: one subscriber has a whole /64 of IPv6.
func limitKey(a netip.Addr) string {
	if a.Is6() {
		prefix, _ := a.Prefix(64)
		return prefix.String()
	}
	return a.String()
}

// hijacker keeps the connection that the WebSocket library's handshake takes over from the server.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() > 0 {
		_ = conn.Close()
		return nil, nil, errors.New("the client sent bytes before the handshake was complete")
	}
	h.conn = conn
	return conn, rw, nil
}

// upgrade answers GET /v1/ws. serve begins with the socket and returns, so that the server's buffers of the request are free as soon as the
// handshake is over.
func (e *Edge) upgrade(c *gin.Context, serve func(*socket)) {
	r := c.Request
	if _, _, ok := e.checkOrigin(r); !ok {
		e.problem(c, 0, wire.Errorf(wire.Forbidden, "This origin may not connect."))
		return
	}
	if hasTokenInQuery(r) {
		e.problem(c, 0, wire.Errorf(wire.TokenInQuery, "A token stands in the address; it must be revoked."))
		return
	}
	if !websocket.IsWebSocketUpgrade(r) || r.Header.Get("Sec-Websocket-Version") != "13" {
		c.Header("Upgrade", "websocket")
		c.Header("Sec-WebSocket-Version", "13")
		e.problem(c, http.StatusUpgradeRequired, wire.Errorf(wire.BadData, "This address speaks WebSocket, version 13."))
		return
	}
	client := e.clientAddress(r)
	key := limitKey(client)
	if e.count.Add(1) > int64(e.cfg.Limits.Connections) || e.draining.Load() {
		e.count.Add(-1)
		e.tooBusy(c, time.Second)
		return
	}
	address, wait := e.addresses.connect(key, rightNow())
	if address == nil {
		e.count.Add(-1)
		e.tooBusy(c, wait)
		return
	}
	s, ok := e.handshake(c, client, address)
	if !ok {
		e.addresses.disconnect(address)
		e.count.Add(-1)
		return
	}
	serve(s)
}

// handshake makes the socket; where that fails the client has been answered.
func (e *Edge) handshake(c *gin.Context, client netip.Addr, address *address) (*socket, bool) {
	offer := readOffer(c.Request)
	upgrader := websocket.Upgrader{
		HandshakeTimeout: e.cfg.Limits.Hello,
		CheckOrigin:      func(*http.Request) bool { return true }, // upgrade has checked
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, _ error) {
			e.problem(c, status, wire.Errorf(wire.BadData, "The request is no WebSocket handshake."))
		},
	}
	if offer.answer {
		upgrader.Subprotocols = []string{wire.Protocol}
		c.Request.Header.Set("Sec-Websocket-Protocol", wire.Protocol) // however many headers it came in
	}
	h := &hijacker{ResponseWriter: c.Writer}
	if _, err := upgrader.Upgrade(h, c.Request, nil); err != nil {
		e.log.Debug("handshake failed", "address", address.key, "err", err)
		return nil, false
	}
	token := offer.token
	if t := bearer(c.Request); t != "" {
		token = t
	}
	s := newSocket(e, client, address, token)
	s.unspoken = !offer.protocol
	if err := s.take(h.conn); err != nil {
		_ = h.conn.Close()
		e.log.Error("connection not served", "err", err)
		return nil, false
	}
	return s, true
}

// take makes the connection the socket's: as a descriptor that can be parked, or as it is.
func (s *socket) take(conn net.Conn) (err error) {
	if s.edge.poller != nil {
		if fd, ok := s.edge.poller.take(conn); ok {
			s.line.fd = fd
			return nil
		}
	}
	s.line.conn = conn
	s.framing, err = newFraming(ownBuffer, s.edge.cfg.Limits.FrameBytes)
	if err == nil {
		s.framing.socket = s
	}
	return err
}

// tooBusy refuses a connection for now.
func (e *Edge) tooBusy(c *gin.Context, wait time.Duration) {
	seconds := max(1, int64((wait+time.Second-1)/time.Second))
	c.Header("Retry-After", strconv.FormatInt(seconds, 10))
	e.problem(c, http.StatusServiceUnavailable, wire.RetryAfter(wire.Unavailable, time.Duration(seconds)*time.Second, "Too many connections."))
}
