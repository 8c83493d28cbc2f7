package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk is a file system of its own for the data, in a file. Its power can be cut, and it can be filled without harm to anybody else.
type disk struct {
	part       string // whose data it has
	image, dir string
	mounted    bool
}

// diskBytes is the size of a disk. The file takes only what is written.
const diskBytes = 2 << 30

// newDisk makes a disk for the data of a process and mounts it on a directory.
func newDisk(part, dir string) (*disk, error) {
	d := &disk{part: part, image: dir + ".img", dir: dir}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: it needs root, who may mount a file as a disk", ErrNoDisk)
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return nil, fmt.Errorf("%w: it needs mkfs.ext4, of the package e2fsprogs: %w", ErrNoDisk, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(d.image, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = errors.Join(file.Truncate(diskBytes), file.Close())
	}
	if err == nil {
		err = command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.image)
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		_ = os.Remove(d.image)
		return nil, fmt.Errorf("%w: it needs a kernel that lets root mount a file: %w", ErrNoDisk, err)
	}
	return d, nil
}

func (d *disk) mount() error {
	err := command("mount", "-o", "loop", d.image, d.dir)
	d.mounted = err == nil
	return err
}

func (d *disk) unmount() error {
	if !d.mounted {
		return nil
	}
	d.mounted = false
	return command("umount", d.dir)
}

// close takes the disk away, and what is on it.
func (d *disk) close() error {
	return errors.Join(d.unmount(), os.Remove(d.image))
}

// sync writes everything to the disk, as happens to what was set up long before.
func (d *disk) sync() error {
	file, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return unix.Syncfs(int(file.Fd()))
}

// What ext4 is asked for to end without writing what it has in memory, neither data nor its journal (linux/fs/ext4/ext4.h, EXT4_IOC_SHUTDOWN).
const (
	ext4Shutdown   = 0x8004587d
	ext4NoLogFlush = 2
)

// cut takes the power away and gives it back: what was not synced is gone, and the journal is replayed. Nothing may have the disk open.
func (d *disk) cut() error {
	file, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	err = unix.IoctlSetPointerInt(int(file.Fd()), ext4Shutdown, ext4NoLogFlush)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("shut %s down: %w", d.dir, err)
	}
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount()
}

// fill leaves no free block on the disk; empty gives them back.
func (d *disk) fill() error {
	file, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var at int64
	for step := int64(64 << 20); step >= 4<<10; {
		err := syscall.Fallocate(int(file.Fd()), 0, at, step)
		switch {
		case err == nil:
			at += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		default:
			return fmt.Errorf("fill %s: %w", d.dir, err)
		}
	}
	return nil
}

func (d *disk) empty() error { return os.Remove(d.ballast()) }

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// command runs a program to its end.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
