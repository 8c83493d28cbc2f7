package cli

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects/wire"
)

// confab runs a command in this process.
func confab(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, note bytes.Buffer
	err := run(t.Context(), call{args: args, in: strings.NewReader(""), out: &out, note: &note})
	if note.Len() > 0 {
		t.Logf("%s", note.String())
	}
	return out.String(), err
}

func TestAFunctionIsReplayedAndItsDeadAreRevived(t *testing.T) {
	server := jetstreamtest.Start(t)
	store, nc := server.Store(t), server.Connect(t)
	if err := jetstream.DeclareConsumers(t.Context(), nc, []jetstream.ConsumerSpec{{Function: "counter", Entries: true}}); err != nil {
		t.Fatal(err)
	}
	var handed atomic.Int64
	var mended atomic.Bool
	functionstest.Run(t, nc, functions.Function{
		Name: "counter", Description: "Counts messages", Events: functions.Events{Kinds: []wire.EntryKind{wire.KindMessage}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{wire.MethodEntry: functions.HandleEntry(func(_ context.Context, _ *functions.Call, e *wire.Entry) error {
				handed.Add(1)
				if e.Seq == 1 && !mended.Load() {
					return wire.Errorf(wire.BadData, "Not\x1b[2Junderstood.")
				}
				return nil
			})}, nil
		},
	})
	var tail jetstream.Tail
	for range 3 {
		appended, err := store.Append(t.Context(), "g.a", tail, jetstream.Draft{Kind: wire.KindMessage, From: "ada", ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
		if err != nil {
			t.Fatal(err)
		}
		tail = appended.Tail
	}
	quiet := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			n, err := jetstream.Backlog(t.Context(), nc, "counter")
			if err == nil && n == 0 && handed.Load() == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, %d were handed over, want %d; %v", n, handed.Load(), want, err)
			}
		}
	}
	expect := func(pattern string, args ...string) {
		t.Helper()
		out, err := confab(t, append(append([]string{"functions"}, args...), "--nats-url", server.URL)...)
		if err != nil || !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("confab functions %q prints %q, %v; want %q", args, out, err, pattern)
		}
	}
	quiet(3)
	expect(`(?m)^1 +20.* 1 +message 1 of g\.a +bad_data: Not \[2Junderstood\.$`, "dead", "counter")
	expect(`^There is nothing`, "dead", "other")
	mended.Store(true)
	expect(`^1 handed over again`, "dead", "counter", "--revive", "1")
	quiet(4)
	expect(`^counter gets every entry again that was stored since .*Z; \d wait`, "replay", "counter", "--since", "1h")
	quiet(7)
	expect(`^There is nothing`, "dead", "counter")
	if _, err := confab(t, "functions", "dead", "counter", "--forget", "1", "--nats-url", server.URL); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("forget what is not there: %v", err)
	}
	if _, err := confab(t, "functions", "replay", "other", "--since", "2026-11-20T15:04:05Z", "--nats-url", server.URL); !errors.Is(err, jetstream.ErrNotDeclared) {
		t.Errorf("replay what gets no entries: %v", err)
	}
	for _, args := range [][]string{{"replay"}, {"replay", "counter", "--since", "yesterday"}, {"dead", "A"}, {"bury", "counter"}} {
		_, err := confab(t, append([]string{"functions"}, args...)...)
		if _, usage := errors.AsType[*process.UsageError](err); !usage {
			t.Errorf("confab functions %q: %v", args, err)
		}
	}
}
