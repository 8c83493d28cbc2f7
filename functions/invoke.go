package functions

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Invoke calls a method of another function with in as the data, and decodes the answer. The identity of from, which may be nil, and the deadline
// and trace of ctx go with it. The error is a *wire.Error as Caller.Call returns it, or Internal for an answer that cannot be read.
func Invoke[In, Out any](ctx context.Context, c *Caller, from *Call, f subjects.Function, m subjects.Method, in In) (Out, error) {
	var out Out
	data, err := encode(in)
	if err != nil {
		return out, err
	}
	var header nats.Header
	if from != nil {
		header = from.Header()
	}
	answer, err := c.Call(ctx, f, m, header, data)
	if err != nil {
		return out, err
	}
	if err := wire.Unmarshal(answer, &out); err != nil {
		c.log.ErrorContext(ctx, "answer cannot be read", "function", string(f), "method", string(m), "err", err)
		return out, wire.Errorf(wire.Internal, internalText)
	}
	return out, nil
}
