package supervisor

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFiles bounds the open files of a child, sockets included: an instance has one connection, and some beside it at most.
const maxFiles = 4096

// attributes puts a child into a process group of its own, so that Ctrl-C reaches the supervisor alone, and has the kernel end it with the supervisor.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limit sets the limits that the kernel enforces.
func limit(p *os.Process) error {
	return unix.Prlimit(p.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxFiles, Max: maxFiles}, nil)
}
