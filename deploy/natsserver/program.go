package natsserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/deploy/process"
)

// portsTimeout bounds the wait for the listeners of a server that takes connections already.
const portsTimeout = 10 * time.Second

// Program is the configuration of confab nats.
type Program struct {
	Log   process.LogConfig
	File  string `conf:"config" help:"the configuration file of the server, such as confab nats-config writes; SIGHUP reads it again"`
	Ports string `conf:"ports-file" help:"the file that says, as JSON, where the server listens once it takes connections; its end removes it"`
}

// Run runs the server until ctx ends, and lets it leave politely.
func (p Program) Run(ctx context.Context, log *slog.Logger) error {
	options, err := server.ProcessConfigFile(p.File)
	if err != nil {
		return &process.UsageError{Err: fmt.Errorf("read the configuration of the NATS server: %w", err)}
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	srv, err := Start(ctx, options, NewLog(log, nil, nil))
	if err != nil {
		return err
	}
	defer Stop(srv)
	if p.Ports != "" {
		if err := writePorts(p.Ports, srv.PortsInfo(portsTimeout)); err != nil {
			return err
		}
		defer func() { _ = os.Remove(p.Ports) }()
	}
	log.Info("nats server is ready", "server", srv.Name(), "url", srv.ClientURL())
	ended := make(chan struct{})
	go func() { defer close(ended); srv.WaitForShutdown() }()
	guarding, stop := context.WithCancel(ctx)
	defer stop()
	broken := make(chan error, 1)
	go func() {
		if err := NewGuard(srv, log).Run(guarding); err != nil {
			broken <- err
		}
	}()
	for {
		select {
		case <-again:
			reload(srv, p.File, log)
		case <-ended:
			return ErrEnded
		case err := <-broken:
			return err
		case <-ctx.Done():
			log.Info("nats server leaves", "server", srv.Name())
			Leave(srv)
			return nil
		}
	}
}

// writePorts writes where a server listens; whoever waits for the file does not find half of it.
func writePorts(file string, ports *server.Ports) error {
	if ports == nil {
		return fmt.Errorf("the listeners of the NATS server are not open after %s", portsTimeout)
	}
	data, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write where the NATS server listens: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write where the NATS server listens: %w", err)
	}
	return nil
}
