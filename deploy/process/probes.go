package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
)

// The bounds of what whoever reaches the probes can cost.
const (
	probeWithin  = 2 * time.Second // for a request and its answer
	probeBytes   = 4 << 10         // of a request, beyond which it is not answered
	probesAtOnce = 16              // beyond which requests wait in the listener's queue
)

// Why an instance is not ready.
var (
	errNotUp   = errors.New("the instance is not up yet")
	errLeaving = errors.New("the instance is leaving")
	errNoNATS  = errors.New("there is no connection to NATS")
	errStorage = errors.New("nothing can be stored")
	errStalled = errors.New("entries or jobs do not come")
)

// storing is the function that knows whether anything can be stored.
const storing subjects.Function = "send"

// readiness returns what /readyz asks: an instance is ready while calls reach it, from when it has said up until ctx ends, and while what they change can be stored. Calls do not wait for
// it, since they come by NATS; a roll-out does. Impaired returns what else keeps the instance from its work.
func readiness(ctx context.Context, nc *nats.Conn, up *atomic.Bool, impaired func() error) func() error {
	return func() error {
		switch {
		case ctx.Err() != nil:
			return errLeaving
		case !up.Load():
			return errNotUp
		case !nc.IsConnected():
			return errNoNATS
		}
		return impaired()
	}
}

// impairments is what an instance knows beside its own connection of why it cannot work: from callers that nothing can be stored, and that its consumers give nothing.
type impairments struct {
	caller  *functions.Caller
	stalled atomic.Pointer[string]
}

func (i *impairments) stall(reason string) { i.stalled.Store(&reason) }

func (i *impairments) err() error {
	if reason := i.caller.Impaired(storing); reason != "" {
		return fmt.Errorf("%w: %s", errStorage, reason)
	}
	if reason := i.stalled.Load(); reason != nil && *reason != "" {
		return fmt.Errorf("%w: %s", errStalled, *reason)
	}
	return nil
}

// probes opens the listener of an instance's probes and serves them until the returned function is called. An empty address means nowhere.
func probes(address string, ready func() error) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("ops-listen: %w", err)
	}
	done := make(chan struct{})
	go func() { defer close(done); serveProbes(listener, ready) }()
	return func() { _ = listener.Close(); <-done }, nil
}

// serveProbes answers GET /livez and /readyz in HTTP/1.1 on a listener until it is closed, and returns when the last request is answered. It is no HTTP server: that of
// the standard library would make each function's program larger by 0.6 MB.
func serveProbes(listener net.Listener, ready func() error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, probesAtOnce)
	for {
		free <- struct{}{}
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files, which may pass
			time.Sleep(100 * time.Millisecond)
			<-free
			continue
		}
		wg.Go(func() {
			defer func() { <-free }()
			answerProbe(conn, ready)
		})
	}
}

func answerProbe(conn net.Conn, ready func() error) {
	defer func() { _ = conn.Close() }()
	if conn.SetDeadline(time.Now().Add(probeWithin)) != nil {
		return
	}
	path, ok := requestedPath(io.LimitReader(conn, probeBytes))
	if !ok {
		return
	}
	status, text := "200 OK", "ok"
	switch path {
	case "/livez":
	case "/readyz":
		if err := ready(); err != nil {
			status, text = "503 Service Unavailable", err.Error()
		}
	default:
		status, text = "404 Not Found", "there are /livez and /readyz"
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n", status, len(text)+1, text)
}

// requestedPath reads the head of an HTTP request to its end and returns the path without its query; false where it is no GET request.
func requestedPath(r io.Reader) (string, bool) {
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		return "", false
	}
	first := strings.Split(lines.Text(), " ")
	for lines.Scan() {
		if lines.Text() == "" {
			path, _, _ := strings.Cut(first[min(1, len(first)-1)], "?")
			return path, len(first) == 3 && first[0] == "GET" && strings.HasPrefix(first[2], "HTTP/1.")
		}
	}
	return "", false
}
