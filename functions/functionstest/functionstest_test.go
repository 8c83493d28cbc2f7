package functionstest_test

import (
	"context"
	"testing"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects/wire"
)

// TestAFunctionThatAsksAnother is a test as authors of functions write it: theirs runs, and what it asks is stood in for.
func TestAFunctionThatAsksAnother(t *testing.T) {
	nc := jetstreamtest.Start(t).Connect(t)
	functionstest.StandIn(t, nc, "history.heads", func(_ context.Context, call *functions.Call) (any, error) {
		if call.User != "ada" {
			return nil, wire.Errorf(wire.Forbidden, "Not you.")
		}
		return map[string]int{"unread": 3}, nil
	})
	functionstest.Run(t, nc, functions.Function{
		Name: "digest", Description: "Says what is new", Methods: []functions.Method{{Name: "today", Public: true}},
		New: func(_ context.Context, env functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"today": func(ctx context.Context, call *functions.Call) (any, error) {
				return functions.Invoke[any, map[string]int](ctx, env.Caller, call, "history", "heads", nil)
			}}, nil
		},
	})
	got, err := functionstest.Call[map[string]int](t, nc, "ada", "digest.today", nil)
	if err != nil || got["unread"] != 3 {
		t.Errorf("ada gets %v, %v", got, err)
	}
	if _, err := functionstest.Call[map[string]int](t, nc, "bob", "digest.today", nil); wire.CodeOf(err) != wire.Forbidden {
		t.Errorf("bob gets %v", err)
	}
	if _, err := functionstest.Call[map[string]int](t, nc, "", "digest.today", nil); wire.CodeOf(err) != wire.Unauthenticated {
		t.Errorf("nobody gets %v", err)
	}
}
