package standalone

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/jetstream"
)

const patience = 30 * time.Second

// TestWhatAReleaseWithoutUsersStoredIsThere starts a server as earlier releases did, stores, and starts one of this release on the same directory.
func TestWhatAReleaseWithoutUsersStoredIsThere(t *testing.T) {
	config := DefaultConfig()
	config.Data, config.NATSListen = t.TempDir(), "127.0.0.1:0"
	before, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(config.Data, "nats"), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	before.Start()
	nc, err := nats.Connect("", nats.InProcessServer(before))
	if err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("im.msg.p00.g.x", []byte(`{"text":"before"}`), patience); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	before.Shutdown()
	before.WaitForShutdown()

	for range 2 { // the second time there is nothing to move
		now, _, err := config.startServer(t.Context(), manifest.BuiltIn(), slog.New(slog.DiscardHandler), func(user string) { t.Errorf("%s was refused something", user) })
		if err != nil {
			t.Fatal(err)
		}
		s := system{config: config, server: now, log: slog.New(slog.DiscardHandler)}
		nc, _, err := s.connect(natsconfig.Viewer)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := nc.Request("$JS.API.DIRECT.GET.IM_MESSAGES_00", []byte(`{"seq":1}`), patience)
		if err != nil || !strings.Contains(string(answer.Data), "before") {
			t.Errorf("the message is %v, %v", answer, err)
		}
		nc.Close()
		now.Shutdown()
		now.WaitForShutdown()
	}
}
