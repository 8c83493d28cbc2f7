package natsserver

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/confab-im/confab/deploy/process"
)

// Log passes the log of a server on. Its notices are life events of a part, so they are for debugging.
type Log struct {
	log      *slog.Logger
	names    map[string]string       // of users, by their public keys
	violated func(user string)       // called for each refusal of a subject
	fatal    *atomic.Pointer[string] // why the server cannot go on
}

// NewLog returns a log for a server. Names holds the names of users by their public keys; violated, unless nil, is called for each subject that the server refuses a user, which is "unknown" where
// the server does not say whom.
func NewLog(log *slog.Logger, names map[string]string, violated func(user string)) Log {
	if violated == nil {
		violated = func(string) {}
	}
	return Log{log: log, names: names, violated: violated, fatal: new(atomic.Pointer[string])}
}

// Noticef logs for debugging.
func (l Log) Noticef(format string, v ...any) { l.Debugf(format, v...) }

// Debugf logs for debugging.
func (l Log) Debugf(format string, v ...any) { l.log.Debug("nats server", "text", text(format, v)) }

// Tracef logs for debugging.
func (l Log) Tracef(format string, v ...any) { l.Debugf(format, v...) }

// Warnf logs a warning.
func (l Log) Warnf(format string, v ...any) { l.log.Warn("nats server", "text", text(format, v)) }

// Errorf logs an error, and counts it where a user was refused a subject.
func (l Log) Errorf(format string, v ...any) {
	line := text(format, v)
	if user, ok := violator(line, l.names); ok {
		l.log.Error(process.ViolationSeen, "nats-user", user, "text", line)
		l.violated(user)
		return
	}
	l.log.Error("nats server", "text", line)
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
