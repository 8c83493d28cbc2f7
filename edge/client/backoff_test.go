package client

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// TestNobodyComesBackSoonerThanAsked: who was asked for a pause waits at least as long and at most half as long again, and not all wait the same; no server
// makes a client wait for hours.
func TestNobodyComesBackSoonerThanAsked(t *testing.T) {
	c := &Client{config: &config{least: time.Millisecond, most: 2 * time.Millisecond}}
	waits := map[time.Duration]bool{}
	for range 200 {
		wait := c.before(0, wire.RetryAfter(wire.Unavailable, 10*time.Second, "Not now."))
		if wait < 10*time.Second || wait > 15*time.Second {
			t.Fatalf("waits %v where ten seconds were asked for", wait)
		}
		waits[wait] = true
	}
	if len(waits) < 100 {
		t.Errorf("200 clients come back at %d times", len(waits))
	}
	if wait := c.before(0, &wire.Error{Code: wire.Unavailable, RetryAfterMS: math.MaxInt64}); wait < maxAsked || wait > maxAsked*3/2 {
		t.Errorf("waits %v where ages were asked for", wait)
	}
	if wait := c.before(0, errors.New("gone")); wait > 2*time.Millisecond {
		t.Errorf("waits %v where nothing was asked for", wait)
	}
}
