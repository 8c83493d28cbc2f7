package standalone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/natsserver"
)

// ErrUsed means that a data directory is not empty; nothing is restored over what is there.
var ErrUsed = errors.New("the data directory is not empty")

// Fill starts the embedded server on a data directory that is empty or not there, with keys of its own, and has fill fill its store over a connection as the user
// restore. It is done beside the directory, which is there only when all is on the disk: whoever is killed meanwhile leaves DIR.restoring, which the next Fill
// throws away.
func Fill(ctx context.Context, data string, log *slog.Logger, fill func(ctx context.Context, nc *nats.Conn) error) error {
	if entries, err := os.ReadDir(data); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w", data, ErrUsed)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	config := DefaultConfig()
	// Synced once, at the end, instead of after every message.
	config.Data, config.NATSListen, config.NATSLook, config.Profile = filepath.Clean(data)+".restoring", "127.0.0.1:0", false, ProfileFast
	if err := os.MkdirAll(config.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	release, err := lock(config.Data) // somebody else may be at it
	if err != nil {
		return err
	}
	defer release()
	if err := os.RemoveAll(natsDir(config.Data)); err != nil {
		return fmt.Errorf("throw away what a restore left that was cut short: %w", err)
	}
	if err := config.fill(ctx, log, fill); err != nil {
		return errors.Join(err, os.RemoveAll(config.Data))
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one
		return fmt.Errorf("put the data directory in its place: %w", err)
	}
	if err := os.Rename(config.Data, data); err != nil {
		return fmt.Errorf("put the data directory in its place: %w", err)
	}
	return syncFile(filepath.Dir(filepath.Clean(data)))
}

// fill runs the server while its store is filled, and returns when all of that is on the disk.
func (c *Config) fill(ctx context.Context, log *slog.Logger, fill func(ctx context.Context, nc *nats.Conn) error) error {
	srv, own, err := c.startServer(ctx, manifest.BuiltIn(), log, func(string) {})
	if err != nil {
		return err
	}
	s := system{config: *c, log: log, registry: prometheus.NewRegistry(), server: srv, natsLog: own}
	nc, _, err := s.connect(natsconfig.Restore)
	if err == nil {
		err = fill(ctx, nc)
		nc.Close()
	}
	natsserver.Stop(srv)
	if err != nil {
		return err
	}
	return filepath.WalkDir(c.Data, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncFile(path)
	})
}

// syncFile has the disk keep a file or a directory.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
