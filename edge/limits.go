package edge

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Rate is how many of something may happen: a burst at once, refilled by so many a second.
type Rate struct {
	PerSecond float64 `yaml:"per_second"` // above 0; +Inf = no limit
	Burst     int     `yaml:"burst"`      // at least 1
}

// Limits bounds what clients may do to an edge and to each other. A zero field takes the default that its help names. A rate is written
// {per_second: 50, burst: 200}.
type Limits struct {
	Connections int `conf:"limit-connections" help:"connections of the whole edge; 0 = 100000"`
	PerAddress  int `conf:"limit-address-connections" help:"connections of one address, of a /64 for IPv6; 0 = 256"`
	PerUser     int `conf:"limit-user-connections" help:"connections of one user, each a device; 0 = 16"`

	Address    Rate            `conf:"limit-address-rate" help:"connections, calls before sign-in and unknown tokens of one address; empty = 50 a second, burst 200"`
	Connection Rate            `conf:"limit-connection-rate" help:"lines of one connection; empty = 100 a second, burst 400"`
	User       Rate            `conf:"limit-user-rate" help:"calls of one user; empty = 100 a second, burst 400"`
	Call       Rate            `conf:"limit-call-rate" help:"each call of one user; empty = 50 a second, burst 200"`
	Calls      map[string]Rate `conf:"limit-calls" help:"rates of single calls of one user, such as {send.post: {per_second: 5, burst: 20}}"`
	Signal     Rate            `conf:"limit-signal-rate" help:"signals of one connection; empty = 5 a second, burst 20"`
	Control    Rate            `conf:"limit-control-rate" help:"pings and pongs of one connection; empty = 20 a second, burst 100"`
	Refused    Rate            `conf:"limit-refused-rate" help:"what a connection may send beyond its rates and stay open; empty = 20 a second, burst 200"`

	FrameBytes  int `conf:"limit-frame-bytes" help:"bytes of one WebSocket message from a client; 0 = 65536"`
	OpenCalls   int `conf:"limit-open-calls" help:"calls of one connection, or of one address over HTTP, that wait for an answer; 0 = 64"`
	QueueFrames int `conf:"limit-queue-frames" help:"frames that wait to be written to one connection; 0 = 4096"`
	QueueTotal  int `conf:"limit-queue-total" help:"bytes that wait to be written to all connections together, beside one frame for each; beyond it the slow ones are closed; 0 = 268435456"`
	QueueBytes  int `conf:"limit-queue-bytes" help:"bytes that wait to be written to one connection, beside one frame of any size; 0 = 4194304"`
	Watched     int `conf:"limit-watched" help:"users whose presence one connection watches; 0 = 1000"`

	Hello   time.Duration `conf:"limit-hello-time" help:"time from the upgrade to a good hello; 0 = 5s"`
	Message time.Duration `conf:"limit-message-time" help:"time from the first byte of a message to its last; 0 = 10s"`
	Write   time.Duration `conf:"limit-write-time" help:"time for one write to a client; 0 = 10s"`
	Ping    time.Duration `conf:"ping-time" help:"time between pings to a quiet client; 0 = 25s"`
	Pong    time.Duration `conf:"pong-time" help:"time from a ping to a sign of life; 0 = 10s"`
}

// None returns limits that no honest test reaches; times keep their defaults.
func None() Limits {
	unlimited := Rate{PerSecond: math.Inf(1), Burst: 1}
	const many = math.MaxInt32
	return Limits{
		Connections: many, PerAddress: many, PerUser: many,
		Address: unlimited, Connection: unlimited, User: unlimited, Call: unlimited, Signal: unlimited, Control: unlimited, Refused: unlimited,
		OpenCalls: many, QueueFrames: many, QueueBytes: many, QueueTotal: many, Watched: many,
	}
}

