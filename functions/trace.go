package functions

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// Trace is a place in a distributed trace, as the W3C trace context has it. The zero value is no trace.
type Trace struct {
	ID    [16]byte
	Span  [8]byte
	Flags byte
}

// NewTrace begins a trace with random ids. It is not marked as sampled: that is decided by whoever is outside.
func NewTrace() Trace {
	var t Trace
	binary.LittleEndian.PutUint64(t.ID[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(t.ID[8:], rand.Uint64()|1) // never all zero
	return t.Child()
}

// Child returns a new span of the same trace.
func (t Trace) Child() Trace {
	binary.LittleEndian.PutUint64(t.Span[:], rand.Uint64()|1)
	return t
}

// String returns the value of a traceparent header.
func (t Trace) String() string {
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:35], t.ID[:])
	b[35] = '-'
	hex.Encode(b[36:52], t.Span[:])
	b[52] = '-'
	hex.Encode(b[53:55], []byte{t.Flags})
	return string(b[:])
}

// TraceID returns the id of the whole trace in hexadecimal.
func (t Trace) TraceID() string { return hex.EncodeToString(t.ID[:]) }

// ParseTraceparent reads a traceparent header; ok is false where it is absent or not valid, and whoever reads it begins a new trace then.
func ParseTraceparent(s string) (t Trace, ok bool) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return Trace{}, false
	}
	if s[:2] == "00" && len(s) != 55 || len(s) > 55 && s[55] != '-' {
		return Trace{}, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		into []byte
		from string
	}{{version[:], s[:2]}, {t.ID[:], s[3:35]}, {t.Span[:], s[36:52]}, {flags[:], s[53:55]}} {
		if !decodeHex(part.into, part.from) {
			return Trace{}, false
		}
	}
	t.Flags = flags[0]
	if t.ID == [16]byte{} || t.Span == [8]byte{} {
		return Trace{}, false
	}
	return t, true
}

// decodeHex reads lower-case hexadecimal only, as the standard demands.
func decodeHex(into []byte, from string) bool {
	for i := range len(from) {
		if c := from[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(into, []byte(from))
	return err == nil
}

type traceKey struct{}

// WithTrace returns a context that carries the trace; calls made with it continue the trace.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceOf returns the trace that ctx carries; ok is false where there is none.
func TraceOf(ctx context.Context) (t Trace, ok bool) {
	t, ok = ctx.Value(traceKey{}).(Trace)
	return t, ok
}
