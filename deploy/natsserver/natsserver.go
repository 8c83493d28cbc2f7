// Package natsserver runs a NATS server inside a program of confab: from a configuration file as confab nats does, or for the all-in-one. It starts the server, passes its log on, and lets it
// leave politely. What the server allows whom is decided by package natsconfig.
package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/deploy/process"
)

// startTimeout bounds how long a server may take to recover its store. A million messages take a few seconds; a disk that needs minutes is better reported than
// waited for in silence.
const startTimeout = 5 * time.Minute

// The life of a server that was told to leave. Leaderships are handed over first, which takes a second. Then its clients, which are programs and not people, are told, and are let go one by one
// so that they do not all look for another server at once.
const (
	leaveNotice = 200 * time.Millisecond
	leaveSpread = 2 * time.Second
)

// ErrEnded is what a server ended with that nobody told to.
var ErrEnded = fmt.Errorf("the NATS server ended by itself, and its log says why: %w", process.ErrAgain)

// Start starts a server and waits until it takes connections, until ctx ends, or for five minutes, in which a large store is read. The options are the server's from then on.
func Start(ctx context.Context, options *server.Options, log Log) (*server.Server, error) {
	srv, err := server.NewServer(prepared(options))
	if err != nil {
		return nil, fmt.Errorf("configure the NATS server: %w", err)
	}
	srv.SetLoggerV2(log, options.Debug, options.Trace, false)
	go srv.Start()
	deadline := time.Now().Add(startTimeout)
	for !srv.ReadyForConnections(100 * time.Millisecond) {
		err := ctx.Err()
		switch {
		case err != nil:
		case log.fatal.Load() != nil:
			err = fmt.Errorf("the NATS server does not start: %s", *log.fatal.Load())
		case time.Now().After(deadline):
			err = fmt.Errorf("the NATS server is not ready after %s; its log says why", startTimeout)
		default:
			continue
		}
		Stop(srv)
		return nil, err
	}
	return srv, nil
}

// prepared returns options as every server of confab has them: signals are the program's business, and a server that leaves takes seconds.
func prepared(options *server.Options) *server.Options {
	options.NoSigs = true
	if options.JetStream && options.JetStreamMaxStore <= 0 && options.StoreDir != "" {
		options.JetStreamMaxStore = storeLimit(options.StoreDir)
	}
	options.LameDuckGracePeriod, options.LameDuckDuration = leaveNotice, leaveNotice+leaveSpread
	return options
}

// Leave ends a server politely, within some seconds: others take over what it leads, then its clients are told to go, and go.
func Leave(srv *server.Server) {
	srv.LameDuckShutdown()
	Stop(srv)
}

// Stop ends a server at once. What it has acknowledged is stored.
func Stop(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// reload lets a running server read its configuration file again.
func reload(srv *server.Server, file string, log *slog.Logger) {
	options, err := server.ProcessConfigFile(file)
	if err == nil {
		err = srv.ReloadOptions(prepared(options))
	}
	if err != nil {
		log.Error("configuration not read again", "file", file, process.KeyErr, err)
		return
	}
	log.Info("configuration read again", "file", file)
}
