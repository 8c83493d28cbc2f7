package functions_test

import (
	"context"
	"testing"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
)

// TestCallersHearThatCallsCannotSucceed runs two instances: only what both say counts.
func TestCallersHearThatCallsCannotSucceed(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	var instances [2]functions.Env
	for i := range instances {
		f := echo(say)
		inner := f.New
		f.New = func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			instances[i] = env
			env.Impaired("it has just come up")
			return inner(ctx, env)
		}
		functionstest.Run(t, nc, f)
	}
	heard := func(want string) {
		t.Helper()
		eventually(t, "callers hear "+want, func() bool { return caller.Instances("echo") == 2 && caller.Impaired("echo") == want })
	}
	heard("it has just come up")
	instances[0].Impaired("")
	heard("")
	instances[0].Impaired("the disk is full")
	heard("the disk is full")
	instances[1].Impaired("")
	heard("")
	functions.Env{}.Impaired("nobody hears it")
}
