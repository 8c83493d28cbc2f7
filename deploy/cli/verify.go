package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/term"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// progressEvery is how often a person who waits is told how far it is.
const progressEvery = 200 * time.Millisecond

// verify looks whether what is stored contradicts itself. It changes nothing, and the rights of the viewer are enough.
func verify(ctx context.Context, c call) error {
	config := struct {
		operator
		Conversation string `conf:"conversation" help:"look at this conversation alone"`
		JSON         bool   `conf:"json" help:"print what was found for programs"`
	}{operator: newOperator()}
	rest, err := c.load("verify", &config)
	if err != nil {
		return err
	}
	if err := noArguments("verify", rest); err != nil {
		return err
	}
	options := jetstream.VerifyOptions{}
	if config.Conversation != "" {
		if options.Conversation, err = subjects.ParseConversation(config.Conversation); err != nil {
			return &process.UsageError{Err: fmt.Errorf("--conversation: %w", err)}
		}
	}
	nc, err := config.connectAs(natsconfig.Viewer, c)
	if err != nil {
		return err
	}
	defer nc.Close()
	audit, err := verifyStore(ctx, c, nc, config.Wait, options)
	if err != nil {
		return err
	}
	return c.printAudit(audit, config.JSON)
}

// verifyStore looks at the store behind a connection, and tells a person on the way how far it is.
func verifyStore(ctx context.Context, c call, nc *nats.Conn, wait time.Duration, options jetstream.VerifyOptions) (jetstream.Audit, error) {
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	store, err := jetstream.Open(within, nc)
	if err != nil {
		return jetstream.Audit{}, err
	}
	defer store.Close()
	line := newProgress(c.note)
	began := time.Now()
	options.Progress = func(entries uint64) {
		line.say("%d entries, %.0f a second", entries, rate(entries, time.Since(began)))
	}
	defer line.done()
	return store.Verify(ctx, options)
}

func rate(n uint64, d time.Duration) float64 { return float64(n) / max(d, time.Millisecond).Seconds() }

// printAudit prints what was found; defects are an error.
func (c call) printAudit(audit jetstream.Audit, asJSON bool) error {
	if asJSON {
		if err := printJSON(c, audit); err != nil {
			return err
		}
	} else {
		for _, f := range audit.Findings {
			fmt.Fprintln(c.out, f)
		}
		if more := audit.Defects + audit.Unfinished - len(audit.Findings); more > 0 {
			fmt.Fprintf(c.out, "and %d more\n", more)
		}
		fmt.Fprintf(c.out, "%d entries of %d conversations, %d memberships, %d marks: %d defects, %d unfinished (%.1f s, %.0f entries a second)\n",
			audit.Entries, audit.Conversations, audit.Memberships, audit.Marks, audit.Defects, audit.Unfinished, audit.Took.Seconds(), rate(audit.Entries, audit.Took))
	}
	if audit.Defects > 0 {
		return fmt.Errorf("what is stored has %d defects", audit.Defects)
	}
	return nil
}

// progress is a line on a terminal that is written over; elsewhere it is nothing.
type progress struct {
	out  io.Writer // nil = nowhere
	last time.Time
}

func newProgress(out io.Writer) *progress {
	if file, ok := out.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
		out = nil
	}
	return &progress{out: out}
}

func (p *progress) say(format string, args ...any) {
	if p.out == nil || time.Since(p.last) < progressEvery {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.out, "\r\x1b[K"+format, args...)
}

// done takes the line away.
func (p *progress) done() {
	if p.out != nil && !p.last.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