// Validate returns an error that names the first field that is wrong.
func (l Limits) Validate() error {
	for name, n := range map[string]int{
		"connections": l.Connections, "per_address": l.PerAddress, "per_user": l.PerUser, "frame_bytes": l.FrameBytes, "open_calls": l.OpenCalls,
		"queue_frames": l.QueueFrames, "queue_bytes": l.QueueBytes, "queue_total": l.QueueTotal, "watched": l.Watched,
	} {
		if n < 0 {
			return fmt.Errorf("limits: %s is negative", name)
		}
	}
	if l.FrameBytes != 0 && l.FrameBytes < 2*wire.MaxBody {
		return fmt.Errorf("limits: frame_bytes is below %d, so that a message of the largest body would not fit", 2*wire.MaxBody)
	}
	rates := []Rate{l.Address, l.Connection, l.User, l.Call, l.Signal, l.Control, l.Refused}
	for _, r := range l.Calls {
		rates = append(rates, r)
	}
	for _, r := range rates {
		if r.PerSecond < 0 || r.Burst < 0 || (r.PerSecond > 0) != (r.Burst > 0) {
			return fmt.Errorf("limits: a rate needs both a number a second and a burst above zero, not %v and %d", r.PerSecond, r.Burst)
		}
	}
	for _, d := range []time.Duration{l.Hello, l.Message, l.Write, l.Ping, l.Pong} {
		if d < 0 {
			return fmt.Errorf("limits: a time is negative: %s", d)
		}
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	l.Connections = cmp.Or(l.Connections, 100_000)
	l.PerAddress = cmp.Or(l.PerAddress, 256)
	l.PerUser = cmp.Or(l.PerUser, 16)
	l.FrameBytes = cmp.Or(l.FrameBytes, 64<<10)
	l.OpenCalls = cmp.Or(l.OpenCalls, 64)
	l.QueueFrames = cmp.Or(l.QueueFrames, 4096)
	l.QueueBytes = cmp.Or(l.QueueBytes, 4<<20)
	l.QueueTotal = cmp.Or(l.QueueTotal, 256<<20)
	l.Watched = cmp.Or(l.Watched, 1000)
	l.Address = cmp.Or(l.Address, Rate{50, 200})
	l.Connection = cmp.Or(l.Connection, Rate{100, 400})
	l.User = cmp.Or(l.User, Rate{100, 400})
	l.Call = cmp.Or(l.Call, Rate{50, 200})
	l.Signal = cmp.Or(l.Signal, Rate{5, 20})
	l.Control = cmp.Or(l.Control, Rate{20, 100})
	l.Refused = cmp.Or(l.Refused, Rate{20, 200})
	l.Hello = cmp.Or(l.Hello, 5*time.Second)
	l.Message = cmp.Or(l.Message, 10*time.Second)
	l.Write = cmp.Or(l.Write, 10*time.Second)
	l.Ping = cmp.Or(l.Ping, 25*time.Second)
	l.Pong = cmp.Or(l.Pong, 10*time.Second)
	return l
}

// call returns the rate of one call of one user.
func (l *Limits) call(name string) Rate {
	if r, ok := l.Calls[name]; ok {
		return r
	}
	return l.Call
}

// pace is a rate as allowances count it.
type pace struct {
	each  time.Duration // the time that one is worth; 0 = no limit
	slack time.Duration // what may be taken ahead of time, beside one
}

func (r Rate) pace() pace {
	if math.IsInf(r.PerSecond, 1) {
		return pace{}
	}
	each := max(time.Duration(float64(time.Second)/r.PerSecond), 1)
	return pace{each: each, slack: each * time.Duration(r.Burst-1)}
}

// paces are the rates that are counted most often.
type paces struct {
	address, connection, user, signal, control, refused pace
}

func (l *Limits) paces() paces {
	return paces{l.Address.pace(), l.Connection.pace(), l.User.pace(), l.Signal.pace(), l.Control.pace(), l.Refused.pace()}
}

// allowance is how much of a rate was taken: the moment at which it will be whole again. The zero allowance is whole. It is a token bucket that costs
// 8 bytes, for a connection has four.
type allowance moment

// take takes one. Where there is none left it returns after how long there will be.
func (a *allowance) take(p pace, now moment) (wait time.Duration, ok bool) {
	if p.each == 0 {
		return 0, true
	}
	whole := max(moment(*a), now)
	if wait := now.until(whole) - p.slack; wait > 0 {
		return wait, false
	}
	*a = allowance(whole.in(p.each))
	return 0, true
}

// whole reports whether nothing of it is taken.
func (a allowance) whole(now moment) bool { return moment(a) <= now }

// tooMany is the error of a call beyond a rate.
func tooMany(wait time.Duration) *wire.Error {
	return wire.RetryAfter(wire.RateLimited, max(wait, 10*time.Millisecond), "Too many calls in too short a time.")
}

// addresses counts the sockets of each client address and limits its rate. Entries without sockets are forgotten once their allowance is
// whole again, so the table is bounded by the connections and by the addresses of the last seconds.
type addresses struct {
	limits *Limits
	pace   pace
	mu     sync.Mutex
	known  map[string]*address
}

type address struct {
	key     string // in the table
	sockets int
	open    int // calls over HTTP
	taken   allowance
}

// at returns the entry of an address; the caller holds mu.
func (a *addresses) at(key string) *address {
	entry := a.known[key]
	if entry == nil {
		entry = &address{key: strings.Clone(key)}
		a.known[key] = entry
	}
	return entry
}

// connect counts one more socket, unless there are too many or they come too fast; then it returns nil and how long to wait. The entry stays in
// the table until disconnect.
func (a *addresses) connect(key string, now moment) (entry *address, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	entry = a.at(key)
	if entry.sockets >= a.limits.PerAddress {
		return nil, time.Second
	}
	if wait, ok := entry.taken.take(a.pace, now); !ok {
		return nil, wait
	}
	entry.sockets++
	return entry, 0
}

func (a *addresses) disconnect(entry *address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	entry.sockets--
}

// take takes one from the address's rate.
func (a *addresses) take(key string, now moment) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at(key).taken.take(a.pace, now)
}

