package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestFunctionsAreShown(t *testing.T) {
	srv := jetstreamtest.Start(t)
	store, nc := srv.Store(t), srv.Connect(t)
	say := wire.InstanceMethod{Name: "say", Public: true, Anonymous: true, TimeoutMS: 5000}
	vote := wire.InstanceMethod{Name: "vote", Public: true, Idempotent: true, TimeoutMS: 90_000}
	poll := wire.Registered{Function: "poll", Concurrency: 4, Methods: []wire.InstanceMethod{vote}, Scale: wire.InstanceScale{Max: 2, Wake: 1}, HoldMS: 60_000}
	crash, echo := poll, poll
	crash.Function = "crash"
	echo.Function, echo.Methods, echo.Scale, echo.HoldMS = "echo", []wire.InstanceMethod{say}, wire.InstanceScale{Min: 1, Max: 3, Wake: 1}, 5000
	for _, r := range []wire.Registered{poll, crash, echo} {
		if err := store.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	options := functions.Options{Version: "1.2.3", Concurrency: 8}
	for _, name := range []subjects.Function{"echo", "stray", "stray"} {
		functionstest.Run(t, srv.Connect(t), talker(name), options)
	}
	caller := functionstest.Caller(t, nc)
	for _, data := range []string{`{}`, `{}`, `"fail"`} {
		_, _ = caller.Call(t.Context(), "echo", "say", nil, []byte(data))
	}
	holding, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	for range 2 {
		go func() { _, _ = caller.Call(holding, "poll", "vote", nil, nil) }()
	}
	broken, _ := json.Marshal(wire.Broken{Function: "crash", Reason: "exit status 1, 5 times\nin a row", RetryAfterMS: 30_000})
	go func() {
		for tick := time.NewTicker(200 * time.Millisecond); holding.Err() == nil; <-tick.C {
			_ = nc.Publish(subjects.Scale("crash", subjects.Broken), broken)
		}
	}()
	viewed, dir := permitted(t, poll)
	testscript.Run(t, testscript.Params{Dir: filepath.Join("testdata", "functions"), Setup: func(e *testscript.Env) error {
		e.Setenv("CONFAB_NATS_URL", srv.URL)
		for name, value := range map[string]string{
			"NATS": srv.URL, "VIEWED": viewed, "VIEWER": natsconfig.SeedFile(dir, natsconfig.Viewer), "OPERATOR": natsconfig.SeedFile(dir, natsconfig.Operator),
		} {
			e.Setenv(name, value)
		}
		return nil
	}})
}

// talker answers, or fails.
func talker(name subjects.Function) functions.Function {
	return functions.Function{
		Name: name, Description: "Talks", Methods: []functions.Method{{Name: "say", Public: true, Anonymous: true}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"say": func(_ context.Context, call *functions.Call) (any, error) {
				if string(call.Data) == `"fail"` {
					return nil, wire.Errorf(wire.StorageUnavailable, "Not now.")
				}
				return nil, nil
			}}, nil
		},
	}
}

// permitted starts a server with users and permissions, where a function is registered, and returns its URL and the directory of the seeds.
func permitted(t *testing.T, r wire.Registered) (url, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "nats")
	users, err := natsconfig.Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	if err := natsconfig.Write(dir, natsconfig.Server{Listen: "127.0.0.1:-1", StoreDir: filepath.Join(dir, "jetstream")}, users); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(filepath.Join(dir, natsconfig.ServerFile))
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog, options.SyncAlways = true, true, false
	running, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	if !running.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server did not start")
	}
	nc, _, err := process.NATSConfig{URL: running.ClientURL(), NKey: natsconfig.SeedFile(dir, natsconfig.Deployer)}.Connect("test", functionstest.Log(t), nats.Timeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	store, err := jetstream.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return running.ClientURL(), dir
}
