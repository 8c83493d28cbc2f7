//go:build !(linux || darwin || freebsd)

package natsserver

import "errors"

// disk returns an error where nobody has written yet how to ask.
func disk(string) (total, free uint64, err error) { return 0, 0, errors.ErrUnsupported }
