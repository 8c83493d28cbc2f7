//go:build unix

package standalone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lock takes the data directory for this process until it ends, however it ends: the kernel gives the lock back after kill -9 as well.
func lock(data string) (release func(), err error) {
	path := filepath.Join(data, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data directory's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data directory %s is in use by process %s; stop that one, or give this one another --data", data, strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	_ = file.Truncate(0)
	fmt.Fprintln(file, os.Getpid()) // for the sentence above only
	return func() { _ = file.Close() }, nil
}
