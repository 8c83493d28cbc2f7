package functions

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Call is one request. The identity in it was verified by the edge, from a token and never from a body.
type Call struct {
	Function subjects.Function
	Method   subjects.Method
	User     subjects.User // "" before sign-in, and in calls that no user caused
	Device   subjects.Device
	Session  string
	Address  string         // of the client, for limits on failures
	Data     []byte         // the body as it came
	Job      subjects.JobID // of work for later: the id it was asked for under
	Attempt  int            // of an entry and a job: how often it was handed over, from 1; 0 in other calls

	decoded   any // the request, where it had to be decoded for its lane
	decodeErr error
}

// Decode reads the body strictly into v, a pointer to a struct, and validates it. The error is an *wire.Error, as of wire.Decode.
func (c *Call) Decode(v any) error {
	if c.decodeErr != nil {
		return c.decodeErr
	}
	return wire.Decode(c.Data, v)
}

// Header returns the headers that pass the identity on.
func (c *Call) Header() nats.Header {
	header := make(nats.Header, 6) // with room for deadline and traceparent
	values := [...]string{string(c.User), string(c.Device), c.Session, c.Address}
	for i, key := range [...]string{subjects.HeaderUser, subjects.HeaderDevice, subjects.HeaderSession, subjects.HeaderAddress} {
		if values[i] != "" {
			header[key] = values[i : i+1 : i+1]
		}
	}
	return header
}

// readIdentity fills in the identity of the headers; the error is an *wire.Error with BadID.
func (c *Call) readIdentity(header map[string][]string) (err error) {
	if user := first(header, subjects.HeaderUser); user != "" {
		if c.User, err = subjects.ParseUser(user); err != nil {
			return wire.Errorf(wire.BadID, "The identity of the call is not of the allowed form.")
		}
	}
	if device := first(header, subjects.HeaderDevice); device != "" {
		if c.Device, err = subjects.ParseDevice(device); err != nil {
			return wire.Errorf(wire.BadID, "The device of the call is not of the allowed form.")
		}
	}
	c.Session = first(header, subjects.HeaderSession)
	c.Address = first(header, subjects.HeaderAddress)
	return nil
}

// first is Header.Get for both kinds of headers, without an allocation.
func first(header map[string][]string, key string) string {
	if values := header[key]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// formatDeadline writes a deadline as it stands in subjects.HeaderDeadline.
func formatDeadline(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// parseDeadline reads a deadline. What is no positive number of milliseconds before the year 10000 counts as absent: the method's own
// timeout bounds the call then.
func parseDeadline(s string) (time.Time, bool) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms <= 0 || ms > 253402300799999 {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

type callKey struct{}

// CallOf returns the call that ctx belongs to, or nil.
func CallOf(ctx context.Context) *Call {
	call, _ := ctx.Value(callKey{}).(*Call)
	return call
}
