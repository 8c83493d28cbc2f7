package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/subjects/wire"
)

// explain prints the table of codes, or all that is known of one.
func explain(_ context.Context, c call) error {
	if len(c.args) == 0 {
		for _, info := range wire.Codes {
			fmt.Fprintf(c.out, "%-22s %d  %s\n", info.Code, info.Status, info.Meaning)
		}
		fmt.Fprintln(c.out)
		for _, info := range wire.CloseCodes {
			fmt.Fprintf(c.out, "%-22d      %s\n", info.Code, info.Meaning)
		}
		return nil
	}
	for _, name := range c.args {
		if !explainOne(c.out, name) {
			return &process.UsageError{Err: fmt.Errorf("%q is no error code of confab; confab errors lists them all", name)}
		}
	}
	return nil
}

func explainOne(w io.Writer, name string) bool {
	for _, info := range wire.Codes {
		if string(info.Code) == name {
			fmt.Fprintf(w, "%s (HTTP %d)\n  What happened: %s\n  What to do:    %s\n", info.Code, info.Status, info.Meaning, info.Remedy)
			if info.Unknown {
				fmt.Fprintln(w, "  Outcome:       unknown; the call may have taken effect.")
			} else {
				fmt.Fprintln(w, "  Outcome:       definite; this try had no effect and never will.")
			}
			return true
		}
	}
	for _, info := range wire.CloseCodes {
		if fmt.Sprint(int(info.Code)) == name {
			again := "Do not reconnect without a change."
			if info.Code.Reconnect() {
				again = "Reconnect, with full jitter."
			}
			fmt.Fprintf(w, "%d (WebSocket close)\n  What happened: %s\n  What to do:    %s\n", info.Code, info.Meaning, again)
			return true
		}
	}
	return false
}

// version prints the version of this build.
func version(_ context.Context, c call) error {
	_, err := fmt.Fprintln(c.out, "confab", process.Version())
	return err
}
