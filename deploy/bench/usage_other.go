//go:build !linux

package bench

import (
	"errors"
	"syscall"
	"time"
)

// dieWithParent has nothing to set: a child ends when this process asks it to.
func dieWithParent() *syscall.SysProcAttr { return nil }

var errUnknown = errors.New("processor time and memory of processes are known on Linux only")

// processorTime knows nothing where there is no /proc.
func processorTime(int) (time.Duration, error) { return 0, errUnknown }

// memoryOf knows nothing where there is no /proc.
func memoryOf(int) (Memory, error) { return Memory{}, errUnknown }

// pause waits for a time.
func pause(d time.Duration) { time.Sleep(d) }

// model knows nothing of the machine.
func model() (processor string, memory uint64) { return "", 0 }

// raiseFiles leaves the limit on open files as it is.
func raiseFiles(uint64) {}
