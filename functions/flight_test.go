package functions_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// flown is a call that is launched, and what becomes of it.
type flown struct {
	functions.Flight
	landings chan struct{}
}

// launch launches a call, with a second for all.
func launch(c *functions.Caller, m subjects.Method, within time.Duration, data string) (f *flown, launched bool) {
	f = &flown{landings: make(chan struct{}, 2)}
	launched = c.Launch(&f.Flight, time.Now().Add(within), "echo", m, nats.Header{}, []byte(data), func() { f.landings <- struct{}{} })
	return f, launched
}

// land waits for the landing, and finishes what is not settled.
func (f *flown) land(t *testing.T) (data []byte, settled bool, err error) {
	t.Helper()
	select {
	case <-f.landings:
	case <-time.After(30 * time.Second):
		t.Fatal("the flight does not land")
	}
	if data, settled, err = f.Answer(); !settled {
		data, err = f.Finish(ctxFor(t, 30*time.Second))
	}
	select {
	case <-f.landings:
		t.Error("the flight landed twice")
	default:
	}
	return data, settled, err
}

func TestAFlightLandsOnce(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	if _, launched := launch(caller, "say", time.Minute, `{}`); launched {
		t.Error("a call to a function that sleeps was launched")
	}
	started, gate := make(chan struct{}, 1), make(chan struct{})
	in := functionstest.Run(t, nc, echo(func(ctx context.Context, c *functions.Call, in *request) (answer, error) {
		if in.Text != "slow" {
			return say(ctx, c, in)
		}
		started <- struct{}{}
		<-gate
		return say(ctx, c, in)
	}))
	eventually(t, "the instance is known", func() bool { return caller.Instances("echo") == 1 })
	if _, launched := launch(caller, "missing", time.Minute, `{}`); launched {
		t.Error("a call that the function has not was launched")
	}
	for name, test := range map[string]struct {
		method  subjects.Method
		within  time.Duration
		data    string
		want    string
		code    wire.Code
		settled bool
	}{
		"an answer":                {"say", time.Minute, `{"text":"hi"}`, `{"text":"hi"}`, "", true},
		"an error":                 {"secret", time.Minute, ``, "", wire.Internal, true},
		"a deadline before an end": {"say", 200 * time.Millisecond, `{"text":"slow"}`, "", wire.Timeout, true},
	} {
		f, launched := launch(caller, test.method, test.within, test.data)
		if !launched {
			t.Fatalf("%s: not launched", name)
		}
		if got, settled, err := f.land(t); string(got) != test.want || wire.CodeOf(err) != test.code || settled != test.settled {
			t.Errorf("%s: got %s, %v, settled %v", name, got, err, settled)
		}
	}
	<-started
	f, _ := launch(caller, "say", time.Minute, `{"text":"slow"}`)
	<-started
	f.Abandon()
	if _, settled, err := f.land(t); wire.CodeOf(err) != wire.Timeout || !settled {
		t.Errorf("abandoned: %v, settled %v", err, settled)
	}
	close(gate)
	in.Stop(t)
	if _, launched := launch(caller, "say", time.Minute, `{}`); launched {
		t.Error("a call was launched after the bye")
	}
}

// What was provably not begun, or may be repeated, is sent again by Finish as it would be by Call.
func TestAFlightIsSentAgain(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	ghost(t, nc, wire.InstanceMethod{Name: "say", TimeoutMS: 5000})
	eventually(t, "the ghost is known", func() bool { return caller.Instances("echo") == 1 })
	f, launched := launch(caller, "say", time.Minute, `{"text":"x"}`)
	if !launched {
		t.Fatal("not launched")
	}
	functionstest.Run(t, nc, echo(say))
	if got, settled, err := f.land(t); err != nil || string(got) != `{"text":"x"}` || settled {
		t.Errorf("a call to an instance that was none: %s, %v, settled %v", got, err, settled)
	}

	nc = connect(t)
	caller = functionstest.Caller(t, nc)
	entered, gate := make(chan struct{}, 8), make(chan struct{})
	functionstest.RunEnv(t, functions.Env{NATS: nc}, echo(func(ctx context.Context, c *functions.Call, in *request) (answer, error) {
		entered <- struct{}{}
		<-gate
		return say(ctx, c, in)
	}), functions.Options{Concurrency: 1, Waiting: 1})
	eventually(t, "the instance is known", func() bool { return caller.Instances("echo") == 1 })
	var all []*flown
	for range 3 {
		f, launched := launch(caller, "say", time.Minute, `{"text":"x"}`)
		if !launched {
			t.Fatal("not launched")
		}
		all = append(all, f)
	}
	<-entered
	refused := all[2]
	select {
	case <-refused.landings:
	case <-time.After(30 * time.Second):
		t.Fatal("the third is not refused")
	}
	if _, settled, _ := refused.Answer(); settled {
		t.Error("a refused call counts as settled")
	}
	close(gate)
	if got, err := refused.Finish(ctxFor(t, 30*time.Second)); err != nil || string(got) != `{"text":"x"}` {
		t.Errorf("a refused call: %s, %v", got, err)
	}
	for _, f := range all[:2] {
		if _, settled, err := f.land(t); err != nil || !settled {
			t.Errorf("%v, settled %v", err, settled)
		}
	}
}
