package bench

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// TestAStallIsChargedForAllThatWasDueMeanwhile: a server that answers at once but for one pause of a second looks fast to who waits for each answer before the next request.
func TestAStallIsChargedForAllThatWasDueMeanwhile(t *testing.T) {
	const stall = 500 * time.Millisecond
	var mu sync.Mutex
	var until time.Time
	count := 0
	l := load{lanes: 1, lasts: 2 * time.Second, random: rand.New(rand.NewPCG(1, 1)), do: func(_ int, _ time.Time, done func(error)) {
		mu.Lock()
		defer mu.Unlock()
		if count++; count == 100 {
			until = time.Now().Add(stall)
		}
		time.AfterFunc(time.Until(until), func() { done(nil) })
	}}
	o := l.paced(t.Context(), 400)
	if o.failed != 0 || o.latency.Count() < 100 {
		t.Fatalf("%d answered, %d failed, %v", o.latency.Count(), o.failed, o.err)
	}
	if p95 := o.latency.Quantile(.95); p95 < stall/4 {
		t.Errorf("p95 is %v, though a quarter of all waited for a stall of %v", p95, stall)
	}
}

func TestWhatFailsOrDrownsIsNotHeld(t *testing.T) {
	broken := errors.New("no")
	l := load{lanes: 4, lasts: 100 * time.Millisecond, random: rand.New(rand.NewPCG(1, 1)), do: func(_ int, _ time.Time, done func(error)) { done(broken) }}
	if o := l.paced(t.Context(), 500); o.held() || o.failed == 0 || !errors.Is(o.err, broken) {
		t.Errorf("of failures comes %+v", o)
	}
	if o := l.closed(t.Context()); o.failed != 4 || !errors.Is(o.err, broken) {
		t.Errorf("%d lanes failed with %v", o.failed, o.err)
	}
	release := make(chan struct{})
	var calls atomic.Int64
	l.do = func(_ int, _ time.Time, done func(error)) {
		if calls.Add(1) == 301 { // more than come in a second and a half
			time.AfterFunc(2*time.Second, func() { close(release) })
		}
		go func() { <-release; done(nil) }()
	}
	l.lasts = time.Minute
	if o := l.paced(t.Context(), 200); o.held() || !o.swamped || o.failed != 0 {
		t.Errorf("of a flood comes %+v", o)
	}
}

// TestTheSearchFindsTheEdge holds everything up to a rate and nothing beyond.
func TestTheSearchFindsTheEdge(t *testing.T) {
	for _, edge := range []float64{500, 900, 1000, 1400} {
		r := run{config: Config{Rounds: 4}}
		s := r.search([]float64{900, 1000, 1100})
		for !s.over() {
			o := outcome{offered: s.next, rate: s.next, latency: &Histogram{}}
			if s.next > edge {
				o.rate /= 2
			}
			s.note(o)
		}
		if s.low > edge || s.low < edge*.9 {
			t.Errorf("what holds %v was found to hold %v", edge, s.low)
		}
	}
}

func TestLinesAreReadAsTheyMayBeWritten(t *testing.T) {
	var got []string
	s := newSocket(func(event wire.Event, data []byte) { got = append(got, string(event)+" "+string(data)) })
	for id := range uint64(4) {
		s.open.put(id+1, func(ok []byte, err error) {
			if err != nil {
				ok = []byte(wire.CodeOf(err))
			}
			got = append(got, string(ok))
		})
	}
	s.message([]byte("{\"event\":\"entry\",\"data\":{\"seq\":1}}\n\n{\"id\":1,\"ok\":{\"a\":{}}}\n" +
		`{"data":{"x":1},"event":"later"}` + "\n" + `{"ok":{},"id":2}` + "\n" + `{"id":3,"error":{"code":"forbidden","message":"no"}}` + "\nno JSON\n" + `{ "id" : 4 , "ok" : [] }`))
	want := []string{`entry {"seq":1}`, `{"a":{}}`, `later {"x":1}`, `{}`, `forbidden`, `[]`}
	s.open.each(func(answer) { t.Error("a call waits for its answer still") })
	if !slices.Equal(got, want) {
		t.Errorf("heard %q", got)
	}
}

func TestFramesAreReadWhole(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536, 200_000} {
		head := begin(nil, size)
		head = head[:len(head)-4] // without the mask, as a server writes it
		head[1] &^= 0x80
		data := append(head, bytes.Repeat([]byte("x"), size)...)
		for _, short := range []int{1, len(data) - 1} {
			if _, _, _, ok := frame(data[:min(short, len(data)-1)]); ok {
				t.Errorf("a part of a frame of %d is taken for all", size)
			}
		}
		if _, payload, length, ok := frame(append(data, "more"...)); !ok || len(payload) != size || length != len(data) {
			t.Errorf("a frame of %d is read as one of %d", size, len(payload))
		}
	}
}

func TestClientIDsSayWhichMessageTheyAre(t *testing.T) {
	for _, lane := range []uint32{0, 1, 99_999} {
		for _, count := range []uint32{0, 1, 1 << 23} {
			id := appendClientID([]byte(`{"client_id":"`), time.Now(), 77, lane, count)
			gotLane, gotCount, ok := splitClientID(append(id, `","x":1}`...), 77)
			if !ok || gotLane != lane || gotCount != count || id[len(`{"client_id":"`)+14] != '7' {
				t.Errorf("%s is read as %d, %d, %v", id, gotLane, gotCount, ok)
			}
			if _, _, ok := splitClientID(append(id, `"}`...), 78); ok {
				t.Error("the id of one run is taken for another's")
			}
		}
	}
}
