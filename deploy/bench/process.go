package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds of a child process.
const (
	startWithin = 5 * time.Minute // a full store takes a while
	stopWithin  = time.Minute
	lastWords   = 4 << 10 // bytes kept of what it wrote to its standard error
)

// process is a child whose processor time and memory are measured.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
	words *tail

	profiles *profiles // nil = none are taken
}

// starter starts every child from one thread, which never ends: Linux ends a child with the thread that started it, and so with this process, however it ends.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// startProcess starts a program with an environment and waits until what it writes, or logs, matches ready; found is that match with its groups.
func startProcess(ctx context.Context, name string, command, environment []string, ready *regexp.Regexp) (p *process, found []string, err error) {
	out, in := io.Pipe()
	p = &process{name: name, cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{}), words: &tail{}}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env, p.cmd.SysProcAttr = in, io.MultiWriter(p.words, in), environment, dieWithParent()
	started := make(chan error, 1)
	starter() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	said := make(chan []string, 1)
	go func() { defer close(p.ended); _ = p.cmd.Wait(); _ = in.Close() }()
	go await(out, ready, said)
	select {
	case found := <-said:
		return p, found, nil
	case <-p.ended:
		return nil, nil, fmt.Errorf("%s ended before it served (%s): %s", name, p.cmd.ProcessState, p.words)
	case <-time.After(startWithin):
		err = fmt.Errorf("%s does not serve after %v", name, startWithin)
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.kill()
	return nil, nil, err
}

// await says once what matches, and reads on so that the process is never stopped by a full pipe.
func await(out io.Reader, ready *regexp.Regexp, said chan<- []string) {
	var text strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said == nil {
			continue
		}
		text.WriteString(lines.Text() + "\n")
		if found := ready.FindStringSubmatch(text.String()); found != nil {
			said <- found
			said = nil
		}
	}
}

// stop ends the process as an operator does, and with force where that takes too long.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.kill()
		return nil // it has ended, or cannot be asked to
	}
	select {
	case <-p.ended:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%s ended with %d: %s", p.name, code, p.words)
		}
		return nil
	case <-time.After(stopWithin):
		p.kill()
		return fmt.Errorf("%s did not end within %v", p.name, stopWithin)
	}
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only where it has ended
	<-p.ended
}

// pid returns the number of the process.
func (p *process) pid() int { return p.cmd.Process.Pid }

// Memory is what of a process is resident, in bytes; 0 = unknown.
type Memory struct {
	RSS uint64 `json:"rss"` // shared pages included
	PSS uint64 `json:"pss"` // each shared page split among those who share it
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write keeps the end.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, data...)
	if over := len(t.text) - lastWords; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(data), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
