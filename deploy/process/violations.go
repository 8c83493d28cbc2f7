package process

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// The messages of the log lines that are written, at level error, when a NATS server refuses a subject: either a program runs with another user's seed, or
// the server with an older configuration, or somebody has taken a program over.
const (
	ViolationLogged = "permission violation: the nats user of this program may not do this"
	ViolationSeen   = "permission violation: a nats user tried what it may not do" // says the embedded server of any of its users
)

// Violations counts how often the NATS server refused this program a subject. Connections count into it that NATSConfig names it to.
type Violations struct{ n atomic.Uint64 }

// Count returns how many there were since the program started.
func (v *Violations) Count() uint64 { return v.n.Load() }

// report logs an error that came beside the calls, and counts it where it is a refusal; v may be nil.
func (v *Violations) report(log *slog.Logger, sub *nats.Subscription, err error) {
	message := "nats reports an error"
	if errors.Is(err, nats.ErrPermissionViolation) {
		message = ViolationLogged
		if v != nil {
			v.n.Add(1)
		}
	}
	if sub != nil {
		log = log.With("subject", sub.Subject)
	}
	log.Error(message, KeyErr, err)
}
