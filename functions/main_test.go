package functions_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer starts a NATS server without streams, which ends with the test, and returns its URL.
func startServer(t testing.TB) string {
	t.Helper()
	ns := serve(t, server.RANDOM_PORT)
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	return ns.ClientURL()
}

func serve(t testing.TB, port int) *server.Server {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatalf("make a server: %v", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return ns
}

// connect returns a connection that is closed when the test ends; to a server of its own, or to the given URL.
func connect(t testing.TB, url ...string) *nats.Conn {
	t.Helper()
	if len(url) == 0 {
		url = []string{startServer(t)}
	}
	nc, err := nats.Connect(url[0], nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}
