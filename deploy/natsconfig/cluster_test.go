package natsconfig

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.yaml.in/yaml/v3"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
)

// servers is how many NATS servers a cluster of the tests has.
const servers = 3

// startCluster starts servers that include what WriteKubernetes wrote, as those of the Helm chart do. Programs connect to any of them.
func startCluster(t *testing.T) *world {
	t.Helper()
	users, err := Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "nats"), logs: &lines{}, refusals: map[*nats.Conn]error{}}
	w.log = slog.New(slog.NewTextHandler(w.logs, nil))
	if err := WriteKubernetes(w.dir, "confab-nats", users); err != nil {
		t.Fatal(err)
	}
	data := secretNamed(t, filepath.Join(w.dir, KubernetesFile), "confab-nats-server")
	if err := os.WriteFile(filepath.Join(w.dir, accountsKey), []byte(data[accountsKey]), 0o600); err != nil {
		t.Fatal(err)
	}
	var routes, urls [servers]string
	var listen [servers]string
	for i := range servers { // a server of a cluster wants to know the others before they are there
		reserved, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listen[i] = reserved.Addr().String()
		routes[i] = fmt.Sprintf("nats-route://route:%s@%s", data[routeKey], listen[i])
		if err := reserved.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range servers {
		text := fmt.Sprintf(`server_name: n%d
listen: "127.0.0.1:-1"
jetstream {store_dir: %q}
cluster {
  name: "c"
  listen: %q
  authorization {user: route, password: %s}
  routes: [%s]
}
include %q
`, i, filepath.Join(w.dir, fmt.Sprint(i)), listen[i], data[routeKey], strings.Join(routes[:], ", "), accountsKey)
		path := filepath.Join(w.dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		options, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		options.NoSigs, options.NoLog = true, true
		running, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		running.Start()
		t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
		urls[i] = running.ClientURL()
	}
	w.url = strings.Join(urls[:], ",")
	return w
}

// declareOnCluster declares three copies of everything, as soon as the servers have a leader.
func declareOnCluster(ctx context.Context, t *testing.T, nc *nats.Conn) {
	t.Helper()
	for {
		within, cancel := context.WithTimeout(ctx, patience/3)
		err := jetstream.Declare(within, nc, jetstream.Profile{Replicas: servers})
		cancel()
		switch {
		case err == nil:
			return
		case !errors.Is(err, jetstream.ErrUnavailable):
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// secretNamed returns the data of a secret in a file of Kubernetes.
func secretNamed(t *testing.T, path, name string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	decoder := yaml.NewDecoder(file)
	for {
		var s secret
		if err := decoder.Decode(&s); err != nil {
			t.Fatalf("secret %s: %v", name, err)
		}
		if s.Metadata.Name == name {
			return s.Data
		}
	}
}

// TestAClusterServesTheseUsers is about what the servers of a cluster pass to each other: requests that changed their subjects on the way in, and answers.
func TestAClusterServesTheseUsers(t *testing.T) {
	t.Parallel()
	w := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	declareOnCluster(ctx, t, w.connect(Deployer))
	for _, f := range []functions.Function{
		send.Function(send.Config{}), history.Function(history.Config{}), conversations.Function(conversations.Config{}),
		receipts.Function(receipts.Config{}), presence.Function(presence.Config{}),
		auth.Function(auth.Config{Registration: "open", Password: auth.PasswordConfig{MemoryKiB: 64, Passes: 1}}),
	} {
		functionstest.RunEnv(t, functions.Env{NATS: w.connect(string(f.Name)), Log: w.log}, f)
	}
	url := w.edge(ctx)
	w.grown(ctx, url, w.operators(ctx))
	for _, line := range w.logs.with(process.ViolationLogged) {
		t.Error(line)
	}
}
