package natsconfig

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// tally is a function that counts messages, and its jobs. A message that says "poison" and a job with the id "poison" are refused.
type tally struct {
	messages, jobs atomic.Int64
}

func (c *tally) function() functions.Function {
	return functions.Function{
		Name: "tally", Description: "Counts messages", Jobs: true, Events: functions.Events{Kinds: []wire.EntryKind{wire.KindMessage}},
		Methods: []functions.Method{{Name: "sweep", Description: "Counts a job"}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{
				"sweep": func(context.Context, *functions.Call) (any, error) { c.jobs.Add(1); return nil, nil },
				wire.MethodEntry: functions.HandleEntry(func(_ context.Context, _ *functions.Call, e *wire.Entry) error {
					c.messages.Add(1)
					if string(e.Body) == `{"text":"poison"}` {
						return wire.Errorf(wire.BadData, "Not understood.")
					}
					return nil
				}),
			}, nil
		},
	}
}

// TestAFunctionOnEventsWorksAsItsOwnUser: the deployer makes its consumers, it works, schedules and gives up, and an operator replays; nobody needs more than they may.
func TestAFunctionOnEventsWorksAsItsOwnUser(t *testing.T) {
	t.Parallel()
	m := manifest.BuiltIn()[0]
	m.Function, m.Jobs, m.Events, m.NATS = "tally", true, []wire.EntryKind{wire.KindMessage}, manifest.Permissions{}
	manifests := append(manifest.BuiltIn(), m)
	w := startWith(t, manifests)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	deployer := w.connect(Deployer)
	if err := jetstream.Declare(ctx, deployer, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := manifest.Declare(ctx, deployer, manifests); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	var c tally
	nc := w.connect("tally")
	functionstest.RunEnv(t, functions.Env{NATS: nc, Log: w.log}, c.function())
	w.speak(ctx, "g.a", "good")
	w.speak(ctx, "g.b", "poison")
	caller := functionstest.Caller(t, nc)
	job := functions.Job{Function: "tally", Method: "sweep", ID: "sweep"}
	if _, err := functions.Later(ctx, caller, job, wire.Empty{}, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second looks at what is scheduled
		if err := functions.Every(ctx, caller, job, wire.Empty{}, "@every 1s"); err != nil {
			t.Fatal(err)
		}
	}
	w.until(func() bool { return c.jobs.Load() >= 2 && c.messages.Load() == 2 })
	if err := functions.Cancel(ctx, caller, "tally", "sweep"); err != nil {
		t.Fatal(err)
	}
	operator := w.connect(Operator)
	if err := jetstream.Rewind(ctx, operator, "tally", began); err != nil {
		t.Fatal(err)
	}
	scaler := w.connect(Scaler)
	w.until(func() bool {
		n, err := jetstream.Backlog(ctx, scaler, "tally")
		return err == nil && n == 0 && c.messages.Load() == 4
	})
	if err := jetstream.RemoveConsumers(ctx, operator, "tally"); err != nil {
		t.Fatal(err)
	}
	for _, line := range w.logs.with(process.ViolationLogged) {
		t.Error(line)
	}
}

// TestAFunctionOnEventsMayNotTouchOthers compares what it may with what it must not.
func TestAFunctionOnEventsMayNotTouchOthers(t *testing.T) {
	m := manifest.BuiltIn()[0]
	m.Function, m.Events, m.NATS = "tally", []wire.EntryKind{wire.KindMessage}, manifest.Permissions{}
	users, err := Users(append(manifest.BuiltIn(), m))
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(users, func(u User) bool { return u.Name == "tally" })
	for subject, want := range map[string]bool{
		"im.dead.tally": true, "$JS.API.CONSUMER.MSG.NEXT.IM_MESSAGES_07.tally": true, "$JS.ACK.IM_JOBS.tally.>": true, "$JS.API.DIRECT.GET.IM_MESSAGES_00": true,
		"im.dead.send": false, "$JS.API.CONSUMER.MSG.NEXT.IM_MESSAGES_07.other": false, "$JS.ACK.IM_JOBS.>": false, "$JS.API.DIRECT.GET.IM_JOBS": false,
		"im.sched.tally.*": false, "im.job.tally.*": false, // it declares no jobs
	} {
		if got := slices.Contains(users[at].Publish, subject); got != want {
			t.Errorf("publish to %s: allowed %v, want %v", subject, got, want)
		}
	}
}

// speak appends a message to a conversation, as the user send.
func (w *world) speak(ctx context.Context, c subjects.Conversation, text string) {
	w.t.Helper()
	store, err := jetstream.Open(ctx, w.connect("send"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer store.Close()
	draft := jetstream.Draft{Kind: wire.KindMessage, From: "ada", ClientID: functionstest.ClientID(), Body: functionstest.Text("%s", text)}
	if _, err := store.Append(ctx, c, jetstream.Tail{}, draft); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) until(holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it did not come to pass; the log says %q", w.logs.with("level=ERROR"))
		}
	}
}
