package scaler_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/scaler"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
)

// rights is a NATS server with the users of nats-config, where a refusal fails the test.
type rights struct {
	t   *testing.T
	dir string
	url string
	tap *nats.Conn // may do everything
}

func newRights(t *testing.T) *rights {
	t.Helper()
	r := &rights{t: t, dir: t.TempDir()}
	users, err := natsconfig.Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	if err := natsconfig.Write(r.dir, natsconfig.Server{Listen: "127.0.0.1:-1", StoreDir: filepath.Join(r.dir, "jetstream")}, users); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(filepath.Join(r.dir, natsconfig.ServerFile))
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog, options.SyncAlways = true, true, false
	at := slices.IndexFunc(options.Accounts, func(a *server.Account) bool { return a.Name == natsconfig.Account })
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
	r.url = running.ClientURL()
	if r.tap, err = nats.Connect(r.url, nats.UserInfo("tap", "tap")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.tap.Close)
	return r
}

func (r *rights) connect(user string) *nats.Conn {
	r.t.Helper()
	nc, _, err := process.NATSConfig{URL: r.url, NKey: natsconfig.SeedFile(r.dir, user)}.Connect(user, functionstest.Log(r.t),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r.t.Errorf("as %s: %v", user, err) }))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	return nc
}

// edge runs an edge until the test ends and returns where WebSockets connect.
func (r *rights) edge() string {
	r.t.Helper()
	config := edges.DefaultConfig()
	config.Listen, config.Lifted, config.Drain = "127.0.0.1:0", "none", 0
	listener, err := config.Open()
	if err != nil {
		r.t.Fatal(err)
	}
	front, err := config.New(listener, r.connect(natsconfig.Edge), functionstest.Log(r.t), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- front.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("the edge ended with %v", err)
		}
	})
	return strings.Replace(listener.URL(), "http", "ws", 1) + "/v1/ws"
}

// The scaler does all it does as the user that nats-config makes for it: it looks into the registry, counts what waits, hears who is up, and asks edges.
func TestTheScalerNeedsNoMoreThanItsUserMay(t *testing.T) {
	t.Parallel()
	r := newRights(t)
	if err := jetstream.Declare(t.Context(), r.tap, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	store, err := jetstream.Open(t.Context(), r.tap)
	if err != nil {
		t.Fatal(err)
	}
	listens(t, store, r.tap)
	s, address, _ := start(t, scaler.Config{NATS: r.connect(natsconfig.Scaler)})
	a := &asking{t: t, scaler: s, client: dial(t, nil, address)}
	a.settled()
	listener := ref(map[string]string{"function": "listener"})
	if name, target, value := a.figures(listener); a.active(listener) || name != "confab-listener" || target != 8 || value != 0 {
		t.Errorf("a function that sleeps has %v of %v in %s", value, target, name)
	}
	// Connections stay for five seconds without a word.
	connections := ref(map[string]string{"edges": "connections", "target": "1000"})
	where := []string{r.edge(), r.edge()}
	eventually(t, "edges have been listened to for long enough", func() bool {
		_, err := a.client.GetMetrics(t.Context(), askFor(connections))
		return err == nil
	})
	for _, url := range append(where, where[0]) {
		socket, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = socket.Close() }()
	}
	eventually(t, "three connections to two edges are counted", func() bool {
		name, target, value := a.figures(connections)
		return name == "confab-edges-connections" && target == 1000 && value == 3
	})
	if !a.active(connections) {
		t.Error("edges sleep")
	}
}
