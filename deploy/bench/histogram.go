package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Shape of a histogram: values below fine are kept exactly, larger ones in steps of at most 1/128 of themselves.
const (
	stepBits = 7  // log2 of the steps for each doubling
	mostBits = 42 // values from 2^42 ns (73 minutes) on count as the largest
	buckets  = (mostBits-stepBits)<<stepBits + 1<<stepBits
)

// Histogram counts durations in nanoseconds with an error of less than one percent. It may be used by many goroutines at once; the zero value is empty.
type Histogram struct {
	counts [buckets]atomic.Uint64
	total  atomic.Uint64
	most   atomic.Int64
}

// bucket returns the place of a value: its leading bits say which doubling, the next ones which step of it.
func bucket(ns int64) int {
	v := uint64(min(max(ns, 0), 1<<mostBits-1))
	shift := max(0, bits.Len64(v)-stepBits-1)
	return shift<<stepBits + int(v>>shift)
}

// value returns the middle of a bucket.
func value(bucket int) int64 {
	shift := max(0, bucket>>stepBits-1)
	low := int64(bucket-shift<<stepBits) << shift
	return low + (int64(1)<<shift)/2
}

// Record counts one duration; one below zero counts as zero.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(int64(d))].Add(1)
	h.total.Add(1)
	for {
		most := h.most.Load()
		if int64(d) <= most || h.most.CompareAndSwap(most, int64(d)) {
			return
		}
	}
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.total.Load() }

// Max returns the longest duration exactly, 0 where there is none.
func (h *Histogram) Max() time.Duration { return time.Duration(h.most.Load()) }

// Quantile returns the duration that the share q, from 0 to 1, of what was recorded does not exceed; 0 where nothing was.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.total.Load()
	if total == 0 {
		return 0
	}
	rank := min(max(uint64(q*float64(total)+0.999999), 1), total)
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen >= rank {
			return min(time.Duration(value(i)), h.Max())
		}
	}
	return h.Max()
}

// Add counts everything that another histogram has.
func (h *Histogram) Add(other *Histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.total.Add(other.total.Load())
	h.most.Store(max(h.most.Load(), other.most.Load()))
}

// Latencies are the percentiles of a histogram that figures and plots show, in milliseconds.
type Latencies struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// Latencies returns the percentiles.
func (h *Histogram) Latencies() Latencies {
	return Latencies{milliseconds(h.Quantile(.5)), milliseconds(h.Quantile(.9)), milliseconds(h.Quantile(.99)), milliseconds(h.Quantile(.999)), milliseconds(h.Max())}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
