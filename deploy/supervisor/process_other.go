//go:build !unix

package supervisor

import (
	"io"
	"os"
	"syscall"
)

// attributes has nothing to set where there are neither process groups nor signals.
func attributes() *syscall.SysProcAttr { return nil }

// limit does nothing where the limits of another process cannot be set.
func limit(*os.Process) error { return nil }

// terminate asks a process to end by the end of its standard input.
func terminate(_ *os.Process, stdin io.Closer) { _ = stdin.Close() } // fails only where it is closed already

// kill ends a process.
func kill(p *os.Process) { _ = p.Kill() } // fails only where it has ended
