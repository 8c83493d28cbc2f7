package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
)

// The edge looks at the newest sequence of streams, which it may not read, so that functions are asked only where something was stored: what
// sleeps is left asleep while nothing happens, and is woken when something did.

// tail returns the sequence of the newest message of a stream; 0 where there never was one.
func (e *Edge) tail(ctx context.Context, stream string) (uint64, error) {
	answer, err := e.cfg.NATS.RequestWithContext(ctx, subjects.StreamInfo(stream), nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the tail of %s: %w", stream, err)
	}
	var info struct {
		State *struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return 0, fmt.Errorf("read the tail of %s: %w", stream, err)
	}
	if info.State == nil {
		return 0, fmt.Errorf("read the tail of %s: %w", stream, errNoStream)
	}
	return info.State.Last, nil
}

// errNoStream says that the store knows no such stream, or has nobody who leads it at the moment.
var errNoStream = errors.New("no such stream")

// tails returns the tails of all partitions.
func (e *Edge) tails(ctx context.Context) ([]uint64, error) {
	tails := make([]uint64, subjects.Partitions)
	for p := range tails {
		var err error
		if tails[p], err = e.tail(ctx, subjects.MessagesStream(p)); err != nil {
			return nil, err
		}
	}
	return tails, nil
}
