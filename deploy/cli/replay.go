package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// replay has a function get entries again.
func replay(ctx context.Context, c call) error {
	config := struct {
		operator
		Since string `conf:"since" help:"from when on: a time such as 2026-11-20T15:04:05Z, or how long ago, such as 2h30m"`
	}{operator: newOperator()}
	name, err := c.loadFunction("functions replay", &config)
	if err != nil {
		return err
	}
	since, err := moment(config.Since, time.Now())
	if err != nil {
		return &process.UsageError{Err: fmt.Errorf("--since: %w", err)}
	}
	nc, ctx, done, err := config.connect(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	if err := jetstream.Rewind(ctx, nc, name, since); err != nil {
		return err
	}
	waiting, err := jetstream.Backlog(ctx, nc, name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s gets every entry again that was stored since %s; %d wait.\n", name, since.UTC().Format(time.RFC3339), waiting)
	return err
}

// moment reads a time, or how long ago it was.
func moment(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-11-20T15:04:05Z nor a duration such as 2h30m", text)
	}
	return at, nil
}

// dead lists what a function could not handle, and does what is asked about it.
func dead(ctx context.Context, c call) error {
	config := struct {
		operator
		Revive []string `conf:"revive" help:"numbers of what is to be handed over again, with commas, or all"`
		Forget []string `conf:"forget" help:"numbers of what is to be forgotten, with commas, or all"`
		Limit  int      `conf:"limit" help:"how many are looked at, the oldest first"`
	}{operator: newOperator(), Limit: 100}
	name, err := c.loadFunction("functions dead", &config)
	if err != nil {
		return err
	}
	if config.Limit < 1 {
		return &process.UsageError{Err: errors.New("--limit must be 1 or more")}
	}
	nc, ctx, done, err := config.connect(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		return err
	}
	defer store.Close()
	letters, more, err := store.DeadLetters(ctx, name, 0, config.Limit)
	switch {
	case err != nil:
		return err
	case len(config.Revive) > 0:
		return eachLetter(c, config.Revive, letters, "handed over again", func(seq uint64) error { return store.Revive(ctx, name, seq) })
	case len(config.Forget) > 0:
		return eachLetter(c, config.Forget, letters, "forgotten", func(seq uint64) error { return store.ForgetDead(ctx, name, seq) })
	}
	return listLetters(c, name, letters, more)
}

// eachLetter does something with the letters of given numbers, or with all.
func eachLetter(c call, numbers []string, letters []jetstream.DeadLetter, what string, do func(sequence uint64) error) error {
	var chosen []uint64
	for _, number := range numbers {
		if number == "all" {
			for _, letter := range letters {
				chosen = append(chosen, letter.Sequence)
			}
			continue
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return &process.UsageError{Err: fmt.Errorf("%q is neither a number of the list nor all", number)}
		}
		chosen = append(chosen, n)
	}
	for i, n := range chosen {
		if err := do(n); err != nil {
			return fmt.Errorf("after %d of %d: %w", i, len(chosen), err)
		}
	}
	_, err := fmt.Fprintf(c.out, "%d %s.\n", len(chosen), what)
	return err
}

func listLetters(c call, name subjects.Function, letters []jetstream.DeadLetter, more bool) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintf(c.out, "There is nothing that %s could not handle.\n", name)
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tGIVEN UP\tTRIES\tWHAT\tWHY")
	for _, letter := range letters {
		what := "?"
		if letter.Entry != nil {
			what = fmt.Sprintf("%s %d of %s", letter.Entry.Kind, letter.Entry.Seq, letter.Entry.Conversation)
		} else if letter.Job != nil {
			what = fmt.Sprintf("job %s %s", letter.Job.Method, letter.Job.ID)
		}
		why := strings.Map(printable, string(letter.Code)+": "+letter.Message)
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\n", letter.Sequence, letter.At, letter.Attempts, what, why)
	}
	if more {
		fmt.Fprintln(w, "…")
	}
	return w.Flush()
}

// printable takes what would move the cursor or break the table out of an error's text.
func printable(r rune) rune {
	if !strconv.IsPrint(r) {
		return ' '
	}
	return r
}
