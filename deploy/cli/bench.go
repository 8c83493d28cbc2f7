package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/confab-im/confab/deploy/bench"
	"github.com/confab-im/confab/deploy/bench/floor"
	"github.com/confab-im/confab/deploy/process"
)

// measure measures this program, or a confab elsewhere, and writes what it found.
func measure(ctx context.Context, c call) error {
	line := strings.TrimSpace("confab bench " + strings.Join(c.args, " "))
	if len(c.args) > 0 && c.args[0] == "floor" {
		c.args = c.args[1:]
		return bareFloor(ctx, c)
	}
	var names []string
	for len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		names, c.args = append(names, c.args[0]), c.args[1:]
	}
	config := struct {
		URL           string        `conf:"url" help:"a confab that runs already; empty = one is started on a directory of its own and without rate limits"`
		Token         []string      `conf:"token" help:"tokens of people at that url; empty = people sign up. May be given more than once"`
		Invite        string        `conf:"invite" help:"with which people sign up at that url"`
		Sync          string        `conf:"sync" help:"always (each message before it is acknowledged) or default (a power cut may lose acknowledged messages)"`
		Lasts         time.Duration `conf:"lasts" help:"how long one measurement lasts"`
		Rounds        int           `conf:"rounds" help:"how often each figure is measured, in turn with its floor; the median counts"`
		People        int           `conf:"people" help:"how many people, a connection each; 0 = as the scenario presets"`
		Entries       int           `conf:"entries" help:"stored messages that history is read of"`
		Conversations int           `conf:"conversations" help:"of the largest store whose cost scale compares with smaller ones; 0 = a million"`
		Bytes         int           `conf:"bytes" help:"length of the text of a message"`
		Seed          int           `conf:"seed" help:"of all chance"`
		Dir           string        `conf:"dir" help:"where stores are made; empty = the directory for temporary files, which must be on the disk to be measured"`
		Profile       string        `conf:"profile" help:"write profiles of the processor and the memory of the confab that is started here into this directory, of every measurement; the figures are then those of a profiled program"`
		JSON          string        `conf:"json" help:"write the report to this file"`
		Plot          string        `conf:"plot" help:"draw latencies over rates into this file, as SVG"`
	}{Sync: bench.SyncAlways, Lasts: 5 * time.Second, Rounds: 3, Entries: 100_000, Bytes: 100, Seed: 1}
	rest, err := c.load("bench", &config)
	if errors.Is(err, process.ErrHelp) {
		fmt.Fprintf(c.out, "\nScenarios, named before the flags; none = all: %s\n", strings.Join(bench.Names(), ", "))
	}
	if err == nil {
		err = noArguments("bench", rest)
	}
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	progress, clear := progressOn(c.note)
	settings := bench.Config{
		Command: []string{program}, Scenarios: names, URL: config.URL, Tokens: config.Token, Invite: config.Invite, Sync: config.Sync, Lasts: config.Lasts, Rounds: config.Rounds,
		People: config.People, Entries: config.Entries, Conversations: config.Conversations, Bytes: config.Bytes, Seed: uint64(config.Seed), Dir: config.Dir, Profile: config.Profile, Version: process.Version(), Line: line, Progress: progress,
	}
	if err := settings.Validate(); err != nil {
		return &process.UsageError{Err: err}
	}
	report, err := bench.Run(ctx, settings)
	clear()
	if err != nil && !errors.Is(err, bench.ErrLost) {
		return err
	}
	return errors.Join(err, report.WriteTable(c.out), writeFile(config.JSON, report.WriteJSON), writeFile(config.Plot, report.WritePlot))
}

// writeFile has a file written, unless its path is empty.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// linesApart is the least time between two lines of progress where each stays.
const linesApart = time.Second

// progressOn returns what shows progress, and what clears it: one line that changes on a terminal, a line for what is new elsewhere.
func progressOn(w io.Writer) (show func(string), clear func()) {
	begun := time.Now()
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		show = func(text string) {
			fmt.Fprintf(file, "\r\x1b[K%4.0fs  %s", time.Since(begun).Seconds(), text)
		}
		return show, func() { fmt.Fprint(file, "\r\x1b[K") }
	}
	var mu sync.Mutex // guards what follows, and writing
	var last string
	var at time.Time
	show = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if text == last || time.Since(at) < linesApart {
			return
		}
		last, at = text, time.Now()
		fmt.Fprintf(w, "%4.0fs  %s\n", time.Since(begun).Seconds(), text)
	}
	return show, func() {}
}

// bareFloor runs one of the programs that confab is measured against.
func bareFloor(ctx context.Context, c call) error {
	config := struct {
		Data string `conf:"data" help:"the directory of the bare server's streams"`
		Sync string `conf:"sync" help:"always or default, as for confab"`
	}{Sync: bench.SyncAlways}
	if len(c.args) == 0 {
		return &process.UsageError{Err: errors.New("confab bench floor needs one of: streams, relay")}
	}
	name := c.args[0]
	c.args = c.args[1:]
	rest, err := c.load("bench floor", &config)
	if err == nil {
		err = noArguments("bench floor "+name, rest)
	}
	if err != nil {
		return err
	}
	switch name {
	case "streams":
		return floor.Streams(ctx, config.Data, config.Sync == bench.SyncAlways, c.out)
	case "relay":
		return floor.Relay(ctx, c.out)
	}
	return &process.UsageError{Err: fmt.Errorf("%q is no floor; these are: streams, relay", name)}
}
