package scaler_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/scaler"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

// patience bounds every wait: far more than a slow machine needs.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// start runs a scaler in this process until the test ends or stop is called, which drains it.
func start(t testing.TB, config scaler.Config) (s *scaler.Scaler, address string, stop func()) {
	t.Helper()
	config.Log = functionstest.Log(t)
	s, err := scaler.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listener) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the scaler ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return s, listener.Addr().String(), stop
}

// child is a scaler as a process of its own.
type child struct {
	cmd     *exec.Cmd
	address string
	ended   bool
}

// spawn starts a scaler and waits until it listens.
func spawn(t *testing.T, url, listen string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "--nats-url", url, "--listen", listen, "--ops-listen", "", "--log-format", "json")
	cmd.Env = append(os.Environ(), beScaler+"=1")
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(func() { c.end(t, syscall.SIGKILL) })
	lines := bufio.NewScanner(logs)
	for c.address == "" && lines.Scan() {
		var line struct {
			Msg     string `json:"msg"`
			Address string `json:"address"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.Msg == "scaler listens" {
			c.address = line.Address
		}
	}
	if c.address == "" {
		t.Fatal("the scaler does not say where it listens")
	}
	go func() {
		for lines.Scan() {
		}
	}()
	return c
}

// end sends a signal and waits for the end.
func (c *child) end(t *testing.T, signal syscall.Signal) {
	if c.ended {
		return
	}
	c.ended = true
	_ = c.cmd.Process.Signal(signal)
	if err := c.cmd.Wait(); err != nil && signal != syscall.SIGKILL {
		t.Errorf("the scaler ended with %v", err)
	}
}

// world is a NATS server with a caller and an operator who listens to everything, which must change nothing.
type world struct {
	t      *testing.T
	server *jetstreamtest.Server
	nc     *nats.Conn
	caller *functions.Caller

	wg       sync.WaitGroup
	answered atomic.Int32
	next     atomic.Int32
	mu       sync.Mutex
	ran      map[int]int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: jetstreamtest.Start(t), ran: map[int]int{}}
	w.nc = w.server.Connect(t)
	spy := w.server.Connect(t)
	if _, err := spy.Subscribe(">", func(m *nats.Msg) {
		if m.Subject != ranSubject {
			return
		}
		id, _ := strconv.Atoi(string(m.Data))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ran[id]++
	}); err != nil {
		t.Fatal(err)
	}
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	w.caller = functionstest.Caller(t, w.server.Connect(t))
	return w
}

// call makes calls at once, which take a time each.
func (w *world) call(n int, takes time.Duration) {
	for range n {
		w.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			in := work{ID: int(w.next.Add(1)), MS: takes.Milliseconds()}
			if _, err := w.caller.Call(ctx, "echo", "say", nil, encode(w.t, in)); err != nil {
				w.t.Errorf("call %d: %v", in.ID, err)
				return
			}
			w.answered.Add(1)
		})
	}
}

// settle waits for all calls and checks that each ran once.
func (w *world) settle() {
	w.t.Helper()
	w.wg.Wait()
	made := int(w.next.Load())
	if got := int(w.answered.Load()); got != made {
		w.t.Errorf("%d of %d calls were answered", got, made)
	}
	// What instances say comes on connections of their own, a little after the answers.
	eventually(w.t, "as many calls ran as were answered", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.ran) == made })
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.ran {
		if n > 1 {
			w.t.Errorf("call %d ran %d times", id, n)
		}
	}
}
