package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
)

// The test binary is also the programs that tests start. This variable says which.
const roleVariable = "TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		goleak.VerifyTestMain(m)
	case "function":
		process.Main(process.Function("echo", echo))
	case "worker":
		process.Main(process.Function("echo", worker))
	case "supervisor":
		process.Main(superviseAlone)
	default:
		fmt.Fprintln(os.Stderr, "no such role:", role)
		os.Exit(1)
	}
}

// The settings of the function of the tests.
const (
	brokenVariable = "TEST_BROKEN" // a file; while it is there the constructor fails with its content
	slowVariable   = "TEST_SLOW"   // how long the constructor takes
)

// answer is what the function of the tests says of its process.
type answer struct {
	PID     int    `json:"pid"`
	Unit    string `json:"unit"`
	Procs   string `json:"procs"`
	Memory  string `json:"memory"`
	Files   uint64 `json:"files"`
	Foreign bool   `json:"foreign"` // it got a setting of its parent
}

type work struct {
	TakesMS int `json:"takes_ms"`
	Number  int `json:"number"`
}

// echo is the function of the tests. It notes each number that it was given in a file, so that what ran twice is seen.
func echo(struct{}) functions.Function {
	return functions.Function{
		Name: "echo", Description: "says who answers",
		Methods: []functions.Method{{Name: "say", Idempotent: false, Timeout: 10 * time.Second, Request: work{}, Response: answer{}}},
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			if reason, err := os.ReadFile(os.Getenv(brokenVariable)); err == nil {
				return nil, errors.New(string(reason))
			}
			slow, _ := time.ParseDuration(os.Getenv(slowVariable))
			select {
			case <-time.After(slow):
			case <-ctx.Done():
			}
			return functions.Handlers{"say": functions.Handle(say)}, nil
		},
	}
}

// worker is echo with work for later.
func worker(own struct{}) functions.Function {
	f := echo(own)
	f.Jobs = true
	return f
}

func say(ctx context.Context, _ *functions.Call, in *work) (answer, error) {
	if err := note(in.Number); err != nil {
		return answer{}, err
	}
	select {
	case <-time.After(time.Duration(in.TakesMS) * time.Millisecond):
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return answer{}, err
	}
	return answer{
		PID: os.Getpid(), Unit: os.Getenv("CONFAB_UNIT"), Procs: os.Getenv("GOMAXPROCS"), Memory: os.Getenv("GOMEMLIMIT"),
		Files: files.Cur, Foreign: os.Getenv("CONFAB_OF_THE_PARENT") != "",
	}, nil
}

// note appends a number to the file of what ran. One write of a line is not torn.
func note(number int) error {
	file, err := os.OpenFile(os.Getenv("TEST_RAN"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = file.WriteString(strconv.Itoa(number) + "\n")
	return err
}

// superviseAlone is a program that is nothing but a supervisor.
func superviseAlone(ctx context.Context) error {
	url := os.Getenv("TEST_NATS")
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	return Run(ctx, Config{NATS: nc, IdleTimeout: time.Minute}, []Entry{entry(url, os.Getenv("TEST_RAN"))})
}
