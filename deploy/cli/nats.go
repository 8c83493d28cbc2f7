package cli

import (
	"context"
	"errors"

	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/natsserver"
	"github.com/confab-im/confab/deploy/process"
)

// natsServer runs a NATS server from its configuration file.
func natsServer(ctx context.Context, c call) error {
	var config natsserver.Program
	rest, err := loadFrom(c.source(), "nats", &config) // what runs for long must not miss a setting
	if err != nil {
		return err
	}
	if err := noArguments("nats", rest); err != nil {
		return err
	}
	if config.File == "" {
		return &process.UsageError{Err: errors.New("--config must name the configuration file of a NATS server; confab nats-config writes one")}
	}
	log, err := config.Log.Logger(c.note)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	return config.Run(ctx, log)
}

// edgeProgram runs one edge, with the flags and the environment of the edge's own program.
func edgeProgram(ctx context.Context, c call) error { return edges.Run(ctx, c.source()) }
