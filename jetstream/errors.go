package jetstream

import (
	"errors"
	"fmt"
)

// Errors of the stores. Compare with errors.Is: each is wrapped with what was being done.
var (
	// ErrNotFound means that there is no such record.
	ErrNotFound = errors.New("not found")
	// ErrExists means that a record that had to be new is there already.
	ErrExists = errors.New("exists already")
	// ErrConflict means that somebody else wrote first: read again, decide again.
	ErrConflict = errors.New("changed by somebody else")
	// ErrUnavailable means that the store did not confirm in time; a write may have taken effect.
	ErrUnavailable = errors.New("store unavailable")
	// ErrTooLarge means that a record exceeds what its stream or bucket takes; nothing was stored.
	ErrTooLarge = errors.New("record too large")
	// ErrTooMany means that a pattern matches more records than one read returns.
	ErrTooMany = errors.New("too many records for one read")
	// ErrSpent means that a one-time secret was used before.
	ErrSpent = errors.New("used already")
)

// Errors of Declare and Open, for operators.
var (
	// ErrShrink means that a profile asks for less than a stream has; data or promises could be lost, so nothing was changed there.
	ErrShrink = errors.New("refusing to shrink")
	// ErrOverlap means that a stream captures the calls to functions: its acknowledgement would answer them, and callers of other programs
	// would take it for the function's.
	ErrOverlap = errors.New("a stream captures calls to functions")
	// ErrNewerLayout means that a newer release of confab declared the store.
	ErrNewerLayout = errors.New("the store has a newer layout")
	// ErrRestoring means that a restore into this server has begun and has not ended: not everything is there.
	ErrRestoring = errors.New("a restore has not ended here, or was cut short; wait for its end, or delete the streams and begin it again")
	// ErrNotDeclared means that the store was not declared, or by an older release, until the context ended.
	ErrNotDeclared = errors.New("the store is not declared")
)

// apiError is an error that JetStream answered. It wraps the sentinel that its code stands for, if any.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// Codes of JetStream that are looked at.
const (
	codeAccountFull      = 10002 // limits of the account
	codeAccountLimits    = 10002 // of the account, which a server sets while its disk is short
	codeNoPeers          = 10005 // fewer servers than copies are there, or have room
	codeInsufficient     = 10023 // limits of the server or of the account
	codeNoMessage        = 10037
	codeResources        = 10047
	codeTooLarge         = 10054
	codeSequenceGone     = 10043
	codeStreamMissing    = 10059
	codeWrongLast        = 10071 // the expected last sequence was another
	codeMaximum          = 10077 // max bytes or max messages of the stream
	codeWrongLastUnknown = 10164 // the same, where the server does not say which
)

// Error returns the sentence and the code of the server.
func (e *apiError) Error() string {
	return fmt.Sprintf("%s (NATS error %d)", e.Description, e.ErrCode)
}

// Unwrap returns the sentinels that the code stands for, if any.
func (e *apiError) Unwrap() []error {
	switch e.ErrCode {
	case codeWrongLast, codeWrongLastUnknown:
		return []error{ErrConflict}
	case codeNoMessage, codeSequenceGone:
		return []error{ErrNotFound}
	case codeTooLarge:
		return []error{ErrTooLarge}
	case codeStreamMissing:
		return []error{ErrNotDeclared, ErrUnavailable}
	case codeAccountLimits, codeNoPeers, codeInsufficient, codeResources, codeMaximum:
		return []error{ErrUnavailable}
	}
	if e.Code >= 500 {
		return []error{ErrUnavailable}
	}
	return nil
}
