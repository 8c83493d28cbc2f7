//go:build !linux

package lab

import "fmt"

// disk is a file system of its own for the data, which only Linux has here.
type disk struct{ part string }

func newDisk(_, _ string) (*disk, error) {
	return nil, fmt.Errorf("%w: it needs Linux, whose ext4 can be made to forget what is not synced", ErrNoDisk)
}

func (*disk) close() error { return nil }
func (*disk) sync() error  { return nil }
func (*disk) cut() error   { return nil }
func (*disk) fill() error  { return nil }
func (*disk) empty() error { return nil }
