package supervisor

import (
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

func TestCrashesAreRepeatedLaterEachTime(t *testing.T) {
	var c crashes
	now := time.Now()
	var waits []time.Duration
	for range 12 {
		began := now
		now = now.Add(10 * time.Millisecond)
		c.crashed(now, began, 0, "broken")
		waits = append(waits, c.wait)
		if _, broken := c.broken(now); broken != (c.count >= brokenAfter) {
			t.Errorf("after %d crashes broken is %v", c.count, broken)
		}
		now = c.until
	}
	ms := time.Millisecond
	want := []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, longestWait, longestWait}
	if !reflect.DeepEqual(waits, want) {
		t.Errorf("the waits are %v", waits)
	}
	c.crashed(now.Add(healthy), now, healthy, "killed")
	if left, broken := c.broken(now.Add(healthy)); c.wait != 0 || left != 0 || broken {
		t.Errorf("after %s up the next start waits %s", healthy, c.wait)
	}
}

func TestInstancesThatCrashSideBySideCountOnce(t *testing.T) {
	var c crashes
	now := time.Now()
	for range 8 {
		c.crashed(now.Add(time.Second), now, time.Second, "killed")
	}
	if c.count != 1 || c.wait != 0 {
		t.Errorf("8 instances that were killed at once count as %d crashes", c.count)
	}
}

func TestAFunctionOutlivesThoseThatCallIt(t *testing.T) {
	var entries []Entry
	for _, m := range manifest.BuiltIn() {
		entries = append(entries, Entry{Supervised: m.Supervised()})
	}
	ended := map[subjects.Function]int{}
	for i, wave := range waves(entries) {
		for _, f := range wave {
			ended[f] = i
		}
	}
	for _, e := range entries {
		for _, called := range e.Calls {
			if ended[called] <= ended[e.Function] {
				t.Errorf("%s ends in wave %d, and %s, which it calls, in %d", e.Function, ended[e.Function], called, ended[called])
			}
		}
	}
	circle := []Entry{
		{Supervised: manifest.Supervised{Function: "a", Calls: []subjects.Function{"b"}}},
		{Supervised: manifest.Supervised{Function: "b", Calls: []subjects.Function{"a", "elsewhere"}}},
	}
	if got := waves(circle); len(got) != 1 || len(got[0]) != 2 {
		t.Errorf("two that call each other end in %v", got)
	}
}

func TestNobodyIsBlamedForSilenceWhileNothingCanBeHeard(t *testing.T) {
	nc := jetstreamtest.Start(t).Connect(t)
	k := newKeeper(&supervisor{Config: Config{NATS: nc, Log: slog.New(slog.DiscardHandler)}}, Entry{})
	began := time.Now()
	up, starting := &child{unit: "1", begun: began, upSince: began, seen: began}, &child{unit: "2", begun: began}
	k.children["1"], k.children["2"] = up, starting
	if !k.listens(began) {
		t.Error("with a connection it is deaf")
	}
	now := began.Add(time.Minute) // this process was stopped
	if k.listens(now) {
		t.Error("it has heard nothing for a minute and decides")
	}
	k.watch(now)
	if up.slow || starting.slow || k.have(now) != 2 {
		t.Error("children are blamed for what could not be heard")
	}
	for end := now.Add(startWithin + 2*time.Second); now.Before(end); now = now.Add(time.Second) {
		if k.listens(now); !k.listens(now.Add(time.Millisecond)) {
			t.Fatal("it stays deaf")
		}
	}
	k.watch(now)
	if !up.slow || !starting.slow || k.have(now) != 0 {
		t.Error("silent children are kept")
	}
	nc.Close()
	if k.listens(now.Add(time.Second)) {
		t.Error("without a connection it decides")
	}
}

func TestAnInstanceThatDoesNotKnowItsUnitIsTakenForTheOldest(t *testing.T) {
	k := newKeeper(&supervisor{Config: Config{Log: slog.New(slog.DiscardHandler)}}, Entry{})
	began := time.Now()
	for i := range 3 {
		unit := fmt.Sprint(i)
		k.children[unit] = &child{unit: unit, begun: began.Add(time.Duration(i))}
	}
	k.hear(heard{instance: "stranger", bye: true})
	k.hear(heard{instance: "b", unit: "1"})
	k.hear(heard{instance: "a"})
	k.hear(heard{instance: "c"})
	k.hear(heard{instance: "a"})
	k.hear(heard{instance: "d"})
	for unit, want := range map[string]string{"0": "a", "1": "b", "2": "c"} {
		if got := k.children[unit]; got.instance != want || got.upSince.IsZero() {
			t.Errorf("child %s is %q", unit, got.instance)
		}
	}
	k.hear(heard{instance: "a", bye: true})
	if !k.children["0"].leaving || k.children["1"].leaving {
		t.Error("a bye without a unit went astray")
	}
}
