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

// startWithin bounds the time from the start of a process until it serves; a store that was killed takes longer than an empty one.
const startWithin = time.Minute

// system is confab on one machine, started through its public command, and the network in front of it.
type system struct {
	command []string // the program and what stands before the flags of up
	data    string
	log     io.Writer
	history *history.Writer
	front   *proxy

	mu     sync.Mutex // guards what follows; held while a process starts or ends
	cmd    *exec.Cmd
	ended  chan struct{}
	wanted bool // its end is no surprise
}

// name is what the process is called in the history.
const name = "confab"

// banner is what the process prints when clients can connect.
var banner = regexp.MustCompile(`Open +https?://([^/\s]+)/`)

// start starts the process and waits until it serves.
func (s *system) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Without the cache, which is meant to grow, memory that is kept by mistake shows.
	args := append(s.command[1:len(s.command):len(s.command)], "--cache-mib", "0", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0",
		"--ops-listen", "", "--data", s.data, "--limits", "none", "--registration", "open")
	cmd := exec.Command(s.command[0], args...)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, s.log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	ended, said := make(chan struct{}), make(chan []string, 1)
	go func() { defer close(ended); _ = cmd.Wait(); _ = in.Close() }()
	go readBanner(out, said)
	s.cmd, s.ended, s.wanted = cmd, ended, false
	select {
	case found := <-said:
		s.front.to(found[1])
		return nil
	case <-ended:
		return fmt.Errorf("%s ended before it served: %s", name, cmd.ProcessState)
	case <-time.After(startWithin):
		return fmt.Errorf("%s does not serve after %v", name, startWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readBanner says what the banner says, once, and reads on so that the process is never stopped by a full pipe.
func readBanner(out io.Reader, said chan<- []string) {
	var text strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if text.WriteString(lines.Text() + "\n"); said != nil {
			if found := banner.FindStringSubmatch(text.String()); found != nil {
				said <- found
				said = nil
			}
		}
	}
}

// kill ends the process as kill -9 does.
func (s *system) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = true
	_ = s.cmd.Process.Kill() // fails only where it has ended
	<-s.ended
	s.history.Add(history.Record{Kind: history.Exit, Process: name})
}

// stop ends the process as an operator does, and returns an error for any exit code but 0.
func (s *system) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = true
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end %s: %w", name, err)
	}
	select {
	case <-s.ended:
	case <-time.After(startWithin):
		_ = s.cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("%s did not end within %v", name, startWithin)
	}
	s.history.Add(history.Record{Kind: history.Exit, Process: name})
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with %d", name, code)
	}
	return nil
}

// pause stops the process in its tracks for a time.
func (s *system) pause(ctx context.Context, d time.Duration) error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	sleep(ctx, d)
	return s.signal(syscall.SIGCONT)
}

func (s *system) signal(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Signal(sig)
}

// alive returns an error when the process has ended and nobody wanted it to.
func (s *system) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		if !s.wanted {
			return fmt.Errorf("%s ended by itself: %s", name, s.cmd.ProcessState)
		}
	default:
	}
	return nil
}

// resident returns the resident memory of the process in bytes.
func (s *system) resident() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "status"))
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
