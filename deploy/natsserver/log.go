package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/deploy/process"
)

// Log passes the log of a server on. Its notices are life events of a part, so they are for debugging.
type Log struct {
	log      *slog.Logger
	names    map[string]string       // of users, by their public keys
	violated func(user string)       // called for each refusal of a subject
	fatal    *atomic.Pointer[string] // why the server cannot go on
	refused  *atomic.Int64           // when a route was last refused, in nanoseconds since 1970; 0 = never
}

// NewLog returns a log for a server. Names holds the names of users by their public keys; violated, unless nil, is called for each subject that the server refuses a user, which is "unknown" where
// the server does not say whom.
func NewLog(log *slog.Logger, names map[string]string, violated func(user string)) Log {
	if violated == nil {
		violated = func(string) {}
	}
	return Log{log: log, names: names, violated: violated, fatal: new(atomic.Pointer[string]), refused: new(atomic.Int64)}
}

// Noticef logs for debugging.
func (l Log) Noticef(format string, v ...any) { l.Debugf(format, v...) }

// Debugf logs for debugging.
func (l Log) Debugf(format string, v ...any) { l.log.Debug("nats server", "text", text(format, v)) }

// Tracef logs for debugging.
func (l Log) Tracef(format string, v ...any) { l.Debugf(format, v...) }

// Warnf logs a warning, but what the server repeats every two seconds while it is alone.
func (l Log) Warnf(format string, v ...any) {
	level := slog.LevelWarn
	if strings.HasPrefix(format, "Waiting for routing to be established") {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "nats server", "text", text(format, v))
}

// Errorf logs an error, and counts it where a user was refused a subject.
func (l Log) Errorf(format string, v ...any) {
	line := text(format, v)
	if user, ok := violator(line, l.names); ok {
		l.log.Error(process.ViolationSeen, "nats-user", user, "text", line)
		l.violated(user)
		return
	}
	if tried := triedRoute.FindStringSubmatch(line); tried != nil { // every second while another server is away
		if tried[1] == "1" || strings.HasSuffix(tried[1], "00") {
			l.log.Warn("nats server", "text", line)
		}
		return
	}
	if refusedRoute.MatchString(line) {
		l.refused.Store(time.Now().UnixNano())
		l.log.Warn("nats server", "text", line) // it happens again and again while somebody copies a password
		return
	}
	l.log.Error("nats server", "text", line)
}

// triedRoute is how the server writes that it does not reach another server.
var triedRoute = regexp.MustCompile(`^Error trying to connect to route \(attempt (\d+)\)`)

// refusedRoute is how the server writes that it refused another server, or was refused by it, for its password.
var refusedRoute = regexp.MustCompile(`- rid:\d+ - (authentication error|Route Error '?Authorization Violation)`)

// refusedLately is how long a refused route counts; servers try again every second or two.
const refusedLately = 10 * time.Second

// RefusedRoute reports whether a server of the cluster has another password than this one, as far as the log has said lately.
func (l Log) RefusedRoute() bool {
	at := l.refused.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < refusedLately
}

// Fatalf logs why the server cannot go on, which ends the wait for it.
func (l Log) Fatalf(format string, v ...any) {
	line := text(format, v)
	l.fatal.CompareAndSwap(nil, &line)
	l.log.Error("nats server", "text", line)
}

func text(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }

// violation is how the server writes that it refused a client a subject: what the client calls itself, in quotes, then its account and key, then what it tried,
// which has no spaces. The last match counts, since a client may call itself anything.
var violation = regexp.MustCompile(`^.*" - "[A-Z_]+/nkey:(U[A-Z2-7]{55})" - (Publish|Subscription) Violation`)

// violator returns the name of the user whom a line of the server's log says to have been refused a subject; "unknown" where the line does not say whose.
func violator(line string, names map[string]string) (user string, ok bool) {
	found := violation.FindStringSubmatch(line)
	if found == nil {
		return "unknown", strings.Contains(line, "Publish Violation") || strings.Contains(line, "Subscription Violation")
	}
	if name, ok := names[found[1]]; ok {
		return name, true
	}
	return "unknown", true
}
