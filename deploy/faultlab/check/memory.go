package check

import (
	"maps"
	"slices"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// memory holds what each process keeps at the end against what it had at the beginning.
func (j *judge) memory() {
	first, last := map[string]uint64{}, map[string]history.Record{}
	for _, r := range j.records {
		if r.Kind != history.Probe {
			continue
		}
		if first[r.Process] == 0 {
			first[r.Process] = r.Bytes
		}
		last[r.Process] = r
	}
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if r := last[name]; float64(r.Bytes) > j.bounds.MemoryGrowth*float64(first[name])+float64(j.bounds.MemorySlack) {
			j.findf(MemoryNotReturns, "", 0, r.At, name, "%d bytes at the end, %d at the beginning", r.Bytes, first[name])
		}
	}
}
