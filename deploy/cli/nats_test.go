package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// patience bounds every wait: far more than a slow machine needs.
const patience = 60 * time.Second

// done runs a command to its end.
func done(t *testing.T, args ...string) {
	t.Helper()
	if out, err := confab(t, args...); err != nil {
		t.Fatalf("confab %q: %v\n%s", args, err, out)
	}
}

// itself returns the program confab: this test, called by that name.
func itself(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("confab") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// trio is three servers of a cluster, each a process, from configurations that confab nats-config wrote.
type trio struct {
	t       *testing.T
	dir     string
	running [3]*exec.Cmd
	urls    [3]string
}

// member returns the number of a server by its name.
func member(name string) int { return int(name[len(name)-1] - '1') }

// startTrio writes the configurations and starts the servers.
func startTrio(t *testing.T) *trio {
	t.Helper()
	c := &trio{t: t, dir: filepath.Join(t.TempDir(), "nats")}
	var routes [3]string
	for i := range routes { // a server of a cluster wants to know the others before they are there
		reserved, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reserved.Close() }()
		routes[i] = reserved.Addr().String()
	}
	for i, route := range routes {
		done(t, "nats-config", "--out", c.dir, "--cluster", "c", "--server", fmt.Sprint("n", i+1), "--listen", "127.0.0.1:-1", "--cluster-listen", route,
			"--routes", strings.Join(routes[:], ","))
	}
	return c
}

// start starts the server of that number and waits until it says where it listens.
func (c *trio) start(i int) {
	c.t.Helper()
	name := fmt.Sprint("n", i+1)
	ports, log := filepath.Join(c.dir, name+".ports"), filepath.Join(c.dir, name+".log")
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	_ = os.Remove(ports) // of a server that was killed
	cmd := exec.Command(itself(c.t), "nats", "--config", filepath.Join(c.dir, "nats-server-"+name+".conf"), "--ports-file", ports)
	cmd.Stderr = output
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.running[i] = cmd
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log); err == nil && c.t.Failed() {
			c.t.Logf("%s wrote:\n%s", name, text)
		}
	})
	var found server.Ports
	for deadline := time.Now().Add(patience); ; {
		data, err := os.ReadFile(ports)
		if err == nil {
			if err := json.Unmarshal(data, &found); err != nil {
				c.t.Fatal(err)
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			c.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.urls[i] = found.Nats[0]
}

// connect connects as a user, to whichever servers there are.
func (c *trio) connect(user string) *nats.Conn {
	c.t.Helper()
	config := process.NATSConfig{URL: strings.Join(c.urls[:], ","), NKey: natsconfig.SeedFile(c.dir, user)}
	nc, _, err := config.Connect(user, functionstest.Log(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// leader returns the number of the server that leads a stream, once there is one.
func (c *trio) leader(nc *nats.Conn, stream string) int {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var info struct {
			Cluster struct{ Leader string }
		}
		answer, err := nc.Request(subjects.StreamInfo(stream), nil, time.Second)
		if err == nil && json.Unmarshal(answer.Data, &info) == nil && info.Cluster.Leader != "" {
			return member(info.Cluster.Leader)
		}
	}
	c.t.Fatalf("nobody leads %s", stream)
	return 0
}

// TestAClusterOfThreeServers starts three processes from generated configurations, stores through a function, kills one server with -9, lets another one leave, and stores on.
func TestAClusterOfThreeServers(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	for i := range c.running {
		c.start(i)
	}
	done(t, "declare", "--replicas", "3", "--nats-url", strings.Join(c.urls[:], ","), "--nats-nkey", natsconfig.SeedFile(c.dir, natsconfig.Deployer), "--wait", "2m")
	functionstest.RunEnv(t, functions.Env{NATS: c.connect("send"), Log: functionstest.Log(t)}, send.Function(send.Config{}))
	nc := c.connect("operator")
	caller, err := functions.NewCaller(c.connect("conversations"), functionstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caller.Close)
	conversation := subjects.Conversation("g.team")
	stored := 0
	storing := func(when string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		entry := wire.Append{Conversation: conversation, Kind: wire.KindPolicy, From: "ada", ClientID: functionstest.ClientID(), Body: json.RawMessage(`{"title":"T"}`)}
		for stored++; ; {
			posted, err := functions.Invoke[wire.Append, wire.Posted](ctx, caller, nil, "send", "append", entry)
			if err == nil && int(posted.Seq) == stored {
				return
			}
			if err == nil || ctx.Err() != nil {
				t.Fatalf("%s: entry %d is stored as %+v, %v", when, stored, posted, err)
			}
		}
	}
	storing("with three servers")
	stream := subjects.StreamOf(conversation)
	killed := c.leader(nc, stream)
	if err := c.running[killed].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.running[killed].Wait()
	storing("without its leader")
	c.start(killed)
	leaving := c.leader(nc, stream)
	if err := c.running[leaving].Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	storing("while its leader leaves")
	if err := c.running[leaving].Wait(); err != nil {
		t.Errorf("the server that was told to end: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.dir, fmt.Sprint("n", leaving+1, ".ports"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of its ports is still there: %v", err)
	}
	storing("without it")
}
