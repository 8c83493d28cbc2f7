package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
)

// programs holds the program of each function of confab, so that one binary and one image can be any of them.
var programs = map[string]func(ctx context.Context, c call) error{
	"auth":          program("auth", auth.Function),
	"conversations": program("conversations", conversations.Function),
	"history":       program("history", history.Function),
	"presence":      program("presence", presence.Function),
	"receipts":      program("receipts", receipts.Function),
	"send":          program("send", send.Function),
}

func program[C any](name string, build func(C) functions.Function) func(ctx context.Context, c call) error {
	return func(ctx context.Context, c call) error { return process.RunFunction(ctx, name, build, c.source()) }
}

// function runs one instance of a function, with the flags and the environment of the function's own program.
func function(ctx context.Context, c call) error {
	all := strings.Join(slices.Sorted(maps.Keys(programs)), ", ")
	if len(c.args) == 0 {
		return &process.UsageError{Err: fmt.Errorf("which function? One of %s", all)}
	}
	name := c.args[0]
	run := programs[name]
	if run == nil {
		return &process.UsageError{Err: fmt.Errorf("%q is no function of confab; these are: %s", name, all)}
	}
	c.args = c.args[1:]
	return run(ctx, c)
}
