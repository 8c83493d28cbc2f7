package edge

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// helloWithin bounds the work that a hello causes, from its turn on. The time to hello stands still meanwhile.
const helloWithin = 10 * time.Second

// A storm of people who come back is let in by turns, in the order in which they said hello: those whose turn it is are done long before their time is over, where all at once
// would run out of it together and come again.
const (
	hellosAtOnce = 16 * wire.MaxTogether
	turnWithin   = 30 * time.Second // then a client does better to come again
)

// helloTurn waits until fewer than hellosAtOnce work on a hello, and counts this one; done takes it back.
func (e *Edge) helloTurn(ctx context.Context) (done func(), err error) {
	done = func() { <-e.hellos }
	select {
	case e.hellos <- struct{}{}:
		return done, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	select {
	case e.hellos <- struct{}{}:
		return done, nil
	case <-e.leaving:
		return nil, errDraining
	case <-ctx.Done():
		return nil, wire.RetryAfter(wire.Unavailable, retrySoon, "Too many sign in at the same time.")
	}
}

// retrySoon is what a client is told whose hello met a part that is not there just now.
const retrySoon = time.Second

var errNoNATS = wire.RetryAfter(wire.Unavailable, retrySoon, "The edge has no connection to the functions.")

// hello signs the socket in, or extends its session. It returns the code to close the socket with, or 0. The reader waits for it, so that
// calls that come right behind it find the socket signed in.
func (s *socket) hello(ctx context.Context, frame wire.Frame) wire.CloseCode {
	s.line.endBy(0) // what takes long now is our work
	signedIn := s.session.Load() != nil
	code, err := s.signInByTurn(ctx, frame)
	if err != nil {
		s.fail(frame.ID, asWireError(err))
		s.edge.metrics.call(wire.CallHello, wire.CodeOf(err))
	} else {
		s.edge.metrics.call(wire.CallHello, "")
	}
	if code == 0 && err != nil && !signedIn {
		switch info := wire.CodeOf(err).Info(); {
		case info.Code == wire.RateLimited:
			code = wire.CloseRateLimited
		case info.Unknown:
			code = wire.CloseInternal // no fault of the client's: it comes back
		default:
			code = wire.CloseUnauthenticated
		}
	}
	return code
}

func (s *socket) signInByTurn(ctx context.Context, frame wire.Frame) (wire.CloseCode, error) {
	done, err := s.edge.helloTurn(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	return s.signIn(ctx, frame)
}

// signIn does what hello asks; the code is set where the error alone does not say how to close.
func (s *socket) signIn(ctx context.Context, frame wire.Frame) (wire.CloseCode, error) {
	var in wire.Hello
	if err := wire.Decode(frame.Data, &in); err != nil {
		return 0, err
	}
	old := s.session.Load()
	if in.Device == "" && old == nil {
		return 0, wire.Errorf(wire.BadData, "device is missing.")
	}
	token := in.Token
	if token == "" {
		token = s.token
	}
	id, err := s.edge.verifyLimited(ctx, token, s.address.key)
	if err != nil {
		return 0, err
	}
	s.token = "" // it has served
	if old == nil {
		return s.begin(ctx, frame, in, id)
	}
	if id.User != old.user.name {
		return wire.CloseForbidden, wire.Errorf(wire.Forbidden, "This connection belongs to another user.")
	}
	if in.Device != "" && in.Device != old.device {
		return 0, wire.Errorf(wire.BadData, "This connection belongs to another device.")
	}
	extended := &session{user: old.user, device: old.device, id: id.Session, issued: id.IssuedAt.Time, expires: id.ExpiresAt.Time, at: old.at, warned: new(atomic.Bool)}
	s.session.Store(extended)
	s.edge.wheel.arm(s, rightNow())
	s.answer(frame.ID, s.edge.welcome(extended))
	return s.checkRevoked(id), nil
}

// begin makes the socket one of its user's.
func (s *socket) begin(ctx context.Context, frame wire.Frame, in wire.Hello, id wire.Identity) (wire.CloseCode, error) {
	e := s.edge
	u := e.enter(id.User)
	defer e.withdraw(u)
	if err := e.ensureLoaded(ctx, u); err != nil {
		return 0, err
	}
	sess := &session{
		user: u, device: in.Device, id: id.Session, issued: id.IssuedAt.Time, expires: id.ExpiresAt.Time, at: wire.At(e.cfg.Now()).Time, warned: new(atomic.Bool),
	}
	var welcome framed
	if len(frame.ID) > 0 {
		welcome = okFrame(frame.ID, e.welcome(sess))
	}
	old, ok := u.admit(s, sess, e.cfg.Limits.PerUser, welcome)
	if !ok {
		return wire.CloseTooMany, wire.RetryAfter(wire.RateLimited, time.Minute, "The user has too many connections.")
	}
	if old != nil {
		old.close(wire.CloseReplaced)
	}
	s.refused = max(s.refused, u.unforgiven())
	e.wheel.arm(s, rightNow()) // a time of its own begins: that of the token
	e.presence.arrive(sess)
	return s.checkRevoked(id), nil
}

// checkRevoked closes a socket whose session was revoked while it signed in.
func (s *socket) checkRevoked(id wire.Identity) wire.CloseCode {
	if s.edge.identities.isRevoked(id) {
		return wire.CloseRevoked
	}
	return 0
}

// welcome returns the answer to hello.
func (e *Edge) welcome(sess *session) []byte {
	limits := &e.cfg.Limits
	calls := slices.Clone(e.caller.Public())
	for _, own := range []string{wire.CallHello, wire.CallPing, wire.CallSignal, wire.CallWatch, wire.CallUnwatch} {
		if at, found := slices.BinarySearch(calls, own); !found {
			calls = slices.Insert(calls, at, own)
		}
	}
	welcome := wire.Welcome{
		User: sess.user.name, Device: sess.device, Session: sess.id, ServerTime: wire.At(e.cfg.Now()), ExpiresAt: wire.At(sess.expires),
		PingSeconds: max(1, int(limits.Ping/time.Second)),
		Limits:      wire.Limits{FrameBytes: limits.FrameBytes, BodyBytes: wire.MaxBody, OpenCalls: limits.OpenCalls},
		Calls:       calls,
	}
	if r := limits.Connection; e.paces.connection.each > 0 {
		welcome.Limits.CallsASec = r.PerSecond
	}
	body, err := wire.Marshal(welcome)
	if err != nil {
		return []byte("{}") // a struct of package wire always encodes
	}
	return body
}
