package process

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
)

// asProgram makes this test binary the program of a function, for TestProgramsEndWithTheCodeThatSaysWhy.
const asProgram = "PROCESS_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		Main(Function("sleeper", sleeper))
		return
	}
	os.Exit(m.Run())
}

type sleeperConfig struct {
	Broken bool `conf:"broken" help:"fail at the start"`
}

// sleeper works until it is cancelled, and no answer comes.
func sleeper(config sleeperConfig) functions.Function {
	return functions.Function{
		Name: "sleeper", Description: "Works for ever", Methods: []functions.Method{{Name: "work", Timeout: time.Minute}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			if config.Broken {
				return nil, errors.New("there is no bed")
			}
			return functions.Handlers{"work": func(ctx context.Context, _ *functions.Call) (any, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}, nil
		},
	}
}

func natsServer(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	options.Host, options.NoLog, options.NoSigs = "127.0.0.1", true, true
	ns, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return ns
}

// program is the running program of the function.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], append([]string{"--log-format", "text"}, args...)...)}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	output, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.lines = bufio.NewScanner(output)
	return p
}

// says waits for a line with a text.
func (p *program) says(text string) {
	p.t.Helper()
	for p.lines.Scan() {
		p.t.Log(p.lines.Text())
		if strings.Contains(p.lines.Text(), text) {
			return
		}
	}
	p.t.Fatalf("it ended without %q", text)
}

// ends waits for the end and compares the exit code; the last line must have a text.
func (p *program) ends(code int, text string) {
	p.t.Helper()
	guard := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer guard.Stop()
	last := ""
	for p.lines.Scan() {
		last = p.lines.Text()
		p.t.Log(last)
	}
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(last, text) {
		p.t.Errorf("exit code %d and at last %q, want %d and %q", got, last, code, text)
	}
}

func (p *program) signal() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

func TestProgramsEndWithTheCodeThatSaysWhy(t *testing.T) {
	url := natsServer(t, server.Options{Port: server.RANDOM_PORT}).ClientURL()
	const up = "instance is up"
	t.Run("0 when it is told to end", func(t *testing.T) {
		p := startProgram(t, "--nats-url", url)
		p.says(up)
		p.signal()
		p.ends(0, "instance drained")
	})
	t.Run("0 when it is told to end while it waits for NATS", func(t *testing.T) {
		p := startProgram(t, "--nats-url", "nats://"+closedPort(t))
		p.says("waiting for nats")
		p.signal()
		p.ends(0, "")
	})
	t.Run("0 when nobody calls it", func(t *testing.T) {
		p := startProgram(t, "--nats-url", url, "--idle-timeout", "50ms")
		p.says("nobody called it")
		p.ends(0, "instance drained")
	})
	t.Run("1 when it is broken", func(t *testing.T) {
		startProgram(t, "--nats-url", url, "--broken").ends(ExitBroken, "there is no bed")
	})
	t.Run("2 when it is called wrongly", func(t *testing.T) {
		startProgram(t, "--nats-url", url, "--idel-timeout", "1s").ends(ExitUsage, `did you mean "idle-timeout"?`)
		startProgram(t, "--nats-url", url, "--concurrency", "0").ends(ExitUsage, "concurrency must be 1 or more")
	})
	t.Run("3 when its connection is closed for good", func(t *testing.T) {
		open := natsServer(t, server.Options{Port: server.RANDOM_PORT})
		p := startProgram(t, "--nats-url", open.ClientURL())
		p.says(up)
		port := open.Addr().(*net.TCPAddr).Port
		open.Shutdown()
		open.WaitForShutdown()
		natsServer(t, server.Options{Port: port, Username: "somebody", Password: "else"}) // it refuses the program, for ever
		p.ends(ExitClosed, "was closed")
	})
	t.Run("4 when calls outlive the drain", func(t *testing.T) {
		p := startProgram(t, "--nats-url", url, "--drain-timeout", "50ms", "--log", "debug")
		p.says(up)
		nc, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := nc.PublishRequest(subjects.RPC("sleeper", "work"), nc.NewInbox(), nil); err != nil {
			t.Fatal(err)
		}
		// The statistics are asked of the same connection, so the call is at work when they say so.
		at := time.Now()
		for working := false; !working; {
			answer, err := nc.Request("$SRV.STATS.im-sleeper", nil, 10*time.Second)
			if err != nil || time.Since(at) > 20*time.Second {
				t.Fatalf("the call is not at work: %v", err)
			}
			working = strings.Contains(string(answer.Data), `"working":1`)
		}
		p.signal()
		p.ends(ExitIncomplete, "calls were cancelled")
	})
}

// closedPort returns an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
