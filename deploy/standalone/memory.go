package standalone

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The embedded server reads messages in blocks of 8 MiB and keeps blocks behind weak pointers, which every garbage collection clears. With little
// memory in use the collector runs after a few blocks, so nearly every page of history would be read from the disk again and decompressed.
const (
	presetPercent = 100 // of the Go runtime: collect when the heap has doubled
	tuneEvery     = 5 * time.Second
)

// keepCaches lets the heap grow by extra bytes between collections, whatever is in use, until ctx ends; beyond that it doubles as the runtime
// presets. It does nothing where somebody has set GOGC.
func keepCaches(ctx context.Context, extra uint64) {
	if preset := debug.SetGCPercent(presetPercent); preset != presetPercent {
		debug.SetGCPercent(preset)
		return
	}
	ticker := time.NewTicker(tuneEvery)
	defer ticker.Stop()
	now := presetPercent
	for {
		// A change stops the world for a moment, so small ones are not made.
		if want := percentFor(extra, liveHeap()); want > now+now/4 || want < now-now/4 {
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-ctx.Done():
			debug.SetGCPercent(presetPercent)
			return
		case <-ticker.C:
		}
	}
}

// percentFor returns by how many percent of live bytes the heap grows when it grows by extra bytes, and no less than preset.
func percentFor(extra, live uint64) int {
	const least = 4 << 20 // the runtime does not collect below this
	percent := extra / max(1, max(live, least)/100)
	return int(min(max(percent, presetPercent), math.MaxInt32))
}

// liveHeap returns how many bytes the last collection found in use.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