// begin counts one more open call over HTTP, unless there are too many; end takes it back.
func (a *addresses) begin(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	entry := a.at(key)
	if entry.open >= a.limits.OpenCalls {
		return false
	}
	entry.open++
	return true
}

func (a *addresses) end(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at(key).open--
}

// sweep forgets the addresses that are at rest.
func (a *addresses) sweep(now moment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, entry := range a.known {
		if entry.sockets == 0 && entry.open == 0 && entry.taken.whole(now) {
			delete(a.known, key)
		}
	}
}

// taken is how much a user has taken of the rates of all calls together and of each. The zero value is nothing.
type taken struct {
	all     allowance
	calls   map[string]allowance // by call; bounded by the number of public calls; nil at rest
	refused allowance            // of the last connection that was closed for going on regardless: the next one begins with it
}

// take takes one for a call.
func (t *taken) take(e *Edge, name string, now moment) (wait time.Duration, ok bool) {
	if wait, ok = t.all.take(e.paces.user, now); !ok {
		return wait, false
	}
	one := t.calls[name]
	wait, ok = one.take(e.cfg.Limits.call(name).pace(), now)
	if ok && !one.whole(now) {
		if t.calls == nil {
			t.calls = map[string]allowance{}
		}
		t.calls[name] = one
	}
	return wait, ok
}

// rest lets go of the allowances that are whole, and reports whether all are.
func (t *taken) rest(now moment) bool {
	maps.DeleteFunc(t.calls, func(_ string, one allowance) bool { return one.whole(now) })
	if len(t.calls) == 0 {
		t.calls = nil
	}
	return t.calls == nil && t.all.whole(now) && t.refused.whole(now)
}

// strangers has what users have taken who have no socket here, because they call over HTTP or because their last socket has gone: who connects anew gets no new burst.
// Those at rest are forgotten, so the table is bounded by the connections and calls of the last seconds.
type strangers struct {
	mu    sync.Mutex
	known map[subjects.User]taken
}

// take takes one for a call of a user without sockets.
func (t *strangers) take(e *Edge, u subjects.User, name string, now moment) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.known[u]
	wait, ok = one.take(e, name, now)
	t.keepLocked(u, one, now)
	return wait, ok
}

// keep remembers what a user had taken whose last socket has gone.
func (t *strangers) keep(u subjects.User, what taken, now moment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(u, what, now)
}

func (t *strangers) keepLocked(u subjects.User, what taken, now moment) {
	if what.rest(now) {
		delete(t.known, u)
	} else {
		t.known[u] = what
	}
}

// leave forgets a user who gets a socket, and returns what the user had taken.
func (t *strangers) leave(u subjects.User) taken {
	t.mu.Lock()
	defer t.mu.Unlock()
	what := t.known[u]
	delete(t.known, u)
	return what
}

// sweep forgets the users who are at rest.
func (t *strangers) sweep(now moment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.known, func(_ subjects.User, what taken) bool { return what.rest(now) })
}
