package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func FuzzParseTraceparent(f *testing.F) {
	for _, seed := range []string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "", strings.Repeat("-", 55),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		trace, ok := ParseTraceparent(s)
		if !ok {
			if trace != (Trace{}) {
				t.Errorf("%q is refused and read as %+v", s, trace)
			}
			return
		}
		if again, ok := ParseTraceparent(trace.String()); !ok || again != trace {
			t.Errorf("%q is read as %+v and written as %s", s, trace, trace)
		}
		if s[3:55] != trace.String()[3:] {
			t.Errorf("%q became %s", s, trace)
		}
	})
}

func FuzzParseDeadline(f *testing.F) {
	for _, seed := range []string{"", "0", "-1", "1763900000123", "99999999999999999999", "253402300800000", "1e3", " 1", "+5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := parseDeadline(s)
		if !ok {
			return
		}
		if at.UnixMilli() <= 0 || at.UTC().Year() > 9999 {
			t.Errorf("%q is read as %s", s, at)
		}
		if again, ok := parseDeadline(formatDeadline(at)); !ok || !again.Equal(at) {
			t.Errorf("%q is read as %s, and again as %s", s, at, again)
		}
	})
}

func TestTraceparentsThatTheStandardForbidsAreRefused(t *testing.T) {
	for s, want := range map[string]bool{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      true,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      true,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what": true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what": false,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01what":  false,
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      false,
		"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":      false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":      false,
		"": false,
	} {
		if _, ok := ParseTraceparent(s); ok != want {
			t.Errorf("ParseTraceparent(%q) is %t", s, ok)
		}
	}
}

// Whatever is submitted in whatever order: a lane keeps its order, the bounds hold, nothing accepted is lost, and nobody is left over.
func TestThePoolKeepsItsPromisesUnderAnyLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := rapid.IntRange(1, 4).Draw(t, "workers")
		waiting := rapid.IntRange(1, 16).Draw(t, "waiting")
		lanes := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 60).Draw(t, "lanes")
		p := newPool(workers, waiting)
		var mu sync.Mutex
		done := map[int][]int{}
		busy := map[int]int{}
		atWork, accepted := 0, map[int][]int{}
		for i, lane := range lanes {
			name := ""
			if lane > 0 {
				name = fmt.Sprint(lane)
			}
			pause := time.Duration(rand.N(20)) * time.Microsecond
			if p.submit(name, taskFunc(func() {
				mu.Lock()
				atWork++
				busy[lane]++
				if atWork > workers || lane > 0 && busy[lane] > 1 {
					t.Errorf("%d at work, %d of lane %d", atWork, busy[lane], lane)
				}
				mu.Unlock()
				time.Sleep(pause)
				mu.Lock()
				atWork--
				busy[lane]--
				done[lane] = append(done[lane], i)
				mu.Unlock()
			})) {
				accepted[lane] = append(accepted[lane], i)
			}
			if _, queued := p.load(waiting); queued > waiting {
				t.Fatalf("%d wait; at most %d may", queued, waiting)
			}
		}
		<-p.drained()
		for lane, want := range accepted {
			if lane > 0 && fmt.Sprint(done[lane]) != fmt.Sprint(want) || len(done[lane]) != len(want) {
				t.Fatalf("lane %d did %v of %v", lane, done[lane], want)
			}
		}
		if working, queued := p.load(waiting); working != 0 || queued != 0 || len(p.lanes) != 0 || len(p.ready) != 0 || len(p.spare) != 0 || p.workers != workers {
			t.Fatalf("left over: %d at work, %d waiting, %d lanes, %d spare, %d workers", working, queued, len(p.lanes), len(p.spare), p.workers)
		}
	})
}

