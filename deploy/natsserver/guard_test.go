package natsserver

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
)

// patience bounds every wait: far more than a slow machine needs.
const patience = 30 * time.Second

// guarded starts a server from a generated configuration, with a declared store, and returns a store as the function that writes most has it.
func guarded(t *testing.T) (*server.Server, *jetstream.Store) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "nats")
	users, err := natsconfig.Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	settings := natsconfig.Server{Listen: "127.0.0.1:-1", StoreDir: filepath.Join(dir, "jetstream"), Fast: true}
	if err := natsconfig.Write(dir, settings, users); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(filepath.Join(dir, settings.File()))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	srv, err := Start(t.Context(), options, NewLog(log, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Stop(srv) })
	connect := func(user string) *jetstream.Store {
		nc, _, err := process.NATSConfig{URL: srv.ClientURL(), NKey: natsconfig.SeedFile(dir, user)}.Connect(user, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if user == natsconfig.Deployer {
			if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
				t.Fatal(err)
			}
		}
		store, err := jetstream.Open(t.Context(), nc)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return store
	}
	connect(natsconfig.Deployer)
	return srv, connect("send")
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come to hold", what)
		}
	}
}

// TestAShortDiskRefusesWritesUntilThereIsRoom fills and frees a disk that it makes up; what the server does about it is real.
func TestAShortDiskRefusesWritesUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	srv, store := guarded(t)
	if limit, total := srv.JetStreamConfig().MaxStore, storeLimit(t.TempDir()); limit <= 0 || limit != total {
		t.Errorf("the server may store %d bytes, want what the disk holds without the reserve, %d", limit, total)
	}
	const total = 1 << 30
	var free atomic.Uint64
	free.Store(total)
	g := NewGuard(srv, slog.New(slog.DiscardHandler))
	g.disk = func(string) (uint64, uint64, error) { return total, free.Load(), nil }
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- g.Run(ctx) }()
	probe := func() error { return store.Probe(t.Context(), "one") }
	if err := probe(); err != nil || g.Ready() != nil {
		t.Fatalf("with room: %v, %v", err, g.Ready())
	}
	free.Store(reserveOf(total) - 1)
	eventually(t, "a short disk is refused", func() bool {
		err := probe()
		return errors.Is(err, jetstream.ErrUnavailable) && strings.Contains(err.Error(), "limits") && g.Ready() != nil
	})
	if _, err := store.CreateUser(t.Context(), jetstream.User{User: "ada"}); !errors.Is(err, jetstream.ErrUnavailable) {
		t.Errorf("a write returns %v", err)
	}
	free.Store(reserveOf(total) / 8 * 9) // not enough to go on
	if strings.Contains(g.short(true), "MiB left") != (g.short(false) == "") {
		t.Errorf("paused: %q, else: %q", g.short(true), g.short(false))
	}
	free.Store(total)
	eventually(t, "there is room again", func() bool { return probe() == nil && g.Ready() == nil })

	// What the server does itself when it meets a full disk as one of several.
	free.Store(0)
	eventually(t, "the disk is full", func() bool { return g.Ready() != nil })
	if err := srv.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reason is named", func() bool { err := g.Ready(); return err != nil && strings.Contains(err.Error(), "switched off") })
	select {
	case err := <-ended:
		t.Errorf("the guard ended while a new start would not help: %v", err)
	default:
	}
	free.Store(total)
	select {
	case err := <-ended:
		if !errors.Is(err, ErrBroken) || process.ExitCode(err) != process.ExitClosed {
			t.Errorf("the guard ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the guard did not end")
	}
}

func TestTheReserveFitsTheDisk(t *testing.T) {
	for total, want := range map[uint64]uint64{64 << 20: 8 << 20, 1 << 30: 1 << 30 / 20, 10 << 40: 1 << 30} {
		if got := reserveOf(total); got != want {
			t.Errorf("of %d bytes %d are kept, want %d", total, got, want)
		}
	}
}
