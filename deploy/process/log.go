package process

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// The keys of log attributes. A program that logs under other keys makes operators search twice.
const (
	KeyFunction = "function" // the function that works on the call
	KeyConv     = "conv"     // the conversation
	KeyUser     = "user"
	KeySession  = "session"
	KeySeq      = "seq"  // an entry's number in its conversation
	KeyCode     = "code" // of the closed set of error codes
	KeyErr      = "err"
)

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  string `conf:"log" help:"least level that is logged: debug, info, warn or error"`
	Format string `conf:"log-format" help:"text or json; empty = text on a terminal, json elsewhere"`
}

// Logger returns a logger that writes to w, or an error that names the setting that is wrong.
func (c LogConfig) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmp.Or(c.Level, "info"))); err != nil {
		return nil, fmt.Errorf("log %q is none of debug, info, warn, error", c.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch format := c.Format; {
	case format == "json", format == "" && !isTerminal(w):
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case format == "text", format == "":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("log-format %q is neither text nor json", c.Format)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
