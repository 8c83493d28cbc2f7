package subjects

import (
	"errors"
	"fmt"
	"strings"
)

// MaxIDLength is the largest length of an id in bytes. It keeps the longest subject far below what a NATS server accepts in one line.
const MaxIDLength = 63

// ErrBadID is wrapped by every error of a parser of this package; clients see it as the code bad_id.
var ErrBadID = errors.New("bad id")

// User is the handle of an account: [a-z0-9][a-z0-9_-]{0,62}. The empty User is nobody.
type User string

// Device is a name that a client chose for one of a user's devices, in the form of a User.
type Device string

// Edge is the name of one running edge, in the form of a User.
type Edge string

// Function is the name of a function, such as "send": [a-z][a-z0-9-]{0,31}.
type Function string

// Method is the name of a method of a function, such as "post", in the form of a Function.
type Method string

// JobID names work for a set time among that of its function, in the form of a User.
type JobID string

// ParseJobID returns s as a JobID, or an error that wraps ErrBadID.
func ParseJobID(s string) (JobID, error) {
	if !isID(s) {
		return "", badID("job", s)
	}
	return JobID(s), nil
}

// ParseUser returns s as a User, or an error that wraps ErrBadID.
func ParseUser(s string) (User, error) {
	if !isID(s) {
		return "", badID("user", s)
	}
	return User(s), nil
}

// ParseDevice returns s as a Device, or an error that wraps ErrBadID.
func ParseDevice(s string) (Device, error) {
	if !isID(s) {
		return "", badID("device", s)
	}
	return Device(s), nil
}

// ParseEdge returns s as an Edge, or an error that wraps ErrBadID.
func ParseEdge(s string) (Edge, error) {
	if !isID(s) {
		return "", badID("edge", s)
	}
	return Edge(s), nil
}

// ParseFunction returns s as the name of a function, or an error that wraps ErrBadID.
func ParseFunction(s string) (Function, error) {
	if !isName(s) {
		return "", fmt.Errorf("%w: a function of %d bytes is not of the form [a-z][a-z0-9-]{0,31}", ErrBadID, len(s))
	}
	return Function(s), nil
}

// ParseCall splits the name of a call, such as "send.post", into function and method, or returns an error that wraps ErrBadID.
func ParseCall(s string) (Function, Method, error) {
	function, method, ok := strings.Cut(s, ".")
	if !ok || !isName(function) || !isName(method) {
		return "", "", fmt.Errorf("%w: a call of %d bytes is not of the form <function>.<method>, each [a-z][a-z0-9-]{0,31}", ErrBadID, len(s))
	}
	return Function(function), Method(method), nil
}

// UnmarshalText parses a User from JSON; the error wraps ErrBadID.
func (u *User) UnmarshalText(text []byte) (err error) { *u, err = ParseUser(string(text)); return err }

// UnmarshalText parses a Device from JSON; the error wraps ErrBadID.
func (d *Device) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDevice(string(text))
	return err
}

// UnmarshalText parses an Edge from JSON; the error wraps ErrBadID.
func (e *Edge) UnmarshalText(text []byte) (err error) { *e, err = ParseEdge(string(text)); return err }

// UnmarshalText parses a Conversation from JSON; the error wraps ErrBadID.
func (c *Conversation) UnmarshalText(text []byte) (err error) {
	*c, err = ParseConversation(string(text))
	return err
}

// isID reports whether s matches [a-z0-9][a-z0-9_-]{0,62}.
func isID(s string) bool {
	if len(s) == 0 || len(s) > MaxIDLength || s[0] == '_' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// isName reports whether s matches [a-z][a-z0-9-]{0,31}, the form of functions and methods.
func isName(s string) bool {
	return len(s) <= 32 && isID(s) && s[0] >= 'a' && strings.IndexByte(s, '_') < 0
}

// badID does not repeat the id: it may be long, hostile or secret.
func badID(what, s string) error {
	return fmt.Errorf("%w: a %s of %d bytes is not of the form [a-z0-9][a-z0-9_-]{0,62}", ErrBadID, what, len(s))
}
