package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// ran is what a job was.
type ran struct {
	at   time.Time
	call functions.Call
	data string
}

// runs collects jobs.
type runs struct {
	mu   sync.Mutex
	jobs []ran
}

func (r *runs) all() []ran {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.jobs)
}

// worker is a function named counter with jobs and no entries.
func worker(r *runs, handle func(call *functions.Call) error) functions.Function {
	f := counter(&seen{}, nil)
	f.Events, f.Jobs = functions.Events{}, true
	f.Methods = []functions.Method{
		{Name: "close", Description: "Closes a poll", Request: wire.UserQuery{}},
		{Name: "open", Description: "Opens a poll", Public: true},
	}
	f.New = func(context.Context, functions.Env) (functions.Handlers, error) {
		handler := func(_ context.Context, call *functions.Call) (any, error) {
			r.mu.Lock()
			r.jobs = append(r.jobs, ran{time.Now(), *call, string(call.Data)})
			r.mu.Unlock()
			if handle == nil {
				return nil, nil
			}
			return nil, handle(call)
		}
		return functions.Handlers{"close": handler, "open": handler}, nil
	}
	return f
}

type poll struct {
	Poll string `json:"poll"`
}

var closing = functions.Job{Function: "counter", Method: "close"}

func named(id subjects.JobID) functions.Job {
	job := closing
	job.ID = id
	return job
}

