// Package bench measures confab: it starts the real program as a process of its own, speaks the public protocol over sockets as clients do, and beside every figure measures a floor, the least that does
// the same work, in turn with it. It judges no speed; it fails only where something was lost or refused.
package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const onLinux = runtime.GOOS == "linux"

// How messages are synced before they are acknowledged.
const (
	SyncAlways  = "always"  // each before its acknowledgement
	SyncDefault = "default" // when the server finds time: a power cut may lose what was acknowledged
)

// Config says what is measured. Command has no default.
type Config struct {
	Command       []string      // the program confab and what stands before its commands
	Scenarios     []string      // names; empty = all
	URL           string        // of a confab that runs already, such as https://chat.example; empty = a child
	Tokens        []string      // of people of the confab at URL; empty = people sign up
	Invite        string        // with which people sign up at URL
	Sync          string        // of the child and of the floors; empty = SyncAlways
	Lasts         time.Duration // of one measurement; 0 = 5 s
	People        int           // 0 = as each scenario presets
	Rounds        int           // 0 = 3
	Seed          uint64        // of all chance
	Bytes         int           // of the text of a message; 0 = 100
	Entries       int           // that history pages are read of; 0 = 100,000
	Conversations int           // of the largest store whose size is compared; 0 = 1,000,000
	Ping          time.Duration // between pings of the child; 0 = as it presets
	Dir           string        // where the stores of children are made; empty = the directory for temporary files
	Profile       string        // the directory for profiles of the child in every measurement; empty = none
	Version       string        // of the program
	Line          string        // the command line, for the report
	Progress      func(string)  // what is being done; may be nil
}

// ErrLost is wrapped by the error of Run when something that was acknowledged was not delivered, or something was refused.
var ErrLost = errors.New("something was lost or refused")

