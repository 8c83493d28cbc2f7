package natsconfig

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/process"
)

// patience bounds every wait: far more than a slow machine needs.
const patience = 30 * time.Second

// world is a NATS server with the written configuration, and the log of whoever connects to it.
type world struct {
	t    testing.TB
	dir  string
	url  string
	tap  string // the URL of a user that the configuration does not have, who may do everything
	logs *lines
	log  *slog.Logger

	violations process.Violations   // of all connections
	refusals   map[*nats.Conn]error // the newest that each connection was found to have
}

// start writes the configuration, lets a server read it as nats-server does, and starts it. What is given is allowed to every user beside.
func start(t testing.TB, publish ...string) *world {
	t.Helper()
	return startWith(t, manifest.BuiltIn(), publish...)
}

// startWith is start with the functions of other manifests.
func startWith(t testing.TB, manifests []manifest.Manifest, publish ...string) *world {
	t.Helper()
	users, err := Users(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for i := range users {
		users[i].Publish = append(users[i].Publish, publish...)
	}
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "nats"), logs: &lines{}, refusals: map[*nats.Conn]error{}}
	w.log = slog.New(slog.NewTextHandler(w.logs, nil))
	if err := Write(w.dir, Server{Listen: "127.0.0.1:-1", StoreDir: filepath.Join(w.dir, "jetstream")}, users); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(filepath.Join(w.dir, ServerFile))
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(options.Accounts, func(a *server.Account) bool { return a.Name == Account })
	if !options.SyncAlways || options.NoJetStreamStrict || len(options.Nkeys) != len(users) || at < 0 {
		t.Fatalf("the server reads sync %v, strict %v, %d keys, accounts %v", options.SyncAlways, !options.NoJetStreamStrict, len(options.Nkeys), options.Accounts)
	}
	options.NoSigs, options.NoLog, options.SyncAlways = true, true, false
	options.Users = append(options.Users, &server.User{Username: "tap", Password: "tap", Account: options.Accounts[at]})
	running, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	if !running.ReadyForConnections(patience) {
		t.Fatal("the server did not start")
	}
	w.url = running.ClientURL()
	w.tap = strings.Replace(w.url, "://", "://tap:tap@", 1)
	return w
}

// connect connects a program as a user, in the way of all programs.
func (w *world) connect(user string) *nats.Conn {
	w.t.Helper()
	config := process.NATSConfig{URL: w.url, NKey: SeedFile(w.dir, user), Violations: &w.violations}
	nc, _, err := config.Connect(user, w.log.With("nats-user", user))
	if err != nil {
		w.t.Fatalf("connect as %s: %v", user, err)
	}
	w.t.Cleanup(nc.Close)
	if err := nc.FlushTimeout(patience); err != nil {
		w.t.Fatalf("connect as %s: %v", user, err)
	}
	return nc
}

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write keeps what is logged.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// with returns the lines that hold a text.
func (l *lines) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
