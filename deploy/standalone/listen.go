package standalone

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen opens a port, or says in the error which setting moves it elsewhere.
func listen(setting, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, taken(setting, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return listener, nil
}

func taken(setting, address string) error {
	host, _, _ := net.SplitHostPort(address)
	return fmt.Errorf("port %s is taken by another program; stop that one, or choose another with --%s %s (port 0 picks a free one)",
		address, setting, net.JoinHostPort(host, "0"))
}

// checkFree returns an error that names the setting when the port cannot be opened. The embedded server opens its port itself and says less when it fails.
func checkFree(setting, address string) error {
	listener, err := listen(setting, address)
	if err != nil {
		return err
	}
	return listener.Close()
}
