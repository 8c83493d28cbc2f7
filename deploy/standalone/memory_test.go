package standalone

import "testing"

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
