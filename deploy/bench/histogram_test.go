package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestQuantilesAreWithinOnePercent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() time.Duration{
		"small":       func() time.Duration { return time.Duration(random.Int64N(300)) },
		"exponential": func() time.Duration { return time.Duration(random.ExpFloat64() * float64(time.Millisecond)) },
		"wide":        func() time.Duration { return time.Duration(math.Exp(random.Float64() * math.Log(float64(time.Hour)))) },
	} {
		var h Histogram
		var all []time.Duration
		var work sync.WaitGroup
		for range 20_000 {
			all = append(all, draw())
		}
		for part := range slices.Chunk(all, 5_000) {
			work.Go(func() {
				for _, d := range part {
					h.Record(d)
				}
			})
		}
		work.Wait()
		slices.Sort(all)
		if h.Count() != uint64(len(all)) || h.Max() != all[len(all)-1] {
			t.Errorf("%s: %d durations up to %v", name, h.Count(), h.Max())
		}
		for _, q := range []float64{0, .01, .5, .9, .99, .999, 1} {
			want := all[min(max(0, int(math.Ceil(q*float64(len(all))))-1), len(all)-1)]
			got := h.Quantile(q)
			if off := math.Abs(float64(got - want)); off > max(1, .01*float64(want)) {
				t.Errorf("%s: the quantile %v is %v instead of %v", name, q, got, want)
			}
		}
	}
}

func TestBucketsAscendAndHoldTheirOwnValue(t *testing.T) {
	before := -1
	for v := int64(0); v < 1<<mostBits; v += 1 + v/256 {
		b := bucket(v)
		if b < before || b > before+1 && v < 1<<12 || b >= buckets {
			t.Fatalf("%d is in bucket %d behind %d of %d", v, b, before, buckets)
		}
		if bucket(value(b)) != b {
			t.Fatalf("bucket %d shows %d, which is in bucket %d", b, value(b), bucket(value(b)))
		}
		before = b
	}
	var h Histogram
	h.Record(-time.Second)
	h.Record(1000 * time.Hour)
	if h.Count() != 2 || h.Max() != 1000*time.Hour || h.Quantile(.5) != 0 {
		t.Errorf("beyond the ends: %d, %v, %v", h.Count(), h.Max(), h.Quantile(.5))
	}
	var sum Histogram
	sum.Add(&h)
	if sum.Count() != 2 || sum.Max() != h.Max() {
		t.Errorf("a sum of one has %d up to %v", sum.Count(), sum.Max())
	}
}
