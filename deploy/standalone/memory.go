package standalone

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The embedded server reads messages in blocks of 8 MiB and keeps blocks behind weak pointers, which every garbage collection clears. With little
// memory in use the collector runs after a few blocks, so nearly every page of history would be read from the disk again.
const (
	presetPercent = 100 // of the Go runtime: collect when the heap has doubled
	tuneEvery     = 5 * time.Second
)

// tend gives back what the start has left behind, and keeps room for extra bytes of blocks, until stop is called. It goes on when ctx ends: the server is still at work.
func tend(ctx context.Context, extra uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		giveBack()
		if extra > 0 {
			keepCaches(ctx, extra)
		}
	}()
	return func() { cancel(); <-ended }
}

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

// muchLeft is how large a heap may be after a start, in bytes, without a look at what of it is still in use.
const muchLeft = 64 << 20

// giveBack returns to the system what a start has left behind, where it may be much: the embedded server reads the index of each stream in one piece, and the runtime
// would keep that memory for as long as the heap may grow into it. It takes a collection, which a small heap is not worth.
func giveBack() {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	if samples[0].Value.Uint64()+samples[1].Value.Uint64() > muchLeft {
		debug.FreeOSMemory()
	}
}
