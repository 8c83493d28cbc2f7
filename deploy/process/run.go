package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a program until it returns or until SIGINT or SIGTERM ends its context, and exits: 0 after a clean end, 2 when the
// configuration is wrong (a UsageError), 1 otherwise. A second signal ends the process at once.
func Main(run func(ctx context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx)
	switch {
	case err == nil, errors.Is(err, ErrHelp):
		return
	case errors.As(err, new(*UsageError)):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "confab:", err)
	os.Exit(1)
}

// UsageError is an error in how a program was called; nothing was started.
type UsageError struct{ Err error }

// Error returns the sentence of the cause.
func (e *UsageError) Error() string { return "confab: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }
