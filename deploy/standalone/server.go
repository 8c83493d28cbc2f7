package standalone

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/process"
)

// startTimeout bounds how long the embedded server may take to recover its store. A million messages take a few seconds; a disk that
// needs minutes is better reported than waited for in silence.
const startTimeout = 5 * time.Minute

// startServer starts the embedded NATS server on the data directory, with a user for each part, and waits until it takes connections.
func (c *Config) startServer(manifests []manifest.Manifest, log *slog.Logger, violated func(user string)) (*server.Server, error) {
	host, port, err := splitListen(c.NATSListen)
	if err != nil {
		return nil, fmt.Errorf("nats-listen: %w", err)
	}
	if !isLoopback(host) {
		return nil, errors.New("nats-listen must be a loopback address: it has no TLS, and whoever reaches it may look at everything; run a NATS server of your own and use --nats-url for a network")
	}
	text, names, err := c.serverConfig(net.JoinHostPort(host, strconv.Itoa(port)), manifests)
	if err != nil {
		return nil, err
	}
	var options server.Options
	if err := options.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	options.NoSigs = true
	options.SyncAlways = c.Profile != ProfileFast // without it a power cut may lose acknowledged messages
	if err := keepStore(c.Data); err != nil {
		return nil, err
	}
	srv, err := server.NewServer(&options)
	if err != nil {
		return nil, fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	srv.SetLoggerV2(natsLog{log.With("part", "nats"), names, violated}, false, false, false)
	go srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		srv.Shutdown()
		return nil, fmt.Errorf("the embedded NATS server is not ready after %s; its log says why", startTimeout)
	}
	return srv, nil
}

// splitListen splits host:port; an empty host means loopback, so that leaving it out never opens a port to the network.
func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not of the form host:port", listen)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no port from 0 to 65535", listen)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// natsLog passes the server's own log on. Its notices are life events of a part, so they are for debugging here.
type natsLog struct {
	log      *slog.Logger
	names    map[string]string // of users, by their public keys
	violated func(user string) // called for each refusal of a subject
}

func (l natsLog) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "text", text(format, v))
}
func (l natsLog) Debugf(format string, v ...any) { l.log.Debug("nats server", "text", text(format, v)) }
func (l natsLog) Tracef(format string, v ...any) { l.log.Debug("nats server", "text", text(format, v)) }
func (l natsLog) Warnf(format string, v ...any)  { l.log.Warn("nats server", "text", text(format, v)) }
func (l natsLog) Errorf(format string, v ...any) {
	line := text(format, v)
	if user, ok := violator(line, l.names); ok {
		l.log.Error(process.ViolationSeen, "nats-user", user, "text", line)
		l.violated(user)
		return
	}
	l.log.Error("nats server", "text", line)
}
func (l natsLog) Fatalf(format string, v ...any) { l.log.Error("nats server", "text", text(format, v)) }

func text(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
