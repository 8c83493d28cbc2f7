package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// Times of a process.
const (
	startWithin  = time.Minute // until it serves: a store that was killed takes longer than an empty one
	restartLeast = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	settled      = 10 * time.Second // after so long a life the next restart comes as soon as the first
)

// part is one process of the system. It is kept up as an init system would: what ends is started again, sooner or later, until it is held down.
type part struct {
	name    string          // as the history calls it, such as send-1
	ops     string          // where it says whether it is ready; empty = nowhere
	kind    string          // what it runs: confab, server, edge, or the name of a function
	program string          // the executable
	args    func() []string // asked for at each start
	serves  *regexp.Regexp  // finds in what it writes that it serves; the first group, if any, is where
	at      func(address string)
	log     io.Writer
	history *history.Writer

	kept sync.WaitGroup // the goroutine that keeps it up

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	cmd     *exec.Cmd // of the process that runs; nil = none does
	up      bool      // it serves
	held    bool      // it is not to be started
	asked   bool      // the end that comes is this driver's doing
	ended   int       // how often it ended
	last    *os.ProcessState
	strange error // the first end that no fault explains
}

// keep starts the process, and again whenever it ends, until ctx ends.
func (p *part) keep(ctx context.Context) {
	p.changed = make(chan struct{})
	p.kept.Go(func() {
		pause := restartLeast
		for p.until(ctx, func() bool { return !p.held }) == nil {
			began := time.Now()
			p.run(ctx)
			if time.Since(began) > settled {
				pause = restartLeast
			}
			if !p.isHeld() {
				sleep(ctx, pause)
				pause = min(2*pause, restartMost)
			}
		}
	})
}

// note changes the state of the process and wakes who waits for it.
func (p *part) note(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// until waits until the state is as it should be, or ctx ends.
func (p *part) until(ctx context.Context, so func() bool) error {
	for {
		p.mu.Lock()
		ok, changed := so(), p.changed
		p.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (p *part) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// run runs the process once, to its end.
func (p *part) run(ctx context.Context) {
	cmd := exec.Command(p.program, p.args()...)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	p.mu.Lock()
	if p.held { // meanwhile
		p.mu.Unlock()
		return
	}
	err := cmd.Start()
	if err == nil {
		p.cmd, p.asked = cmd, false
	}
	p.mu.Unlock()
	if err != nil {
		p.note(func() { p.strange = errors.Join(p.strange, fmt.Errorf("start %s: %w", p.name, err)) })
		return
	}
	stop := context.AfterFunc(ctx, func() { p.note(func() { p.asked = true }); _ = cmd.Process.Kill() })
	defer stop()
	var read sync.WaitGroup
	read.Go(func() { p.read(out, cmd) })
	_ = cmd.Wait() // what it ended with stands in its state
	_ = in.Close()
	read.Wait()
	p.note(func() {
		p.cmd, p.up, p.last = nil, false, cmd.ProcessState
		p.ended++
		r := history.Record{Kind: history.Exit, Process: p.name, Asked: p.asked, Code: ""}
		if code := cmd.ProcessState.ExitCode(); !p.asked {
			r.Body = cmd.ProcessState.String()
			if code != exitClosed {
				p.strange = errors.Join(p.strange, fmt.Errorf("%s ended by itself: %s", p.name, cmd.ProcessState))
			}
		}
		p.history.Add(r)
	})
}

// exitClosed is the exit code of a program that asks to be started again, because its connection was closed for good.
const exitClosed = 3

// read passes on what the process writes, and finds in it that the process serves.
func (p *part) read(out io.Reader, cmd *exec.Cmd) {
	var text strings.Builder
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	said := false
	for lines.Scan() {
		fmt.Fprintf(p.log, "%s: %s\n", p.name, lines.Bytes())
		if said {
			continue
		}
		text.WriteString(lines.Text() + "\n")
		if found := p.serves.FindStringSubmatch(text.String()); found != nil {
			said = true
			if p.at != nil {
				p.at(found[len(found)-1])
			}
			p.note(func() { p.up = p.cmd == cmd })
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line without end must not stop the process
}

// await waits until the process serves.
func (p *part) await(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := p.until(within, func() bool { return p.up }); err != nil {
		return fmt.Errorf("%s does not serve after %v: %w", p.name, startWithin, err)
	}
	return nil
}

// start has the process run, and waits until it serves.
func (p *part) start(ctx context.Context) error {
	p.note(func() { p.held = false })
	return p.await(ctx)
}

// signal sends a signal to the process, if one runs.
func (p *part) signal(sig syscall.Signal, wanted bool) {
	p.note(func() {
		if p.cmd != nil {
			p.asked = p.asked || wanted
			if sig == syscall.SIGKILL {
				p.up = false
			}
			_ = p.cmd.Process.Signal(sig) // fails only where it has ended
		}
	})
}

// kill ends the process as kill -9 does; it is started again at once.
func (p *part) kill(ctx context.Context) error { return p.end(ctx, syscall.SIGKILL, false) }

// down ends the process as kill -9 does, and it stays down until start.
func (p *part) down(ctx context.Context) error { return p.end(ctx, syscall.SIGKILL, true) }

// end sends a signal that ends the process and waits for its end. Where none runs, because it is between two lives, nothing is sent.
func (p *part) end(ctx context.Context, sig syscall.Signal, hold bool) error {
	var ended int
	var running bool
	p.note(func() { p.held, ended, running = p.held || hold, p.ended, p.cmd != nil })
	if !running {
		return nil
	}
	p.signal(sig, true)
	within, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := p.until(within, func() bool { return p.ended > ended }); err != nil {
		p.signal(syscall.SIGKILL, true)
		return fmt.Errorf("%s did not end within %v: %w", p.name, startWithin, err)
	}
	return nil
}

// stop ends the process as an operator does, and it stays down until start. The error is that of an end that was not clean.
func (p *part) stop(ctx context.Context) error {
	if err := p.end(ctx, syscall.SIGTERM, true); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != nil && p.last.ExitCode() != 0 && p.last.ExitCode() != -1 { // -1 = it had been killed
		return fmt.Errorf("%s ended with %d when it was asked to", p.name, p.last.ExitCode())
	}
	return nil
}

// pause stops the process in its tracks for a time.
func (p *part) pause(ctx context.Context, d time.Duration) {
	p.signal(syscall.SIGSTOP, false)
	sleep(ctx, d)
	p.signal(syscall.SIGCONT, false)
}

// broken returns the first ends that nobody asked for and that no program of confab promises.
func (p *part) broken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.strange
}

// resident returns the resident memory of the process in bytes.
func (p *part) resident() (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0, errors.New("it does not run")
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory is resident")
}

// sleep waits for a time, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
