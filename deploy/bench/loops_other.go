//go:build !linux

package bench

import (
	"errors"
	"net/netip"
)

// loops read many sockets with few goroutines, where the system offers what that needs.
type loops struct{}

// newLoops returns nil: every socket has a goroutine of its own.
func newLoops() (*loops, error) { return nil, nil }

func (*loops) dial(*socket, string, netip.Addr, []byte) error { return errors.ErrUnsupported }

func (*loops) close() {}
