package jetstream

import (
	"context"

	"github.com/confab-im/confab/subjects/wire"
)

// What tests of the log see of this package, as in export_raw_test.go.

const PageSize = pageSize

// PageRounds is Page and returns how many reads had to wait for one before.
func (s *Store) PageRounds(ctx context.Context, q wire.PageQuery, from wire.Seq) (wire.Page, int, error) {
	r := s.reader(q.Conversation, q.AtLeast > 0)
	page, err := s.page(ctx, r, q, max(from, 1))
	return page, r.rounds, err
}

// Stream returns the stream sequence of the tail.
func (t Tail) Stream() uint64 { return t.stream }

// Settled reports whether nothing is left to record for the tail.
func (t Tail) Settled() bool { return t.open == nil }

// HeaderBytes returns how many bytes the headers of the tail take, by name.
func (t Tail) HeaderBytes() map[string]int {
	sizes := map[string]int{}
	for name, values := range ownHeader(t.newest.header) {
		sizes[name] = len(name) + len(": ") + len(values[0]) + len("\r\n")
	}
	return sizes
}
