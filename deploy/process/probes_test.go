package process

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

// probed serves probes until the test ends, and returns their address and what sets why the instance is not ready.
func probed(t *testing.T) (address string, set func(error)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		cause error
		done  = make(chan struct{})
	)
	go func() {
		defer close(done)
		serveProbes(listener, func() error { mu.Lock(); defer mu.Unlock(); return cause })
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String(), func(err error) { mu.Lock(); defer mu.Unlock(); cause = err }
}

func TestProbesSpeakHTTP(t *testing.T) {
	address, set := probed(t)
	for _, c := range []struct {
		path   string
		cause  error
		status int
		body   string
	}{
		{"/livez", errNotUp, 200, "ok\n"},
		{"/readyz", errNotUp, 503, "the instance is not up yet\n"},
		{"/readyz?verbose", nil, 200, "ok\n"},
		{"/metrics", nil, 404, "there are /livez and /readyz\n"},
	} {
		set(c.cause)
		response, err := http.Get("http://" + address + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%s answers %d %q, %v; want %d %q", c.path, response.StatusCode, body, err, c.status, c.body)
		}
	}
}

// TestProbesOutliveNonsense also takes all places at once, with requests that never end: those who ask then are answered when the first are given up.
func TestProbesOutliveNonsense(t *testing.T) {
	address, _ := probed(t)
	for _, nonsense := range []string{"\r\n\r\n", "GET /livez\r\n\r\n", "POST /livez HTTP/1.1\r\n\r\n", "GET /" + strings.Repeat("x", 2*probeBytes)} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, nonsense) // fails where the rest is not read
		if answer, err := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("%.20q is answered with %q, %v", nonsense, answer, err)
		}
		_ = conn.Close()
	}
	for range probesAtOnce {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost:"); err != nil {
			t.Fatal(err)
		}
	}
	response, err := (&http.Client{Timeout: 20 * probeWithin}).Get("http://" + address + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

func FuzzRequestedPath(f *testing.F) {
	f.Add("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	f.Add("GET  HTTP/1.1\r\n\r\n")
	f.Add(" \n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if path, ok := requestedPath(strings.NewReader(text)); ok && (strings.ContainsAny(path, " ?\n") || !strings.HasPrefix(text, "GET ")) {
			t.Errorf("%q asks for %q", text, path)
		}
	})
}

func TestAnInstanceIsReadyFromUpToTheEnd(t *testing.T) {
	srv := jetstreamtest.Start(t)
	nc := srv.Connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	var up atomic.Bool
	caller, err := functions.NewCaller(nc, functionstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	impaired := impairments{caller: caller}
	ready := readiness(ctx, nc, &up, impaired.err)
	for _, step := range []struct {
		do   func()
		want error
	}{
		{func() {}, errNotUp},
		{func() { up.Store(true) }, nil},
		{func() { impaired.stall("nothing can be had") }, errStalled},
		{func() { impaired.stall("") }, nil},
		{nc.Close, errNoNATS},
		{cancel, errLeaving},
	} {
		step.do()
		if err := ready(); !errors.Is(err, step.want) {
			t.Errorf("ready returns %v, want %v", err, step.want)
		}
	}
}

func TestProbesNeedTheirPort(t *testing.T) {
	taken, _ := probed(t)
	if _, err := probes(taken, nil); err == nil {
		t.Error("probes are served on a port that another program has")
	}
	stop, err := probes("", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}
