package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// maxAsked bounds the pause that a server may ask for.
const maxAsked = 5 * time.Minute

// pause returns how long to wait before the next try: at random between least and a ceiling that doubles with each try up to most, so that
// clients who lost the same server do not come back together.
func pause(least, most time.Duration, try int) time.Duration {
	ceiling := most
	if try < 16 {
		ceiling = min(most, least<<(try+2))
	}
	return least + rand.N(max(1, ceiling-least))
}

// sleep waits for d and reports whether it was not cut short by ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
