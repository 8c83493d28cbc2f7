package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/backup"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/jetstream"
)

// takeBackup copies everything that is stored into a file, while others write.
func takeBackup(ctx context.Context, c call) error {
	config := struct{ operator }{newOperator()}
	name, err := c.loadFile("backup", "FILE|DIR", &config)
	if err != nil {
		return err
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, "confab-"+time.Now().UTC().Format("20060102T150405Z")+".backup")
	}
	nc, err := config.connectAs(natsconfig.Backup, c)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := reach(ctx, nc, config.Wait); err != nil {
		return err
	}
	line := newProgress(c.note)
	manifest, err := backup.Take(ctx, nc, name, backup.Options{Version: process.Version(), Progress: func(stream string, bytes int64) {
		line.say("%s: %s in all", stream, size(bytes))
	}})
	line.done()
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.note, "Keep it as secret as the data directory: the hashes of passwords, sessions and the keys that sign tokens are in it.\n")
	_, err = fmt.Fprintf(c.out, "%s: %s, everything until %s (%.1f s)\n", name, size(info.Size()), manifest.Began.Format(time.RFC3339), manifest.Ended.Sub(manifest.Began).Seconds())
	return err
}

// reach waits until a connection is there, so that a server that does not answer is named at once.
func reach(ctx context.Context, nc *nats.Conn, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("no NATS server answers at %s: %w", strings.Join(nc.Servers(), ", "), err)
	}
	return nil
}

// askWithin bounds one try to ask whether there is a store. What is asked before the servers had a leader is never answered.
const askWithin = 2 * time.Second

// awaitServers waits until the store of a server can be asked: servers of a cluster that has just been started need some seconds to agree on a leader.
func awaitServers(ctx context.Context, nc *nats.Conn, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := reach(ctx, nc, wait); err != nil {
		return err
	}
	for {
		try, done := context.WithTimeout(ctx, askWithin)
		_, err := jetstream.Present(try, nc)
		done()
		if !errors.Is(err, jetstream.ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// restoreSettings are the settings of confab restore.
type restoreSettings struct {
	operator
	Replicas int  `conf:"replicas" help:"copies of each stream on the server of nats-url; 0 = as many as there were"`
	Sessions bool `conf:"keep-sessions" help:"who was signed in stays so; for a move, since who signed out after the backup is signed in again"`
	JSON     bool `conf:"json" help:"print what verify found for programs"`
}

// restore makes a store out of a backup: in an empty data directory, or on a NATS server without one.
func restore(ctx context.Context, c call) error {
	config := restoreSettings{operator: newOperator()}
	name, err := c.loadFile("restore", "FILE", &config)
	if err != nil {
		return err
	}
	outside := config.NATS.URL != ""
	if !outside && config.Replicas > 1 {
		return &process.UsageError{Err: errors.New("--replicas is for a cluster that --nats-url names; one machine keeps one copy")}
	}
	file, err := backup.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if outside {
		nc, err := config.connectAs(natsconfig.Restore, c)
		if err != nil {
			return err
		}
		defer nc.Close()
		if err := awaitServers(ctx, nc, config.Wait); err != nil {
			return err
		}
		audit, err := config.restore(ctx, c, nc, file, config.Replicas)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.note, "Where no confab up waits for it, run confab declare before programs start, as after an upgrade.")
		return c.printAudit(audit, config.JSON)
	}
	var audit jetstream.Audit
	err = standalone.Fill(ctx, config.Data, c.errors(), func(ctx context.Context, nc *nats.Conn) (err error) {
		audit, err = config.restore(ctx, c, nc, file, 1)
		return err
	})
	if errors.Is(err, standalone.ErrUsed) {
		return fmt.Errorf("%w; give --data one that is, or move it away first", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.note, "The data directory is %s; confab up --data %s serves it.\n", config.Data, config.Data)
	return c.printAudit(audit, config.JSON)
}

// restore restores over a connection, says what had to be mended, and looks at the result.
func (s *restoreSettings) restore(ctx context.Context, c call, nc *nats.Conn, file *backup.File, replicas int) (jetstream.Audit, error) {
	line := newProgress(c.note)
	mended, err := file.Restore(ctx, nc, backup.RestoreOptions{Replicas: replicas, KeepSessions: s.Sessions, Progress: func(stream string) { line.say("%s", stream) }})
	line.done()
	if err != nil {
		return jetstream.Audit{}, err
	}
	m := file.Manifest
	fmt.Fprintf(c.note, "Restored is everything that was acknowledged until %s, and some of what followed until %s.\n", m.Began.Format(time.RFC3339Nano), m.Ended.Format(time.RFC3339Nano))
	if mended.Sessions > 0 {
		fmt.Fprintf(c.note, "Everybody signs in again: %d sessions and keys were left out.\n", mended.Sessions)
	}
	fmt.Fprintf(c.note, "Brought to one moment: %d recalled messages erased, %d records of conversations, %d of memberships, %d marks and %d users changed.\n",
		mended.Erased, mended.Conversations, mended.Memberships, mended.Marks, mended.Users)
	return verifyStore(ctx, c, nc, s.Wait, jetstream.VerifyOptions{})
}

// loadFile reads the name of a file behind the word of a command, and the command's configuration from the flags behind or before it.
func (c call) loadFile(word, what string, config any) (string, error) {
	usage := word + " " + what
	if slices.Contains(c.args, "--help") {
		_, err := c.load(usage, config)
		return "", err
	}
	name := ""
	if len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		name, c.args = c.args[0], c.args[1:]
	}
	rest, err := c.load(usage, config)
	if err != nil {
		return "", err
	}
	if name == "" && len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	if name == "" || len(rest) > 0 {
		return "", &process.UsageError{Err: fmt.Errorf("it is called as confab %s, and flags behind", usage)}
	}
	return name, nil
}

// size returns a number of bytes for a person.
func size(bytes int64) string {
	switch {
	case bytes < 10<<10:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < 10<<20:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
