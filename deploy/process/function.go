package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/functions"
)

// began is when this process started, give or take the start of the Go runtime.
var began = time.Now()

// functionConfig is what every program of one function can be told; C is the function's own part.
type functionConfig[C any] struct {
	Log          LogConfig
	NATS         NATSConfig
	Concurrency  int           `conf:"concurrency" help:"calls that this instance works on at once"`
	IdleTimeout  time.Duration `conf:"idle-timeout" help:"leave after this long without a call that counts as activity; 0 = stay"`
	DrainTimeout time.Duration `conf:"drain-timeout" help:"how long the end waits for calls at work"`
	Unit         string        `conf:"unit" help:"what whoever starts this program calls it, such as a pod's name; instances say it"`
	OpsListen    string        `conf:"ops-listen" help:"where /livez and /readyz answer; empty = nowhere"`
	WithParent   bool          `conf:"with-parent" help:"end, as on SIGTERM, when standard input ends"`
	Own          C
}

// Validate checks the function's own part.
func (c *functionConfig[C]) Validate() error {
	if c.IdleTimeout < 0 || c.DrainTimeout < 0 || c.Concurrency < 1 {
		return errors.New("idle-timeout and drain-timeout must not be negative, and concurrency must be 1 or more")
	}
	if v, ok := any(&c.Own).(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// Function returns the program of one function, for Main: it reads its configuration, connects to NATS and runs one instance until its context
// ends, then drains. The store must have been declared, or be declared soon; the program waits for it.
func Function[C any](name string, build func(C) functions.Function) func(ctx context.Context) error {
	return func(ctx context.Context) error { return RunFunction(ctx, name, build, System()) }
}

// RunFunction is what the program of one function does, with its configuration from src: programs of more than one purpose run functions through it.
func RunFunction[C any](ctx context.Context, name string, build func(C) functions.Function, src Source) error {
	config := functionConfig[C]{NATS: NATSConfig{URL: "nats://127.0.0.1:4222"}, Concurrency: 64, DrainTimeout: 20 * time.Second}
	if err := LoadProgram("im-"+name, &config, src); err != nil {
		return err
	}
	log, err := config.Log.Logger(os.Stderr)
	if err != nil {
		return &UsageError{Err: err}
	}
	config.NATS.Violations = new(Violations)
	nc, closed, err := config.NATS.Connect("im-"+name, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	caller, err := functions.NewCaller(nc, log)
	if err != nil {
		return err
	}
	defer caller.Close()
	env := functions.Env{NATS: nc, Log: log, Caller: caller}
	ctx, cancel := WhileConnected(ctx, closed)
	defer cancel(nil)
	if config.WithParent {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel(nil) }()
	}
	var up atomic.Bool
	impaired := impairments{caller: caller}
	stop, err := probes(config.OpsListen, readiness(ctx, nc, &up, impaired.err))
	if err != nil {
		return err
	}
	defer stop()
	go LeaveMinority(ctx, nc, func() bool { return caller.Impaired(storing) != "" || caller.Lost(storing) }, log)
	options := functions.Options{
		Version: Version(), Concurrency: config.Concurrency, Unit: config.Unit,
		IdleTimeout: config.IdleTimeout, DrainTimeout: config.DrainTimeout, Began: began, Violations: config.NATS.Violations.Count,
		Stalled: impaired.stall,
		Ready: func(instance string) {
			up.Store(true)
			log.Info("instance is up", KeyFunction, name, "instance", instance)
		},
	}
	if err := functions.Run(ctx, build(config.Own), env, options); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return cause
	}
	return nil
}

// LoadProgram loads the configuration of a program without commands from src: what stands behind its flags is an error.
func LoadProgram(name string, config any, src Source) error {
	rest, err := Load(name, config, src)
	switch {
	case errors.Is(err, ErrHelp):
		return err
	case err != nil:
		return &UsageError{Err: err}
	case len(rest) > 0:
		return &UsageError{Err: fmt.Errorf("%s takes no arguments, but got %q", name, rest)}
	}
	return nil
}
