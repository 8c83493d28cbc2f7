package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/check"
	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/faultlab/lab"
	"github.com/confab-im/confab/deploy/process"
)

// faultlab runs this program under faults and judges what its clients saw.
func faultlab(ctx context.Context, c call) error {
	config := struct {
		Out    string        `conf:"out" help:"the directory for the history, the verdict and the logs; it must be new"`
		Seed   int           `conf:"seed" help:"of all chance: the same seed gives the same faults"`
		Lasts  time.Duration `conf:"lasts" help:"how long faults are injected"`
		People int           `conf:"people" help:"users who chat, on two devices each; at least 3"`
		Faults []string      `conf:"faults" help:"names of faults; empty = all"`
	}{Seed: 1, Lasts: time.Minute, People: 4}
	rest, err := c.load("faultlab", &config)
	if err != nil {
		return err
	}
	if err := noArguments("faultlab", rest); err != nil {
		return err
	}
	if config.Out == "" {
		return &process.UsageError{Err: fmt.Errorf("--out must name a directory that does not exist yet")}
	}
	if err := os.Mkdir(config.Out, 0o700); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var written bytes.Buffer
	log, err := os.Create(filepath.Join(config.Out, "log.txt"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	fmt.Fprintf(c.note, "faults for %v; the log is %s\n", config.Lasts, log.Name())
	run := lab.Run(ctx, lab.Config{
		Program: program, Data: filepath.Join(config.Out, "data"), Seed: uint64(config.Seed), Lasts: config.Lasts,
		People: config.People, Faults: config.Faults, Log: log,
	}, &written)
	if err := os.WriteFile(filepath.Join(config.Out, "history.jsonl"), written.Bytes(), 0o600); err != nil {
		return err
	}
	if run != nil {
		return fmt.Errorf("the run could not be carried out: %w", run)
	}
	records, err := history.Read(&written)
	if err != nil {
		return err
	}
	verdict := check.History(records, check.Bounds{})
	if err := writeVerdict(config.Out, verdict, "confab faultlab "+strings.Join(c.args, " ")); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s: %d acknowledged, %d faults, %d broken promises; see %s\n",
		verdict.Result, verdict.Figures.Acknowledged, verdict.Figures.Injected(), len(verdict.Findings), filepath.Join(config.Out, "verdict.html"))
	if verdict.Result != check.Pass {
		return fmt.Errorf("the verdict is %s", verdict.Result)
	}
	return nil
}

// writeVerdict writes a verdict for programs and for people.
func writeVerdict(dir string, verdict check.Verdict, what string) error {
	data, err := json.MarshalIndent(verdict, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "verdict.json"), append(data, '\n'), 0o600); err != nil {
		return err
	}
	var page bytes.Buffer
	if err := verdict.WritePage(&page, what); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "verdict.html"), page.Bytes(), 0o600)
}
