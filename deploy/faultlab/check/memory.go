package check

import (
	"maps"
	"slices"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// floodSlack is what a process may keep more, in bytes, where somebody flooded with the largest messages: the NATS server's pool of buffers for blocks of up to 8 MiB, what it takes to
// decompress them, and pages in memory, most of it when all that was said is read at the end. The all-in-one was seen with 138 to 188 MiB then, and 58 MiB before; 45 MiB were in use.
const floodSlack = 128 << 20

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
	slack := j.bounds.MemorySlack
	if slices.ContainsFunc(j.records, func(r history.Record) bool { return r.Kind == history.Abuse }) {
		slack += floodSlack
	}
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if r := last[name]; float64(r.Bytes) > j.bounds.MemoryGrowth*float64(first[name])+float64(slack) {
			j.findf(MemoryNotReturns, "", 0, r.At, name, "%d bytes at the end, %d at the beginning", r.Bytes, first[name])
		}
	}
}
