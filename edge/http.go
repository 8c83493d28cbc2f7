package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of the HTTP server. A socket has left them behind with its upgrade.
const (
	headersWithin = 5 * time.Second
	bodyWithin    = 10 * time.Second
	answerWithin  = maxCall + 10*time.Second
	idleFor       = 20 * time.Second
	maxHeaders    = 16 << 10
	preflightAge  = 10 * time.Minute
)

// operational are paths that other servers use for operators. They are never served here, not even by the web client's handler.
var operational = []string{"/metrics", "/debug", "/readyz", "/livez", "/healthz", "/$SRV"}

// server returns the public HTTP server; serve is called with each new socket.
func (e *Edge) server(serve func(*socket)) *http.Server {
	return &http.Server{
		Handler:           e.routes(serve),
		ReadHeaderTimeout: headersWithin,
		ReadTimeout:       bodyWithin,
		WriteTimeout:      answerWithin,
		IdleTimeout:       idleFor,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          nil,
	}
}

func (e *Edge) routes(serve func(*socket)) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.RedirectTrailingSlash = false
	router.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, cause any) {
		e.log.Error("request handler broke", "err", cause)
		e.problem(c, 0, wire.Errorf(wire.Internal, "Something broke on the server."))
	}))
	router.GET("/v1/ws", func(c *gin.Context) { e.upgrade(c, serve) })
	router.POST("/v1/call/:function/:method", e.httpCall)
	router.OPTIONS("/v1/call/:function/:method", e.preflight)
	router.NoRoute(e.other)
	return router
}

// other answers what is neither a call nor an upgrade.
func (e *Edge) other(c *gin.Context) {
	path := c.Request.URL.Path
	if strings.HasPrefix(path, "/v1/call/") {
		e.problem(c, 0, errUnknownCall)
		return
	}
	for _, own := range append(operational, "/v1") {
		if path == own || strings.HasPrefix(path, own+"/") {
			e.problem(c, http.StatusNotFound, wire.Errorf(wire.NotFound, "There is nothing here."))
			return
		}
	}
	if hasTokenInQuery(c.Request) {
		e.problem(c, 0, wire.Errorf(wire.TokenInQuery, "A token stands in the address; it must be revoked."))
		return
	}
	if e.cfg.Web == nil {
		e.problem(c, http.StatusNotFound, wire.Errorf(wire.NotFound, "There is nothing here."))
		return
	}
	c.Status(http.StatusOK) // gin's own 404 does not apply; the handler says what does
	e.cfg.Web.ServeHTTP(c.Writer, c.Request)
}

// problem answers with an error as application/problem+json; a status of 0 is that of the code.
func (e *Edge) problem(c *gin.Context, status int, err *wire.Error) {
	problem := wire.ProblemOf(err)
	if status != 0 {
		problem.Status = status
	}
	body, encodeErr := wire.Marshal(problem)
	if encodeErr != nil {
		body = nil // a struct of strings and numbers always encodes
	}
	if err.RetryAfterMS > 0 && c.Writer.Header().Get("Retry-After") == "" {
		c.Header("Retry-After", strconv.FormatInt((err.RetryAfterMS+999)/1000, 10))
	}
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
	c.Abort()
	c.Data(problem.Status, "application/problem+json", body)
}

// cross checks where a request comes from and lets configured origins read the answer.
func (e *Edge) cross(c *gin.Context) bool {
	origin, own, ok := e.checkOrigin(c.Request)
	if !ok {
		e.problem(c, 0, wire.Errorf(wire.Forbidden, "This origin may not call."))
		return false
	}
	c.Header("Vary", "Origin")
	if !own {
		c.Header("Access-Control-Allow-Origin", origin)
		c.Header("Access-Control-Expose-Headers", "Retry-After")
	}
	return true
}