// Validate returns an error that names the first field that is wrong, and fills in defaults.
func (c *Config) Validate() error {
	c.Sync, c.Lasts, c.Rounds = cmp.Or(c.Sync, SyncAlways), cmp.Or(c.Lasts, 5*time.Second), cmp.Or(c.Rounds, 3)
	c.Conversations = cmp.Or(c.Conversations, scaleConversations)
	c.Bytes, c.Entries, c.URL = cmp.Or(c.Bytes, 100), cmp.Or(c.Entries, 100_000), strings.TrimSuffix(c.URL, "/")
	switch {
	case c.Sync != SyncAlways && c.Sync != SyncDefault:
		return fmt.Errorf("sync %q is neither %s nor %s", c.Sync, SyncAlways, SyncDefault)
	case c.Lasts < 100*time.Millisecond || c.Rounds < 1 || c.People < 0 || c.Bytes < 0 || c.Bytes > 8<<10 || c.Entries < 1 || c.Conversations < 1 || c.Ping < 0:
		return errors.New("lasts must be at least 100ms, rounds, entries and conversations at least 1, people and ping not negative, bytes from 0 to 8192")
	case c.URL != "" && !strings.HasPrefix(c.URL, "http://") && !strings.HasPrefix(c.URL, "https://"):
		return fmt.Errorf("url %q begins with neither http:// nor https://", c.URL)
	case c.URL != "" && c.Profile != "":
		return errors.New("profiles are of a confab that is started here, and url names another")
	case c.URL == "" && (len(c.Tokens) > 0 || c.Invite != ""):
		return errors.New("tokens and an invite are of a confab that runs already; give its url")
	}
	for _, name := range c.Scenarios {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("%q is no scenario; these are: %s", name, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// scenario is one kind of measurement.
type scenario struct {
	name, about string
	run         func(ctx context.Context, r *run) error
}

var scenarios = []scenario{
	{"direct", "durable messages from person to person; the floor is a bare publish to as many streams with the same sync", direct},
	{"fan-out", "stored messages to groups of 10, 100 and 1,000 members; the floor is a bare WebSocket relay that stores nothing", fanOut},
	{"idle", "connections at rest, with a group and presence; the floor is a bare WebSocket server with a goroutine for each", idle},
	{"storm", "people who connect all at once, and who come back after a restart; the floor upgrades and answers one message, and checks no token", storm},
	{"history", "pages of old messages, and posts beside those who read them; the floor reads one record of the size of a page by its place in a bare stream", history},
	{"heads", "the list of conversations of somebody who has many; the floor reads as many newest records of bare streams", heads},
	{"scale", "whether a message costs the same with more conversations stored and more people connected; the floor publishes to bare streams of as many subjects", growth},
	{"mixed", "a day in small: messages, marks, typing, pages, presence, devices that come and go; the floor publishes as many messages", mixed},
}

// Names returns the names of the scenarios, in the order in which they run.
func Names() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// run is one scenario at work.
type run struct {
	config  Config
	report  *ScenarioReport
	random  *mathrand.Rand
	dir     string // for stores; removed in the end
	mark    string // in names, so that runs against one confab do not meet
	made    int
	extra   []string // of the environment of children
	loops   *loops   // nil = each socket has a goroutine of its own
	dialled atomic.Uint32
	steps   atomic.Int64
	doing   atomic.Pointer[string] // what was said last; nil = nothing
	shots   atomic.Int32           // profiles taken
}

func (r *run) syncAlways() bool { return r.config.Sync == SyncAlways }

// people returns how many people a scenario has that presets n: at least least, and a multiple of it.
func (r *run) people(n, least int) int {
	n = max(cmp.Or(r.config.People, n), least)
	return n - n%least
}

// say tells what is being done.
func (r *run) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.doing.Store(&text)
	if r.config.Progress != nil {
		r.config.Progress(r.report.Name + ": " + text)
	}
}

// step tells what is being done once in a hundred times.
func (r *run) step(text string) {
	if r.steps.Add(1)%100 == 0 {
		r.say("%s", text)
	}
}

// Run measures and returns what it found. The error wraps ErrLost where something was lost or refused; the report is then complete all the same.
func Run(ctx context.Context, config Config) (Report, error) {
	if err := config.Validate(); err != nil {
		return Report{}, err
	}
	if config.Profile != "" {
		if err := os.MkdirAll(config.Profile, 0o700); err != nil {
			return Report{}, err
		}
	}
	dir, err := os.MkdirTemp(config.Dir, "confab-bench-")
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	report := Report{At: time.Now(), Version: config.Version, Machine: thisMachine(), Settings: Settings{
		URL: config.URL, Sync: config.Sync, Lasts: config.Lasts.String(), Rounds: config.Rounds, Seed: config.Seed, Bytes: config.Bytes, Command: config.Line,
	}}
	if report.Machine.SyncMS, err = syncTime(dir); err != nil {
		return report, err
	}
	var broken []string
	for _, s := range scenarios {
		if len(config.Scenarios) > 0 && !slices.Contains(config.Scenarios, s.name) {
			continue
		}
		found, err := runOne(ctx, config, s, dir)
		if err != nil {
			return report, fmt.Errorf("%s: %w", s.name, err)
		}
		report.Scenarios = append(report.Scenarios, found)
		if found.Lost+found.Refused > 0 {
			broken = append(broken, fmt.Sprintf("%s lost %d, refused %d", s.name, found.Lost, found.Refused))
		}
	}
	if broken != nil {
		return report, fmt.Errorf("%w: %s", ErrLost, strings.Join(broken, "; "))
	}
	return report, nil
}

func runOne(ctx context.Context, config Config, s scenario, dir string) (ScenarioReport, error) {
	report := ScenarioReport{Name: s.name, About: s.about}
	dir, err := os.MkdirTemp(dir, s.name)
	if err != nil {
		return report, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	begun := time.Now()
	r := &run{config: config, report: &report, dir: dir, random: mathrand.New(mathrand.NewPCG(config.Seed, 0)), mark: strings.ToLower(rand.Text()[:6])}
	if r.loops, err = newLoops(); err != nil {
		return report, err
	}
	if r.loops != nil {
		defer r.loops.close()
	}
	err = s.run(ctx, r)
	report.Seconds = time.Since(begun).Seconds()
	return report, errors.Join(err, ctx.Err())
}

// syncTime returns the median time, in milliseconds, to append 4 KiB to a file in a directory and sync it.
func syncTime(dir string) (float64, error) {
	file, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	var h Histogram
	for range 30 {
		begun := time.Now()
		if _, err := file.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		h.Record(time.Since(begun))
	}
	return milliseconds(h.Quantile(.5)), nil
}

// used adds what the processes of a scenario have used.
func (r *run) used(processes ...*process) {
	for _, p := range processes {
		if p == nil {
			continue
		}
		spent, err := processorTime(p.pid())
		if err != nil {
			continue
		}
		memory, _ := memoryOf(p.pid()) // nothing where it is unknown
		r.report.Processes = append(r.report.Processes, ProcessUsed{Name: p.name, CPUSeconds: spent.Seconds(), Memory: memory})
	}
	if spent, err := processorTime(os.Getpid()); err == nil {
		memory, _ := memoryOf(os.Getpid())
		r.report.Processes = append(r.report.Processes, ProcessUsed{Name: "generator", CPUSeconds: spent.Seconds(), Memory: memory})
	}
}
