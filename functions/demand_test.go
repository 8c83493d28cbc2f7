package functions_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestDemandIsSaidAtOnceAgainAndAtTheEnd(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	demands, err := nc.SubscribeSync(subjects.Scale("echo", subjects.Demand))
	if err != nil {
		t.Fatal(err)
	}
	caller := functionstest.Caller(t, nc)
	next := func() (d wire.Demand) {
		m, err := demands.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(m.Data, &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	began := time.Now()
	wait := burst(t, caller, 5, 1)
	first := next()
	if took := time.Since(began); first.Held != 1 || first.Peak != 1 || first.Function != "echo" || first.Caller == "" || took > 800*time.Millisecond {
		t.Errorf("the first demand, after %s, is %+v", took, first)
	}
	for range 2 { // had the first got lost, the next ones would do
		if d := next(); d.Held != 5 || d.Peak != 5 || d.OldestMS < 500 || d.Caller != first.Caller {
			t.Errorf("a later demand is %+v", d)
		}
	}
	functionstest.Run(t, nc, echo(say))
	wait()
	last := next()
	for last.Held > 0 {
		last = next()
	}
	if last.OldestMS != 0 {
		t.Errorf("the last demand is %+v", last)
	}
}

// Whoever starts instances learns of a burst while it comes, and not a second later: what is said never falls behind by more than a factor.
func TestDemandKeepsUpWithABurst(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	demands, err := nc.SubscribeSync(subjects.Scale("echo", subjects.Demand))
	if err != nil {
		t.Fatal(err)
	}
	wait := burst(t, functionstest.Caller(t, nc), 64, 4)
	for said := 1; said < 64; {
		m, err := demands.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var d wire.Demand
		if err := json.Unmarshal(m.Data, &d); err != nil {
			t.Fatal(err)
		}
		if d.Held > 8*said {
			t.Errorf("after %d held calls the next demand says %d", said, d.Held)
		}
		said = d.Held
	}
	functionstest.Run(t, nc, echo(say))
	wait()
}
