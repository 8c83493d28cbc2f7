package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/check"
	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/faultlab/lab"
)

// faultSettings is the configuration of confab faultlab.
type faultSettings struct {
	Out      string        `conf:"out" help:"the directory for the history, the verdict and the logs; it must be new"`
	Topology lab.Topology  `conf:"topology" help:"one (confab up), processes (a NATS server, two edges and two instances of each function) or cluster (the same with three servers)"`
	Sync     lab.Sync      `conf:"sync" help:"when servers sync what they store: always (before it is acknowledged) or default (some minutes later)"`
	Seed     int           `conf:"seed" help:"of all chance: the same seed gives the same faults"`
	Lasts    time.Duration `conf:"lasts" help:"how long faults are injected, each kind before any comes again"`
	Minutes  int           `conf:"minutes" help:"how many minutes faults are drawn by chance instead; 0 = as lasts says"`
	People   int           `conf:"people" help:"users who chat, on two devices each; at least 3"`
	Faults   []string      `conf:"faults" help:"names of faults; empty = all that the topology can have and that need not be named, none = none"`
	Beside   []string      `conf:"beside" help:"what more people do beside chatting: races, revocations, marks, copies, swamp, diary"`
	Missed   int           `conf:"missed" help:"messages that somebody misses while away, with beside=diary"`
}

// Validate returns an error that names the setting that is wrong.
func (c *faultSettings) Validate() error {
	switch {
	case c.Out == "":
		return errors.New("--out must name a directory that does not exist yet")
	case c.Minutes < 0 || c.Lasts <= 0:
		return errors.New("--lasts and --minutes must not be negative, nor --lasts 0")
	}
	if c.Missed <= 0 {
		return errors.New("--missed must be above 0")
	}
	return lab.Check(c.Topology, c.Sync, c.Faults, c.Beside)
}

// faultlab runs this program under faults and judges what its clients saw.
func faultlab(ctx context.Context, c call) error {
	config := faultSettings{Topology: lab.One, Sync: lab.SyncAlways, Seed: 1, Lasts: time.Minute, People: 4, Missed: 10000, Beside: []string{"races", "revocations", "marks", "copies"}}
	rest, err := c.load("faultlab", &config)
	if err != nil {
		return err
	}
	if err := noArguments("faultlab", rest); err != nil {
		return err
	}
	if config.Minutes > 0 {
		config.Lasts = time.Duration(config.Minutes) * time.Minute
	}
	if err := os.Mkdir(config.Out, 0o700); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var files [2]*os.File
	for i, name := range []string{"log.txt", "history.jsonl"} {
		if files[i], err = os.OpenFile(filepath.Join(config.Out, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		defer func() { _ = files[i].Close() }()
	}
	log, written := files[0], files[1]
	fmt.Fprintf(c.note, "faults for %v; the log is %s\n", config.Lasts, log.Name())
	if err := lab.Run(ctx, lab.Config{
		Program: program, Topology: config.Topology, Data: filepath.Join(config.Out, "data"), Sync: config.Sync, Seed: uint64(config.Seed), Lasts: config.Lasts,
		ByChance: config.Minutes > 0, People: config.People, Faults: config.Faults, Beside: config.Beside, Missed: config.Missed, Log: log,
	}, written); err != nil {
		return fmt.Errorf("the run could not be carried out: %w", err)
	}
	if _, err := written.Seek(0, io.SeekStart); err != nil {
		return err
	}
	records, err := history.Read(written)
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
