package charts

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
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
)

// patience bounds every wait: far more than a slow machine needs.
const patience = time.Minute

// TestTheServersOfTheChartWork starts the servers of the StatefulSet in this process, with its variables and with the files that its volumes hold, as far as one machine can
// stand for three: addresses and directories are others. The deployer then makes three copies of every stream.
func TestTheServersOfTheChartWork(t *testing.T) {
	for name, values := range map[string]string{"by the presets": "", "with certificates": "{nats: {tlsSecret: nats-tls, caSecret: nats-tls}}"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, values)
			nc := c.connect(t, natsconfig.Deployer)
			declare(t, nc, len(c.urls))
			if encrypted := nc.TLSRequired(); encrypted != (values != "") {
				t.Errorf("encrypted: %v", encrypted)
			}
		})
	}
}

// declare makes every stream, as soon as the servers have a leader. A request that came before is never answered, so no try may take all the time there is.
func declare(t *testing.T, nc *nats.Conn, copies int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), patience/6)
		err := jetstream.Declare(ctx, nc, jetstream.Profile{Replicas: copies})
		cancel()
		if err == nil {
			return
		}
		if !errors.Is(err, jetstream.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// cluster is the servers of one rendering. Below root stand server, users and tls, as below /etc/nats.
type cluster struct {
	root, seeds, ca string // ca is "" where the servers have no certificate
	urls            []string
}

func newCluster(t *testing.T, values string) cluster {
	t.Helper()
	o := render(t, values)
	c := cluster{root: t.TempDir()}
	c.seeds = filepath.Join(c.root, "seeds")
	users, err := natsconfig.Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	if err := natsconfig.WriteKubernetes(c.seeds, "confab-nats", users); err != nil {
		t.Fatal(err)
	}
	data := secretData(t, filepath.Join(c.seeds, natsconfig.KubernetesFile), "confab-nats-server")
	write(t, filepath.Join(c.root, "users", "accounts.conf"), data["accounts.conf"])
	writeCertificate(t, filepath.Join(c.root, "tls"))
	config := o.configs["confab-nats"].Data["nats-server.conf"]
	write(t, filepath.Join(c.root, "server", "nats-server.conf"), strings.ReplaceAll(config, "/etc/nats/tls", filepath.Join(c.root, "tls")))
	if strings.Contains(config, "tls {") {
		c.ca = filepath.Join(c.root, "tls", "ca.crt")
	}
	stateful := o.named(t, "confab-nats")
	routes := ports(t, int(*stateful.replicas))
	for i := range routes {
		setEnvironment(t, stateful.template.Spec.Containers[0], i, routes, data["route-password"])
		c.urls = append(c.urls, c.start(t, i, data["route-password"]))
	}
	return c
}

// start starts the server of a number and returns its address.
func (c cluster) start(t *testing.T, i int, password string) string {
	t.Helper()
	options, err := server.ProcessConfigFile(filepath.Join(c.root, "server", "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if options.LameDuckDuration != 30*time.Second || !options.SyncAlways || options.JetStreamMaxStore != 9216<<20 || options.JetStreamMaxMemory != 256<<20 ||
		options.PidFile != "/var/run/nats/nats.pid" || options.StoreDir != "/data" || len(options.Routes) != 3 ||
		options.Cluster.Username != "route" || options.Cluster.Password != password {
		t.Errorf("server %d reads %+v", i, options)
	}
	options.StoreDir, options.PidFile, options.NoSigs, options.NoLog, options.SyncAlways = filepath.Join(c.root, fmt.Sprint(i)), "", true, true, false
	running, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	return running.ClientURL()
}

// connect connects as a user, in the way of all programs.
func (c cluster) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	config := process.NATSConfig{URL: strings.Join(c.urls, ","), NKey: natsconfig.SeedFile(c.seeds, user), CA: c.ca}
	nc, _, err := config.Connect(user, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// setEnvironment sets the variables of a container as the kubelet does, for the server of a number.
func setEnvironment(t *testing.T, c corev1.Container, i int, routes []string, password string) {
	t.Helper()
	values := map[string]string{"POD_IP": "127.0.0.1", "POD_NAME": fmt.Sprintf("confab-nats-%d", i), "NATS_ROUTE_PASSWORD": password}
	for _, variable := range c.Env {
		value := variable.Value
		for name, text := range values {
			value = strings.ReplaceAll(value, "$("+name+")", text)
		}
		for j, route := range routes {
			value = strings.ReplaceAll(value, fmt.Sprintf("confab-nats-%d.confab-nats-servers.chat.svc:6222", j), route)
		}
		switch {
		case variable.ValueFrom != nil && values[variable.Name] == "":
			t.Fatalf("%s comes from %+v", variable.Name, variable.ValueFrom)
		case variable.ValueFrom != nil:
			value = values[variable.Name]
		case variable.Name == "NATS_ROUTES":
			value = routes[i]
		case strings.HasPrefix(value, "0.0.0.0:"):
			value = "127.0.0.1:-1"
		case variable.Name == "GOMEMLIMIT":
			continue
		}
		t.Setenv(variable.Name, value)
	}
}

// ports returns addresses that are free: a server of a cluster wants to know the others before they are there.
func ports(t *testing.T, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		reserved, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reserved.Close() }()
		all[i] = reserved.Addr().String()
	}
	return all
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secretData returns what a secret in a file of several holds.
func secretData(t *testing.T, path, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var s corev1.Secret
		if err := yaml.UnmarshalStrict([]byte(document), &s); err != nil {
			t.Fatal(err)
		}
		if s.Name == name {
			return s.StringData
		}
	}
	t.Fatalf("there is no secret %s", name)
	return nil
}
