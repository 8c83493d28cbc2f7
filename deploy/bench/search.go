package bench

import "time"

// Bounds of a search for the rate that is held.
const (
	heldAt    = 100 * time.Millisecond // what 99 of 100 must stay within
	heldShare = .95                    // of what was due must be answered within the time
)

// held reports whether an offered rate was held.
func (o outcome) held() bool {
	return !o.swamped && o.failed == 0 && o.latency.Quantile(.99) <= heldAt && o.rate >= heldShare*o.offered
}

// search finds the highest rate that is held, to some percent: it goes up or down until one rate is held and one is not, and then halves what lies between.
type search struct {
	low, high float64 // held, and not held; 0 = none yet
	next      float64
	tries     int     // left
	best      outcome // at low
}

// search begins a little below where a closed loop came out, which is too much or nearly so.
func (r *run) search(capacity []float64) *search {
	return &search{next: seriesOf(capacity).Median * .85, tries: 2*r.config.Rounds + 1}
}

// over reports whether there is nothing left to try.
func (s *search) over() bool {
	return s.tries <= 0 || s.next <= 0 || s.low > 0 && s.high > 0 && s.high/s.low < 1.06
}

// note takes in what came of trying next.
func (s *search) note(o outcome) {
	s.tries--
	if o.held() {
		if s.next > s.low {
			s.low, s.best = s.next, o
		}
	} else {
		s.high = s.next
	}
	switch {
	case s.high == 0:
		s.next = s.low * 1.15
	case s.low == 0:
		s.next = s.high * .75
	default:
		s.next = (s.low + s.high) / 2
	}
}
