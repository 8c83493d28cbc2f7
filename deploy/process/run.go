package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/confab-im/confab/functions"
)

// The exit codes of programs. Whoever starts programs decides by them what to do next.
const (
	ExitBroken     = 1 // it cannot run, or failed: starting it again soon will not help
	ExitUsage      = 2 // it was called wrongly, and nothing was started
	ExitClosed     = 3 // its connection to NATS was closed for good, or the NATS server inside it broke: start it again
	ExitIncomplete = 4 // it ended as asked, but had to cancel calls that were still at work
)

// Main runs a program until it returns or until SIGINT or SIGTERM ends its context, and exits: 0 after a clean end, also one for want of calls, and
// else with the exit code of the error. A second signal ends the process at once.
//
// The signal handler stands before anything else happens, so that a program that is told to end while it starts leaves like any other.
func Main(run func(ctx context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx)
	code := ExitCode(err)
	switch {
	case code == 0:
		return
	case code == ExitUsage:
		fmt.Fprintln(os.Stderr, err)
	default:
		fmt.Fprintln(os.Stderr, "confab:", err)
	}
	os.Exit(code)
}

// ExitCode returns the exit code of a program that ended with err, 0 for nil and for a call for help.
func ExitCode(err error) int {
	switch {
	case err == nil, errors.Is(err, ErrHelp):
		return 0
	case errors.As(err, new(*UsageError)):
		return ExitUsage
	case errors.Is(err, ErrClosed), errors.Is(err, functions.ErrDisconnected), errors.Is(err, ErrAgain):
		return ExitClosed
	case errors.Is(err, functions.ErrDrainIncomplete):
		return ExitIncomplete
	}
	return ExitBroken
}

// ErrAgain ends a program that a new start mends; it is wrapped with what broke.
var ErrAgain = errors.New("start it again")

// UsageError is an error in how a program was called; nothing was started.
type UsageError struct{ Err error }

// Error returns the sentence of the cause.
func (e *UsageError) Error() string { return "confab: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }
