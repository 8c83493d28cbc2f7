//go:build unix && !linux

package supervisor

import (
	"os"
	"syscall"
)

// attributes puts a child into a process group of its own, so that Ctrl-C reaches the supervisor alone. With the supervisor it ends because its standard
// input ends.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limit does nothing where the limits of another process cannot be set.
func limit(*os.Process) error { return nil }
