package supervisor

import "time"

// How starts that fail are repeated.
const (
	firstWait   = 100 * time.Millisecond // before the second repetition; the first one comes at once
	longestWait = 30 * time.Second
	brokenAfter = 3                // starts in a row without an up, after which callers are told
	healthy     = 10 * time.Second // how long an instance must have been up for the crashes before it to be forgotten
	patient     = time.Second      // a wait that callers are not made to share without a word
)

// crashes says when the next instance of a function may be started after some have crashed.
type crashes struct {
	count  int       // since the last that counted as healthy
	row    int       // starts in a row without an up
	last   time.Time // the newest crash that counted
	wait   time.Duration
	until  time.Time // no start before it
	reason string
}

// crashed notes the end of an instance that began, and was up for some time, 0 for never. Of those that ran side by side one counts.
func (c *crashes) crashed(now, began time.Time, up time.Duration, reason string) {
	c.reason = reason
	if !c.last.IsZero() && began.Before(c.last) {
		return
	}
	// Time lost to waiting stays below a tenth of the time up, so that an instance that is killed now and then is replaced at once.
	if up >= min(healthy, max(time.Second, 10*c.wait)) {
		c.count = 0
	}
	c.count++
	c.row++
	if up > 0 {
		c.row = 0
	}
	c.wait = 0
	if c.count > 1 {
		c.wait = longestWait
		if doublings := c.count - 2; doublings < 16 {
			c.wait = min(longestWait, firstWait<<doublings)
		}
	}
	c.last, c.until = now, now.Add(c.wait)
}

// up notes that an instance came up.
func (c *crashes) up() { c.row = 0 }

// broken reports whether those who wait should be told that starting does not work, and for how much longer it is not tried.
func (c *crashes) broken(now time.Time) (left time.Duration, broken bool) {
	left = max(0, c.until.Sub(now))
	return left, c.row >= brokenAfter || left > patient
}
