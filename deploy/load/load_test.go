package load

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestInstancesWanted(t *testing.T) {
	scale := manifest.Scale{Min: 0, Max: 8, Wake: 2}
	for name, c := range map[string]struct {
		load  Load
		scale manifest.Scale
		want  int
	}{
		"nothing to do":                       {Load{}, scale, 0},
		"nothing to do, one is kept":          {Load{}, manifest.Scale{Min: 1, Max: 8, Wake: 1}, 1},
		"one call wakes as many as asked":     {Load{Held: 1}, scale, 2},
		"one call and somebody is up":         {Load{Held: 1, Instances: 1}, scale, 1},
		"one event wakes":                     {Load{Backlog: 1}, scale, 2},
		"a burst at zero":                     {Load{Held: 41}, scale, 5},
		"calls at work and held":              {Load{Peak: 20, Held: 1, Instances: 2}, scale, 3},
		"exactly full":                        {Load{Peak: 20, Instances: 2}, scale, 2},
		"many events and somebody is up":      {Load{Backlog: 401, Instances: 1}, scale, 5},
		"never beyond the most":               {Load{Held: 4000}, scale, 8},
		"what was busy lately does not count": {Load{Lately: 80, Instances: 1}, scale, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.load.Wanted(c.scale, 10); got != c.want {
				t.Errorf("%+v wants %d instances, not %d", c.load, got, c.want)
			}
		})
	}
}

// world is a function under a clock.
type world struct {
	function
	began, now time.Time
}

func newWorld() *world {
	now := time.Now()
	return &world{began: now, now: now}
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) beat(name string, peak int) {
	w.up(wire.InstanceUp{Instance: name, Concurrency: 10, Peak: peak}, w.now, w.began)
}

func (w *world) sum() Load { return w.load(w.now, w.began) }

func TestAPeakIsRememberedForThoseWhoLookLater(t *testing.T) {
	w := newWorld()
	w.beat("a", 0)
	w.pass(time.Second)
	w.beat("a", 300)
	w.beat("b", 0)
	if l := w.sum(); l.Peak != 300 || l.Lately != 300 {
		t.Fatalf("after a peak the load is %+v", l)
	}
	// The same 300 calls, now in two instances, are not 450.
	for range 5 {
		w.pass(time.Second)
		w.beat("a", 150)
		w.beat("b", 150)
	}
	if l := w.sum(); l.Peak != 300 || l.Lately > 450 {
		t.Errorf("shared work counts as %+v", l)
	}
	// A beat that somebody asked for speaks of a moment only.
	w.pass(100 * time.Millisecond)
	w.beat("a", 0)
	if l := w.sum(); l.Peak != 300 {
		t.Errorf("a question brought the peak down: %+v", l)
	}
	for range 5 {
		w.pass(time.Second)
		w.beat("a", 0)
		w.beat("b", 0)
	}
	if l := w.sum(); l.Peak != 0 || l.Lately < 300 {
		t.Errorf("five seconds later the load is %+v", l)
	}
	for range 12 {
		w.pass(time.Second)
		w.beat("a", 0)
		w.beat("b", 0)
	}
	if l := w.sum(); l.Lately != 0 {
		t.Errorf("the peak is never forgotten: %+v", l)
	}
}

func TestAPeakGoesWithItsInstance(t *testing.T) {
	w := newWorld()
	w.beat("a", 10)
	w.beat("b", 10)
	delete(w.instances, "b")
	if l := w.sum(); l.Lately != 10 {
		t.Errorf("the work of an instance that left counts: %+v", l)
	}
}

func TestHeldCallsThatAnInstanceTookCountOnce(t *testing.T) {
	w := newWorld()
	w.demand(wire.Demand{Caller: "edge", Held: 25}, w.now)
	w.demand(wire.Demand{Caller: "other", Held: 4}, w.now)
	if held := w.sum().Held; held != 29 {
		t.Fatalf("%d are held", held)
	}
	w.pass(100 * time.Millisecond)
	w.beat("a", 0)
	if held := w.sum().Held; held != 15 {
		t.Errorf("with room for 10 of each caller %d are held", held)
	}
	w.pass(100 * time.Millisecond)
	w.demand(wire.Demand{Caller: "edge", Held: 20}, w.now)
	if held := w.sum().Held; held != 20 {
		t.Errorf("a newer word says 20, and %d are held", held)
	}
	if w.demand(wire.Demand{Caller: "edge", Held: 20}, w.now) || !w.demand(wire.Demand{Caller: "edge", Held: 21}, w.now) {
		t.Error("only a caller that holds more is worth a decision")
	}
	w.demand(wire.Demand{Caller: "edge"}, w.now)
	w.demand(wire.Demand{Caller: "other", Held: -3}, w.now)
	if held := w.sum().Held; held != 0 || len(w.callers) != 0 {
		t.Errorf("at the end %d are held", held)
	}
}

// FuzzHeard feeds events as anybody on NATS could publish them: sums stay sums, and what speaks of another function than its subject counts for nothing.
func FuzzHeard(f *testing.F) {
	f.Add("im.scale.echo.up", []byte(`{"function":"echo","instance":"a","concurrency":4,"peak":3,"idle_ms":5}`))
	f.Add("im.scale.echo.demand", []byte(`{"function":"echo","caller":"edge","held":9223372036854775807,"peak":1}`))
	f.Add("im.scale.echo.up", []byte(`{"function":"echo","instance":"b","concurrency":-4,"peak":-9,"idle_ms":-9223372036854775808}`))
	f.Add("im.scale.echo.up", []byte(`{"function":"echo","instance":"c","concurrency":9223372036854775807,"idle_ms":9223372036854775807}`))
	f.Add("im.scale.echo.bye", []byte(`{"function":"echo","instance":"a"}`))
	f.Add("im.scale.echo.up", []byte(`{"function":"other","instance":"a"}`))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		w := &Watcher{log: slog.New(slog.DiscardHandler), began: time.Now(), functions: map[subjects.Function]*function{}}
		for range 3 {
			w.heard(&nats.Msg{Subject: subject, Data: data})
		}
		for name := range w.functions {
			l := w.Of(name)
			if l.Held < 0 || l.Peak < 0 || l.Lately < 0 || l.IdleFor < 0 || l.Instances > 1 || l.Busy() > 2*most {
				t.Errorf("the load of %q is %+v", name, l)
			}
			if !strings.HasPrefix(subject, "im.scale."+string(name)+".") {
				t.Errorf("what came on %q counts for %q", subject, name)
			}
		}
	})
}
