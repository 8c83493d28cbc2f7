package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// program says what to run. With a root, the program sees that directory as "/" and is found below it.
type program struct {
	name string // for people: the log's name
	path string
	args []string
	env  []string
	dir  string
	root string
	user int // 0: the user of the tests
	log  string
}

// process is a running program. Its end closes done.
type process struct {
	program
	cmd  *exec.Cmd
	done chan struct{}
}

// spawner starts every process from one thread that lives as long as the tests: a process asks the kernel to be killed when its parent dies, and what
// counts as the parent's death is the end of the thread that started it. So nothing survives, however the tests end.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// run starts a program. What it writes is appended to its log.
func run(p program) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(p.log), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	cmd := &exec.Cmd{Path: p.path, Args: append([]string{p.path}, p.args...), Env: p.env, Dir: p.dir, Stdout: log, Stderr: log, SysProcAttr: isolation(p)}
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean ours
	}
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	running := &process{program: p, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		_ = cmd.Wait() // the exit code says it
	}()
	return running, nil
}

// isolation returns what separates a program from the tests: its group, its root, its user. Who is not root may change the root only inside a user
// namespace.
func isolation(p program) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Chroot: p.root}
	if p.root == "" {
		return attr
	}
	if os.Getuid() != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: p.user, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: p.user, HostID: os.Getgid(), Size: 1}}
	} else if p.user != 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(p.user), Gid: uint32(p.user)}
	}
	return attr
}

// kill ends the process as kill -9 does, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end, kills it when the grace has passed, and waits for its end.
func (p *process) stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
	}
	p.kill()
}

// code returns the exit code as a shell has it: 128 and the signal's number where a signal ended the process. It may be asked once done is closed.
func (p *process) code() int {
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// alive says whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// resident returns the process's resident memory in bytes, 0 where it has ended.
func (p *process) resident() int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// tail returns the last lines of a log.
func tail(log string, lines int) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
