// Package work is a function that takes as long as it is told and says on its standard output what it ran, so that tests can count: a call that was lost is
// missing there, and one that ran twice stands there twice, whatever became of the instance. It says likewise which messages it was handed.
package work

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects/wire"
)

// Manifest is the text of function.yaml.
//
//go:embed function.yaml
var Manifest string

// Config holds the function's settings.
type Config struct {
	StartDelay time.Duration `conf:"start-delay" help:"how long an instance takes to start"`
}

// Do is a piece of work: what it is called, and how long it takes in milliseconds.
type Do struct {
	ID string `json:"id"`
	MS int    `json:"ms"`
}

// Function returns the function. It is not idempotent: nobody repeats a call that may have run.
func Function(config Config) functions.Function {
	return functions.Function{
		Name: "work", Description: "Takes its time",
		Events:  functions.Events{Kinds: []wire.EntryKind{wire.KindMessage}},
		Methods: []functions.Method{{Name: "do", Description: "Works for a while", Public: true, Timeout: 20 * time.Second, Request: Do{}, Response: wire.Empty{}}},
		New: func(ctx context.Context, _ functions.Env) (functions.Handlers, error) {
			if err := wait(ctx, config.StartDelay); err != nil {
				return nil, err
			}
			return functions.Handlers{"do": functions.Handle(do), wire.MethodEntry: functions.HandleEntry(saw)}, nil
		},
	}
}

func do(ctx context.Context, _ *functions.Call, in *Do) (wire.Empty, error) {
	fmt.Println("ran", in.ID)
	return wire.Empty{}, wait(ctx, time.Duration(in.MS)*time.Millisecond)
}

// saw says that an entry was handed over; the client id is what its sender calls it.
func saw(_ context.Context, _ *functions.Call, entry *wire.Entry) error {
	fmt.Println("saw", entry.ClientID)
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
