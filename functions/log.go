package functions

import (
	"context"
	"log/slog"
)

// LogHandler returns a handler that adds to each record what its context knows of the call: method, user, session and trace. So a line
// can be followed from edge to store without every function naming them.
func LogHandler(h slog.Handler) slog.Handler {
	if _, already := h.(logHandler); already {
		return h
	}
	return logHandler{h}
}

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if call := CallOf(ctx); call != nil {
		r.AddAttrs(slog.String("method", string(call.Method)))
		if call.User != "" {
			r.AddAttrs(slog.String("user", string(call.User)))
		}
		if call.Session != "" {
			r.AddAttrs(slog.String("session", call.Session))
		}
	}
	if t, ok := TraceOf(ctx); ok {
		r.AddAttrs(slog.String("trace", t.TraceID()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
