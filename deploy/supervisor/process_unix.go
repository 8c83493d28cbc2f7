//go:build unix

package supervisor

import (
	"io"
	"os"
	"syscall"
)

// terminate asks a process and all that it started to end.
func terminate(p *os.Process, _ io.Closer) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) } // fails only where nobody is left

// kill ends a process and all that it started.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) } // the same