func TestABusyLaneLeavesPlacesForOthers(t *testing.T) {
	p := newPool(1, 8)
	release := make(chan struct{})
	for i := range 4 {
		if got, want := p.submit("hot", taskFunc(func() { <-release })), i < 3; got != want { // one at work, a quarter of eight waiting
			t.Errorf("task %d of the hot lane: accepted %t", i, got)
		}
	}
	for i := range 7 {
		if got, want := p.submit("", taskFunc(func() {})), i < 6; got != want {
			t.Errorf("task %d of no lane: accepted %t", i, got)
		}
	}
	close(release)
	<-p.drained()
}

func TestAWorkerIsKeptForTheNextTaskAndNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(8, 8)
		spare := func() int {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.spare)
		}
		burst := func(n int) {
			release := make(chan struct{})
			for range n {
				if !p.submit("", taskFunc(func() { <-release })) {
					t.Error("refused")
				}
			}
			close(release)
			synctest.Wait()
		}
		burst(5)
		if got := spare(); got != 5 {
			t.Errorf("%d workers are spare after five tasks at once", got)
		}
		for range 10 {
			time.Sleep(spareTime / 2)
			burst(2)
		}
		if got := spare(); got != 2 {
			t.Errorf("%d workers are spare where two tasks come at once", got)
		}
		time.Sleep(2*spareTime + time.Millisecond)
		synctest.Wait()
		if got := spare(); got != 0 {
			t.Errorf("%d workers are left where nothing comes", got)
		}
		burst(3)
		<-p.drained()
		if got := spare(); got != 0 {
			t.Errorf("%d workers outlive a drain", got)
		}
	})
}

func TestPercentilesAreAtMostAQuarterTooHigh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(4*time.Microsecond), int64(time.Hour)).Draw(t, "duration"))
		var h histogram
		h.add(d)
		if got := h.percentile(0.99); got < d || float64(got) > 1.25*float64(d)+float64(time.Microsecond) {
			t.Fatalf("%s is reported as %s", d, got)
		}
	})
	var h histogram
	h.add(-time.Second)
	h.add(1000 * time.Hour)
	if h.percentile(0) == 0 || h.percentile(1) < time.Hour {
		t.Error("durations beyond the buckets get lost")
	}
}

func TestOnlyCallsThatHadWaitedForTheStartAreCold(t *testing.T) {
	var in instance
	now := time.Now()
	in.touch(now) // it came between the subscriptions and the first up
	in.ready.Store(now.UnixNano())
	in.touch(now.Add(coldWindow - 1))
	in.touch(now.Add(coldWindow))
	if got := in.cold.Load(); got != 2 {
		t.Errorf("%d calls are cold", got)
	}
}

func TestALogLineKnowsItsCall(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(LogHandler(slog.NewJSONHandler(&out, nil))).With("function", "send")
	trace := NewTrace()
	ctx := WithTrace(context.WithValue(context.Background(), callKey{}, &Call{Method: "post", User: "ada", Session: "s1"}), trace)
	log.InfoContext(ctx, "one")
	log.Info("two")
	var lines []map[string]string
	for line := range bytes.Lines(out.Bytes()) {
		var fields map[string]string
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fields)
	}
	one, two := lines[0], lines[1]
	if one["function"] != "send" || one["method"] != "post" || one["user"] != "ada" || one["session"] != "s1" || one["trace"] != trace.TraceID() {
		t.Errorf("a line within a call is %v", one)
	}
	if two["function"] != "send" || two["user"] != "" {
		t.Errorf("a line outside of a call is %v", two)
	}
}

// The timer of a tidy may have run out, so that it cannot be stopped any more, when a drain sends all workers away.
func TestATidyAfterADrainFindsNobody(t *testing.T) {
	p := newPool(2, 0)
	var begun sync.WaitGroup
	begun.Add(2)
	for range 2 {
		p.put("", taskFunc(func() { begun.Done(); begun.Wait() }))
	}
	for spare := 0; spare < 2; runtime.Gosched() {
		p.mu.Lock()
		spare = len(p.spare)
		p.mu.Unlock()
	}
	p.tidy() // notes that nobody missed the two
	<-p.drained()
	p.tidy()
}
