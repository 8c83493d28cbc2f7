package supervisor

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"
)

// outputGrace is how long the output of a child that has ended is waited for: what it started itself may keep it open.
const outputGrace = 500 * time.Millisecond

// child is one process. Its goroutine, run, starts it and waits for its end. The fields below the line belong to the keeper.
type child struct {
	unit  string // what its instance calls itself in every up
	cmd   *exec.Cmd
	stdin io.Closer // held open for as long as the supervisor lives
	lines *lines
	log   *slog.Logger

	mu      sync.Mutex
	running bool
	asked   bool // to end
	killed  bool

	// Below here: the keeper's.
	kept     bool      // it does not leave when it idles
	instance string    // what it calls itself; "" = it was not up yet
	begun    time.Time // when it was asked for
	upSince  time.Time // zero = it was not up yet
	seen     time.Time // of the newest up
	leaving  bool      // it said bye, or was asked to end
	killAt   time.Time // zero = not asked to end
	slow     bool      // killed because it did not come up, or fell silent
}

// newChild prepares a process; nothing is started.
func newChild(e Entry, unit string, environment []string, log *slog.Logger) *child {
	log = log.With("unit", unit)
	c := &child{unit: unit, log: log.With("function", string(e.Function)), lines: &lines{log: log, function: string(e.Function)}, begun: time.Now()}
	c.cmd = exec.Command(e.Command[0], e.Command[1:]...)
	c.cmd.Dir, c.cmd.Env = e.Dir, environment
	c.cmd.Stdout, c.cmd.Stderr = c.lines, c.lines
	c.cmd.WaitDelay = outputGrace
	c.cmd.SysProcAttr = attributes()
	return c
}

// run starts the process through s, and returns when it has ended and its output is read.
func (c *child) run(s *starter) error {
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return err
	}
	c.stdin = stdin
	if err := s.start(c.cmd); err != nil {
		return err
	}
	c.log.Debug("process runs", "pid", c.cmd.Process.Pid, "took", time.Since(c.begun))
	if err := limit(c.cmd.Process); err != nil {
		c.log.Debug("limits of a process not set", "err", err)
	}
	c.mu.Lock()
	c.running = true
	if c.asked {
		terminate(c.cmd.Process, stdin)
	}
	if c.killed {
		kill(c.cmd.Process)
	}
	c.mu.Unlock()
	if err = c.cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		err = nil // what it left behind kept its output open; it ended well
	}
	c.mu.Lock()
	c.running = false
	c.mu.Unlock()
	kill(c.cmd.Process) // what it started itself and left behind
	c.lines.flush()
	return err
}

// ask asks the process to end.
func (c *child) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
	if c.running {
		terminate(c.cmd.Process, c.stdin)
	}
}

// kill ends the process at once.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if c.running {
		kill(c.cmd.Process)
	}
}

// verdict returns why the end of a process is a crash, "" where it is none. One that ends by itself must have been up, and say so by its exit code.
func (c *child) verdict(err error) string {
	text := "it ended"
	if err != nil {
		text = err.Error()
	}
	switch {
	case c.slow:
		return withReason("it did not say that it is up", c.lines.reason())
	case c.leaving, err == nil && !c.upSince.IsZero():
		return ""
	case err == nil:
		return withReason("it ended before it was up", c.lines.reason())
	}
	return withReason(text, c.lines.reason())
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return fmt.Sprintf("%s: %s", text, reason)
}

// environ returns the environment of this process without the settings of confab, which are not those of its children.
func environ() []string {
	var kept []string
	for _, pair := range os.Environ() {
		if !ours(pair) {
			kept = append(kept, pair)
		}
	}
	return kept
}
