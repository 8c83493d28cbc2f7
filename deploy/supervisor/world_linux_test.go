package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// patience bounds every wait: far more than a slow machine needs.
const patience = 20 * time.Second

// entry is the function echo, run by the test binary.
func entry(url, ran string, environment ...string) Entry {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Entry{
		Supervised: manifest.Supervised{
			Function: "echo", Scale: manifest.Scale{Min: 0, Max: 3, Wake: 1}, Concurrency: 2, Drain: 10 * time.Second, Memory: 100 << 20, CPU: 100,
		},
		Command: []string{program},
		Environment: append([]string{
			roleVariable + "=function", "CONFAB_NATS_URL=" + url, "CONFAB_LOG_FORMAT=json", "TEST_RAN=" + ran,
		}, environment...),
	}
}

// world is a supervisor with the function echo, and a caller.
type world struct {
	t      *testing.T
	server *jetstreamtest.Server
	nc     *nats.Conn
	caller *functions.Caller
	ran    string
	log    *buffer
	stop   context.CancelFunc
	ended  chan error
}

// newWorld starts a supervisor; change may change its configuration and entry first.
func newWorld(t *testing.T, change func(*Config, *Entry)) *world {
	t.Helper()
	server := jetstreamtest.Start(t)
	w := &world{
		t: t, server: server, nc: server.Connect(t), ran: filepath.Join(t.TempDir(), "ran"), log: &buffer{}, ended: make(chan error, 1),
	}
	w.caller = functionstest.Caller(t, w.nc)
	config := Config{
		NATS: server.Connect(t), IdleTimeout: time.Minute,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	e := entry(server.URL, w.ran)
	if change != nil {
		change(&config, &e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	go func() { w.ended <- Run(ctx, config, []Entry{e}) }()
	t.Cleanup(func() {
		w.end()
		if t.Failed() {
			t.Logf("the supervisor wrote:\n%s", w.log.String())
		}
	})
	return w
}

// end stops the supervisor and waits for its end; it may be called more than once.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	select {
	case err := <-w.ended:
		w.ended <- nil
		if err != nil {
			w.t.Errorf("the supervisor ended with %v", err)
		}
	case <-time.After(patience):
		w.t.Errorf("the supervisor does not end")
	}
}

// call makes a call that must be answered.
func (w *world) call(in work) answer {
	w.t.Helper()
	got, err := w.try(in)
	if err != nil {
		w.t.Fatalf("call %d: %v", in.Number, err)
	}
	return got
}

func (w *world) try(in work) (got answer, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	body, _ := json.Marshal(in)
	data, err := w.caller.Call(ctx, "echo", "say", nil, body)
	if err != nil {
		return answer{}, err
	}
	return got, json.Unmarshal(data, &got)
}

// times returns how often each number was worked on.
func (w *world) times() map[string]int {
	w.t.Helper()
	data, err := os.ReadFile(w.ran)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	all := map[string]int{}
	for _, number := range strings.Fields(string(data)) {
		all[number]++
	}
	return all
}

// says waits until the supervisor's log holds a text for the n-th time.
func (w *world) says(text string, n int) {
	w.t.Helper()
	eventually(w.t, "the log holds "+text, func() bool { return strings.Count(w.log.String(), text) >= n })
}

// broken returns the next word that the function does not start.
func (w *world) broken(sub *nats.Subscription) wire.Broken {
	w.t.Helper()
	msg, err := sub.NextMsg(patience)
	if err != nil {
		w.t.Fatalf("nobody says that the function is broken: %v", err)
	}
	var b wire.Broken
	if err := json.Unmarshal(msg.Data, &b); err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) hear(verb subjects.Verb) *nats.Subscription {
	w.t.Helper()
	sub, err := w.nc.SubscribeSync(subjects.Scale("echo", verb))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
	return sub
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !is(); {
		if time.Now().After(late) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lives reports whether a process runs; one that has ended may wait for its parent for some time.
func lives(pid int) bool {
	state, _ := stat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return state != "" && state != "Z"
}

// stat returns the state of a process, "" where there is none, and its parent.
func stat(path string) (state, parent string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", ""
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name in parentheses may hold anything
	if fields := strings.Fields(rest); len(fields) > 1 {
		return fields[0], fields[1]
	}
	return "", ""
}

// childrenOf returns the processes that a process has started and that run.
func childrenOf(pid int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if state, parent := stat(path); state != "Z" && parent == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, child)
		}
	}
	return pids
}

// buffer is a log in memory.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(data)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}
