package edge

import "time"

// moment is a time by the monotonic clock, in a third of the space of a time.Time: nanoseconds since shortly before the program began. Zero is none.
type moment int64

// dawn is before every moment, so that none is zero.
var dawn = time.Now().Add(-time.Second)

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.Sub(dawn))
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return dawn.Add(time.Duration(m))
}

func rightNow() moment { return moment(time.Since(dawn)) }

// in returns the moment after a time.
func (m moment) in(d time.Duration) moment { return m + moment(d) }

// until returns how long it is to a moment.
func (m moment) until(other moment) time.Duration { return time.Duration(other - m) }
