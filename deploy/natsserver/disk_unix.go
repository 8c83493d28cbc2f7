//go:build linux || darwin || freebsd

package natsserver

import "syscall"

// disk returns the size of the file system of a directory and what of it is free for this program, in bytes.
func disk(dir string) (total, free uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	return uint64(fs.Blocks) * uint64(fs.Bsize), uint64(fs.Bavail) * uint64(fs.Bsize), nil
}
