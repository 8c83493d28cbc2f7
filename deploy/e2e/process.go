package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs is the directory with the built programs; TestMain fills it once.
var programs string

// build builds the programs that the topologies start, with the race detector where the tests have it.
func build(dir string) error {
	args := []string{"build", "-tags", "nomsgpack", "-o", dir}
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(args, "../cmd/confab", "../../edge/cmd/edge", "../../functions/cmd/...")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	programs = dir
	return nil
}

// process is a running program of confab.
type process struct {
	cmd  *exec.Cmd
	name string
	done chan struct{} // closed when it has ended and its output is read

	mu    sync.Mutex // guards what follows
	lines []string
	news  chan struct{} // closed and replaced at each line
}

// start starts a program; the test's end kills it. What it writes is kept, and shown when the test fails.
func start(t testing.TB, program string, args ...string) *process {
	t.Helper()
	return launch(t, program, exec.Command(filepath.Join(programs, program), args...))
}

// launch is start for any command.
func launch(t testing.TB, program string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: program, cmd: cmd, done: make(chan struct{}), news: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Environ(), "XDG_DATA_HOME="+t.TempDir())
	reader, writer := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = writer, writer
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() { _ = p.cmd.Wait(); _ = writer.Close() }()
	go func() { defer close(p.done); p.read(reader) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s wrote:\n%s", program, strings.Join(cmd.Args[1:], " "), strings.Join(p.lines, "\n"))
		}
	})
	return p
}

func (p *process) read(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
}

// says waits for a line that matches and returns its first group.
func (p *process) says(t testing.TB, pattern string) string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	deadline := time.After(2 * patience)
	for {
		p.mu.Lock()
		lines, news := p.lines, p.news
		p.mu.Unlock()
		for _, line := range lines {
			if match := expression.FindStringSubmatch(line); match != nil {
				return match[len(match)-1]
			}
		}
		select {
		case <-news:
		case <-p.done:
			t.Fatalf("%s ended without saying %q:\n%s", p.name, pattern, strings.Join(p.lines, "\n"))
		case <-deadline:
			t.Fatalf("%s never said %q:\n%s", p.name, pattern, strings.Join(lines, "\n"))
		}
	}
}

// kill ends the process as kill -9 does and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end and returns its exit code.
func (p *process) stop(t testing.TB) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(2 * patience):
		t.Fatalf("%s does not end after SIGTERM", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// up starts the all-in-one on free ports, or on the ones of an earlier run, and waits for its banner.
func up(t testing.TB, data string, args ...string) (*process, Target, banner) {
	t.Helper()
	preset := []string{"up", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", data, "--limits", "none"}
	p := start(t, "confab", append(preset, args...)...)
	b := banner{
		owner:  p.says(t, `Open +(http://\S+)`),
		invite: p.says(t, `Invite +(http://\S+)`),
		ops:    p.says(t, `Health +(http://\S+)/readyz`),
	}
	url, _, _ := strings.Cut(b.owner, "/#")
	return p, Target{URL: url, NATS: p.says(t, `Look +nats -s (\S+)`), NKey: key(data, "admin")}, b
}

// key returns the file with the seed of a NATS user of the all-in-one.
func key(data, user string) string { return filepath.Join(data, "nats", "keys", user+".nk") }

// banner is what the all-in-one printed.
type banner struct{ owner, invite, ops string }
