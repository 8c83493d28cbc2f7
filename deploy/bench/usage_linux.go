package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of processor time in /proc, which Linux fixes for programs.
const tick = time.Second / 100

// dieWithParent has the kernel end a child with the thread that started it.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// processorTime reads what a process has used from /proc, in steps of 10 ms.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the program's name, may hold spaces; those behind its bracket are numbered from 3.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const user, system = 14 - 3, 15 - 3
	if len(fields) <= system {
		return 0, fmt.Errorf("the kernel says %q of process %d", stat, pid)
	}
	var used time.Duration
	for _, field := range []string{fields[user], fields[system]} {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, err
		}
		used += time.Duration(ticks) * tick
	}
	return used, nil
}

// memoryOf reads how much memory of a process is resident from /proc.
func memoryOf(pid int) (Memory, error) {
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	if _, err := os.Stat(path); err != nil {
		return Memory{}, err
	}
	return Memory{RSS: kib(path, "Rss"), PSS: kib(path, "Pss")}, nil
}

// pause waits for a time more precisely than a timer of the runtime does, which may be late by a millisecond.
func pause(d time.Duration) {
	wait := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&wait, nil) // a signal that ends it early costs one more turn
}

// model returns what the processor calls itself, and how much memory the machine has.
func model() (processor string, memory uint64) {
	processor = line("/proc/cpuinfo", "model name")
	return processor, kib("/proc/meminfo", "MemTotal")
}

// kib returns the bytes of a line such as "Rss: 12 kB", 0 where there is none.
func kib(path, name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(line(path, name), "kB")), 10, 64)
	return n << 10
}

// line returns what stands behind a name and a colon in a file of /proc.
func line(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for text := range strings.Lines(string(data)) {
		if before, rest, ok := strings.Cut(text, ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// raiseFiles lets this process and its children open n files, if it may; where it may not, the connections that are too many say so.
func raiseFiles(n uint64) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= n {
		return
	}
	limit.Cur, limit.Max = n, max(limit.Max, n)
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