// preflight answers browsers that ask before a call from a configured origin.
func (e *Edge) preflight(c *gin.Context) {
	if !e.cross(c) {
		return
	}
	c.Header("Access-Control-Allow-Methods", http.MethodPost)
	c.Header("Access-Control-Allow-Headers", "Authorization, Content-Type, Traceparent")
	c.Header("Access-Control-Max-Age", strconv.Itoa(int(preflightAge/time.Second)))
	c.Status(http.StatusNoContent)
}

// httpCall answers POST /v1/call/<function>/<method>.
func (e *Edge) httpCall(c *gin.Context) {
	if !e.cross(c) {
		return
	}
	if hasTokenInQuery(c.Request) {
		e.problem(c, 0, wire.Errorf(wire.TokenInQuery, "A token stands in the address; it must be revoked."))
		return
	}
	begun := time.Now()
	name := c.Param("function") + "." + c.Param("method")
	answer, err := e.answerHTTP(c, name, begun)
	e.metrics.took(e.knownCall(name), wire.CodeOf(err), time.Since(begun))
	if err != nil {
		e.problem(c, 0, asWireError(err))
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
	if len(answer) == 0 {
		answer = []byte("{}")
	}
	c.Data(http.StatusOK, "application/json", answer)
}

// answerHTTP does a call over HTTP, within the limits of the address and of the user.
func (e *Edge) answerHTTP(c *gin.Context, name string, begun time.Time) ([]byte, error) {
	if e.draining.Load() {
		return nil, errDraining
	}
	ctx := c.Request.Context()
	client := e.clientAddress(c.Request)
	key := limitKey(client)
	if !e.addresses.begin(key) {
		return nil, errManyOpen
	}
	defer e.addresses.end(key)
	from := functions.Call{Address: client.String()}
	if token := bearer(c.Request); token != "" {
		id, err := e.verifyLimited(ctx, token, key)
		if err != nil {
			return nil, err
		}
		from.User, from.Session = id.User, id.Session
	}
	if err := e.limitHTTP(name, from.User, key, begun); err != nil {
		return nil, err
	}
	body, err := readBody(c)
	if err != nil {
		return nil, err
	}
	if isEdgeCall(name) {
		return nil, wire.Errorf(wire.UnknownCall, "This call needs a WebSocket.")
	}
	trace, ok := functions.ParseTraceparent(c.GetHeader("Traceparent"))
	if !ok {
		trace = functions.NewTrace()
	}
	return e.forward(ctx, name, from, trace.Child(), body, begun)
}

// isEdgeCall reports whether an edge answers a call itself.
func isEdgeCall(name string) bool {
	switch name {
	case wire.CallWatch, wire.CallUnwatch:
		return true
	}
	return false // the others have no dot and so no path
}

// limitHTTP takes one from the rates that a call over HTTP counts against.
func (e *Edge) limitHTTP(name string, user subjects.User, key string, now time.Time) error {
	if user == "" {
		return e.allowAnonymous(name, key, momentOf(now))
	}
	var wait time.Duration
	var ok bool
	if u := e.users.find(user); u != nil {
		wait, ok = u.take(e, e.knownCall(name), momentOf(now))
	} else {
		wait, ok = e.strangers.take(e, user, e.knownCall(name), momentOf(now))
	}
	if !ok {
		return tooMany(wait)
	}
	return nil
}

// readBody reads the data of a call.
func readBody(c *gin.Context) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, wire.MaxData))
	if err == nil {
		return body, nil
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, wire.Errorf(wire.TooLarge, "The body has more than %d bytes.", tooLarge.Limit)
	}
	return nil, wire.Errorf(wire.BadData, "The body could not be read.")
}

// verifyLimited is verify with a limit on how many tokens that are not known yet an address may show.
func (e *Edge) verifyLimited(ctx context.Context, token, key string) (wire.Identity, error) {
	if token != "" && !e.identities.isKnown(token, e.cfg.Now()) {
		if wait, ok := e.addresses.take(key, rightNow()); !ok {
			return wire.Identity{}, tooMany(wait)
		}
	}
	return e.verify(ctx, token)
}
