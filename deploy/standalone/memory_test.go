package standalone

import (
	"runtime"
	"testing"
)

func TestTheHeapGrowsByTheSameAmountWhateverIsInUse(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		extra, live uint64
		want        int
	}{
		{512 * mib, 64 * mib, 800},
		{512 * mib, 512 * mib, 100},
		{512 * mib, 4096 * mib, 100}, // then it doubles, as preset
		{512 * mib, 0, 12800},
		{0, 64 * mib, 100},
	} {
		if got := percentFor(c.extra, c.live); got < c.want-1 || got > c.want+1 {
			t.Errorf("%d MiB beside %d in use: %d percent, want %d", c.extra/mib, c.live/mib, got, c.want)
		}
	}
}

// TestAStartGivesBackWhatItLeaves: much garbage goes back to the system at once, and little is left to the runtime.
func TestAStartGivesBackWhatItLeaves(t *testing.T) {
	kept := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys - m.HeapReleased
	}
	giveBack()
	before := kept()
	index := make([]byte, 4*muchLeft)
	for i := range index {
		index[i] = 1
	}
	if got := kept(); got < before+3*muchLeft {
		t.Fatalf("%d B are kept beside %d in use", got, len(index))
	}
	runtime.KeepAlive(index)
	giveBack()
	if got := kept(); got > before+muchLeft {
		t.Errorf("%d B are kept, %d more than before", got, got-before)
	}
}
