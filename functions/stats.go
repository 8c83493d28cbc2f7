package functions

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets of four to a power of two, from 1 µs to about two hours: 25 % is the largest error of a percentile.
type histogram struct {
	buckets [128]atomic.Uint64
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 4 {
		return int(us)
	}
	power := bits.Len64(us) - 1 // at least 2
	return min(power*4-4+int(us>>(power-2)&3), len(histogram{}.buckets)-1)
}

// ceiling returns the end of a bucket.
func ceiling(bucket int) time.Duration {
	if bucket < 4 {
		return time.Duration(bucket+1) * time.Microsecond
	}
	power := bucket/4 + 1
	return time.Duration(uint64(bucket%4+5)<<(power-2)) * time.Microsecond
}

// percentile returns an upper bound of the duration that the given part, 0 to 1, of all stayed below; 0 where there are none.
func (h *histogram) percentile(part float64) time.Duration {
	var counts [len(h.buckets)]uint64
	var total uint64
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	var below uint64
	for i, n := range counts {
		below += n
		if n > 0 && float64(below) >= part*float64(total) {
			return ceiling(i)
		}
	}
	return 0
}

// counters is what an instance counts of one method.
type counters struct {
	processed atomic.Uint64 // answered, with or without an error
	refused   atomic.Uint64 // no place to wait, or too late to begin
	failed    atomic.Uint64 // answered with a code that is the server's fault
	latency   histogram     // from hand-over to answer
}

// MethodStats is what an instance says of a method in its micro service's statistics, beside what micro itself counts there.
type MethodStats struct {
	Processed uint64  `json:"processed"`         // answered, with or without an error
	Refused   uint64  `json:"refused"`           // not begun: too much waited, or the deadline had passed
	Failed    uint64  `json:"failed"`            // answered with a code that is marked unknown
	P50MS     float64 `json:"p50_ms"`            // from hand-over to answer, in milliseconds
	P99MS     float64 `json:"p99_ms"`            // the same
	Passive   bool    `json:"passive,omitempty"` // the method does not count as activity
	Waiting   int     `json:"waiting"`           // calls to the instance that wait for a worker
	Working   int     `json:"working"`           // calls that the instance works on
	IdleMS    int64   `json:"idle_ms"`           // milliseconds since the instance's newest call that was not passive was over, or since its start; 0 while there is one
	Cold      int64   `json:"cold"`              // calls within 250 ms of the instance's start: they had waited for it
	ConnectMS float64 `json:"connect_ms"`        // milliseconds from the start of the instance's process until it had its connection; 0 = not known
	ReadyMS   float64 `json:"ready_ms"`          // milliseconds from there until it said up

	Violations uint64 `json:"violations"` // subjects that the NATS server refused the instance's process; there should be none
}

// coldWindow is how soon after the start a call counts as one that had waited.
const coldWindow = 250 * time.Millisecond

func (c *counters) stats() MethodStats {
	return MethodStats{
		Processed: c.processed.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(),
		P50MS: milliseconds(c.latency.percentile(0.50)), P99MS: milliseconds(c.latency.percentile(0.99)),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
