package edges

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/confab-im/confab/deploy/ops"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/edge"
)

// programConfig is the configuration of the program.
type programConfig struct {
	Log       process.LogConfig
	NATS      process.NATSConfig
	OpsListen string `conf:"ops-listen" help:"where /livez, /readyz and /metrics answer; empty = nowhere"`
	Edge      Config
}

// Validate returns an error that names the setting that is wrong.
func (c *programConfig) Validate() error { return c.Edge.Validate() }

// Main is the program of one edge: it runs until ctx ends and its connections are drained.
func Main(ctx context.Context) error { return Run(ctx, process.System()) }

// Run is what the program of one edge does, with its configuration from src: programs of more than one purpose run an edge through it.
func Run(ctx context.Context, src process.Source) error {
	config := programConfig{NATS: process.NATSConfig{URL: "nats://127.0.0.1:4222"}, OpsListen: "127.0.0.1:9090", Edge: DefaultConfig()}
	if err := process.LoadProgram("edge", &config, src); err != nil {
		return err
	}
	log, err := config.Log.Logger(os.Stderr)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	public, err := config.Edge.Open()
	if err != nil {
		return err
	}
	defer func() { _ = public.Close() }()
	config.NATS.Violations = new(process.Violations)
	nc, closed, err := config.NATS.Connect("im-edge", log)
	if err != nil {
		return err
	}
	defer nc.Close()
	registry := ops.NewRegistry()
	ops.OwnViolations(registry, cmp.Or(config.NATS.User(), "edge"), config.NATS.Violations.Count)
	front, err := config.Edge.New(public, nc, log, registry)
	if err != nil {
		return err
	}
	asked := ctx // ends when the end is wanted; what fails cancels only what follows
	ctx, cancel := process.WhileConnected(ctx, closed)
	defer cancel(nil)
	if err := ops.Start(ctx, config.OpsListen, cancel, registry, ops.Check{Name: "edge", Ready: front.Ready}); err != nil {
		return err
	}
	go announce(ctx, front, log, public.URL())
	go process.LeaveMinority(ctx, nc, front.CutOff, log)
	if err := front.Run(ctx); err != nil {
		return err
	}
	if asked.Err() == nil {
		return context.Cause(ctx)
	}
	return nil
}

// announce logs once when clients are served.
func announce(ctx context.Context, front *edge.Edge, log *slog.Logger, url string) {
	if WaitReady(ctx, front) == nil {
		log.Info("edge is ready", "url", url)
	}
}

// WaitReady waits until the edge can serve clients; the error is that of ctx and why the edge is not ready.
func WaitReady(ctx context.Context, front *edge.Edge) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := front.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}