func TestAJobIsDoneAtItsTime(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	caller := functionstest.Caller(t, l.nc)
	var r runs
	functionstest.Run(t, l.nc, worker(&r, nil))
	began := time.Now()
	inTheNameOf := functions.Job{Function: "counter", Method: "open", From: functionstest.As("ada")}
	id, err := functions.At(t.Context(), caller, inTheNameOf, poll{"later"}, began.Add(1300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := functions.Later(t.Context(), caller, closing, poll{"now"}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := functions.At(t.Context(), caller, closing, poll{"overdue"}, began.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "three jobs", func() bool { return len(r.all()) == 3 })
	l.done()
	jobs := r.all()
	if jobs[0].data != `{"poll":"now"}` || jobs[1].data != `{"poll":"overdue"}` || jobs[0].call.Attempt != 1 || jobs[0].call.Job == "" {
		t.Errorf("the first jobs are %+v", jobs[:2])
	}
	last := jobs[2]
	if took := last.at.Sub(began); took < 1300*time.Millisecond || took > 10*time.Second {
		t.Errorf("the last job ran after %v", took)
	}
	if last.data != `{"poll":"later"}` || last.call.User != "ada" || last.call.Device != "test" || last.call.Job != id || last.call.Method != "open" {
		t.Errorf("the last job is %+v with %s", last.call, last.data)
	}
}

func TestAJobIsReplacedAndCancelled(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	caller := functionstest.Caller(t, l.nc)
	var r runs
	functionstest.Run(t, l.nc, worker(&r, nil))
	soon := time.Now().Add(2500 * time.Millisecond)
	for _, c := range []struct {
		id   subjects.JobID
		poll string
	}{{"a", "old"}, {"a", "new"}, {"b", "cancelled"}, {"c", "kept"}} {
		if id, err := functions.At(t.Context(), caller, named(c.id), poll{c.poll}, soon); err != nil || id != c.id {
			t.Fatal(id, err)
		}
	}
	for range 2 { // the second finds nothing, which is as good
		if err := functions.Cancel(t.Context(), caller, "counter", "b"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "two jobs", func() bool { return len(r.all()) == 2 })
	<-time.After(time.Until(soon.Add(time.Second))) // what should not come would have come
	var polls []string
	for _, job := range r.all() {
		polls = append(polls, job.data)
	}
	slices.Sort(polls)
	if !slices.Equal(polls, []string{`{"poll":"kept"}`, `{"poll":"new"}`}) {
		t.Errorf("done: %q", polls)
	}
	waitFor(t, "an empty stream", func() bool {
		info, err := l.nc.Request("$JS.API.STREAM.INFO.IM_JOBS", nil, patient)
		var state struct {
			State struct {
				Messages int `json:"messages"`
			} `json:"state"`
		}
		return err == nil && json.Unmarshal(info.Data, &state) == nil && state.State.Messages == 0
	})
}

func TestAJobIsRepeatedAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	caller := functionstest.Caller(t, l.nc)
	var r runs
	functionstest.Run(t, l.nc, worker(&r, nil))
	every := func(poll_ string, pattern string) error {
		return functions.Every(t.Context(), caller, named("tick"), poll{poll_}, pattern)
	}
	if err := every("x", "@every 1s"); err != nil {
		t.Fatal(err)
	}
	// Asking for the same again and again does not put it off.
	for deadline := time.Now().Add(patient); len(r.all()) < 2; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d runs", len(r.all()))
		}
		if err := every("x", "@every 1s"); err != nil {
			t.Fatal(err)
		}
	}
	later, err := functions.At(t.Context(), caller, closing, poll{"later"}, time.Now().Add(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	l.server.Restart(t)
	before := len(r.all())
	waitFor(t, "more runs after the restart", func() bool {
		jobs := r.all()
		return len(jobs) > before+2 && slices.ContainsFunc(jobs, func(j ran) bool { return j.call.Job == later })
	})
	if err := every("y", "* * * * * *"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new data", func() bool { jobs := r.all(); return jobs[len(jobs)-1].data == `{"poll":"y"}` })
	for pattern, want := range map[string]wire.Code{"@every 1ms": wire.BadData, "sometimes": wire.BadData, "@every": wire.BadData} {
		if err := every("z", pattern); wire.CodeOf(err) != want {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	if err := functions.Cancel(t.Context(), caller, "counter", "tick"); err != nil {
		t.Fatal(err)
	}
	if err := functions.Every(t.Context(), caller, closing, poll{}, "@hourly"); wire.CodeOf(err) != wire.BadID {
		t.Errorf("without an id: %v", err)
	}
}

func TestAJobThatFailsIsTriedAgainOrGivenUp(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	caller := functionstest.Caller(t, l.nc)
	var r runs
	functionstest.Run(t, l.nc, worker(&r, func(call *functions.Call) error {
		switch {
		case call.Job == "twice" && call.Attempt == 1:
			return errors.New("not yet")
		case call.Job == "never":
			return wire.Errorf(wire.NotFound, "There is no such poll.")
		}
		return nil
	}))
	for _, job := range []functions.Job{
		named("twice"), named("never"),
		{Function: "counter", Method: "absent", ID: "absent", From: functionstest.As("ada")},
		{Function: "counter", Method: "open", ID: "nobody"},
	} {
		if _, err := functions.Later(t.Context(), caller, job, poll{"p"}, 0); err != nil {
			t.Fatal(err)
		}
	}
	l.done()
	if n := len(r.all()); n != 3 {
		t.Errorf("%d tries", n)
	}
	for _, letter := range l.dead(3) {
		want := map[string]wire.DeadJob{
			string(wire.NotFound):        {Method: "close", ID: "never"},
			string(wire.UnknownCall):     {Method: "absent", ID: "absent", User: "ada", Device: "test", Session: "session-ada"},
			string(wire.Unauthenticated): {Method: "open", ID: "nobody"},
		}[string(letter.Code)]
		if letter.Job == nil || string(letter.Job.Data) != `{"poll":"p"}` || letter.Stream != "IM_JOBS" || letter.Attempts != 1 {
			t.Errorf("a dead letter %+v", letter)
			continue
		}
		letter.Job.Data = nil
		if fmt.Sprint(*letter.Job) != fmt.Sprint(want) {
			t.Errorf("%s: the job is %+v, want %+v", letter.Code, *letter.Job, want)
		}
	}
}

// TestNobodySchedulesForAnother: a server asks whether somebody may publish a schedule, and not whether the target is theirs.
func TestNobodySchedulesForAnother(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var r runs
	functionstest.Run(t, l.nc, worker(&r, nil))
	msg := natsMsg(subjects.Schedule("other", "x"), map[string]string{
		"Nats-Schedule": "@at " + time.Now().Format(time.RFC3339Nano), "Nats-Schedule-Target": "im.job.counter.close", "Confab-User": "ada",
	})
	if _, err := l.nc.RequestMsg(msg, patient); err != nil {
		t.Fatal(err)
	}
	if letter := l.dead(1)[0]; letter.Code != wire.Forbidden || len(r.all()) > 0 {
		t.Errorf("a dead letter %+v after %d runs", letter, len(r.all()))
	}
}
