package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept of a child's output. A longer line is cut.
const (
	maxLine   = 16 << 10
	maxReason = 500
)

// lines passes what a child writes on to the supervisor's log, line by line. Lines in the form of package slog keep their level, time and attributes; others
// are for information. The newest words of a child are kept: they say why it ended.
type lines struct {
	log      *slog.Logger
	function string

	mu      sync.Mutex
	partial []byte
	cut     bool   // the rest of this line is dropped
	last    string // the newest line that says what went wrong
	fatal   bool   // last is the first line of a panic, which no later one replaces
}

// Write takes output in pieces of any size; it never fails.
func (l *lines) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := data; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !l.cut {
			l.partial = append(l.partial, line[:min(len(line), maxLine-len(l.partial))]...)
			l.cut = len(l.partial) == maxLine
		}
		if whole {
			l.line()
		}
		rest = after
	}
	return len(data), nil
}

// flush passes a last line on that has no end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line()
}

// reason returns the newest words that say what went wrong, in at most maxReason bytes; "" where there are none.
func (l *lines) reason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *lines) line() {
	line := bytes.TrimSpace(l.partial)
	l.partial, l.cut = l.partial[:0], false
	if len(line) == 0 {
		return
	}
	if record, ok := parseRecord(line); ok {
		if record.level >= slog.LevelError {
			l.remember(strings.TrimSpace(record.message+": "+record.err), false)
		}
		l.pass(record)
		return
	}
	text := strings.ToValidUTF8(string(line), "�")
	l.remember(text, strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:"))
	l.log.Info("output of an instance", "function", l.function, "text", text)
}

// remember keeps the line as the reason of an end.
func (l *lines) remember(text string, fatal bool) {
	if l.fatal || strings.HasPrefix(text, "goroutine ") {
		return
	}
	l.last, l.fatal = strings.ToValidUTF8(text[:min(len(text), maxReason)], ""), fatal
}

// record is a line that package slog wrote as JSON.
type record struct {
	time    time.Time
	level   slog.Level
	message string
	err     string
	attrs   map[string]any
}

func parseRecord(line []byte) (record, bool) {
	var r record
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // an integer stays as it was written
	if line[0] != '{' || decoder.Decode(&r.attrs) != nil {
		return record{}, false
	}
	level, _ := r.attrs[slog.LevelKey].(string)
	if r.message, _ = r.attrs[slog.MessageKey].(string); r.message == "" || r.level.UnmarshalText([]byte(level)) != nil {
		return record{}, false
	}
	at, _ := r.attrs[slog.TimeKey].(string)
	r.time, _ = time.Parse(time.RFC3339Nano, at)
	r.err, _ = r.attrs["err"].(string)
	if took, ok := r.attrs["took"].(json.Number); ok {
		if n, err := took.Int64(); err == nil { // package slog writes durations as nanoseconds
			r.attrs["took"] = time.Duration(n)
		}
	}
	for _, key := range []string{slog.LevelKey, slog.MessageKey, slog.TimeKey} {
		delete(r.attrs, key)
	}
	return r, true
}

func (l *lines) pass(r record) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, r.level) {
		return
	}
	if r.time.IsZero() {
		r.time = time.Now()
	}
	out := slog.NewRecord(r.time, r.level, r.message, 0)
	name, _ := r.attrs["function"].(string)
	out.AddAttrs(slog.String("function", cmp.Or(name, l.function)))
	delete(r.attrs, "function")
	for _, key := range slices.Sorted(maps.Keys(r.attrs)) {
		out.AddAttrs(slog.Any(key, r.attrs[key]))
	}
	_ = l.log.Handler().Handle(ctx, out) // there is nowhere to say that a log cannot be written
}
