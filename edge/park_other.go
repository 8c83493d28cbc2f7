//go:build !linux

package edge

import (
	"errors"
	"net"
)

// poller is not there on systems without epoll: each socket has a reader that waits.
type poller struct{}

func newPoller() (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) take(net.Conn) (fd int, ok bool) { return 0, false }
func (*poller) add(*socket) error               { return errors.ErrUnsupported }
func (*poller) watchWriting(*line) error        { return errors.ErrUnsupported }
func (*poller) drop(*line)                      {}
func (*poller) run() error                      { return nil }
func (*poller) close()                          {}
func receive(int, []byte) (int, error)          { return 0, errors.ErrUnsupported }
func transmit(int, []byte) (int, error)         { return 0, errors.ErrUnsupported }
func shut(int)                                  {}
