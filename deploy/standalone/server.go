package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsserver"
)

// startServer starts the embedded NATS server on the data directory, with a user for each part, and waits until it takes connections.
func (c *Config) startServer(ctx context.Context, manifests []manifest.Manifest, log *slog.Logger, violated func(user string)) (*server.Server, natsserver.Log, error) {
	options, names, err := c.serverOptions(manifests)
	if err != nil {
		return nil, natsserver.Log{}, err
	}
	if err := keepStore(c.Data); err != nil {
		return nil, natsserver.Log{}, err
	}
	if err := c.Cluster.checkStore(c.Data); err != nil {
		return nil, natsserver.Log{}, err
	}
	own := natsserver.NewLog(log.With("part", "nats"), names, violated)
	srv, err := natsserver.Start(ctx, options, own)
	return srv, own, err
}

// serverOptions returns the options of the embedded server, and the names of its users by their public keys.
func (c *Config) serverOptions(manifests []manifest.Manifest) (*server.Options, map[string]string, error) {
	host, port, err := splitListen(c.NATSListen)
	if err != nil {
		return nil, nil, fmt.Errorf("nats-listen: %w", err)
	}
	if !isLoopback(host) {
		return nil, nil, errors.New("nats-listen must be a loopback address: it has no TLS, and whoever reaches it may look at everything; run a NATS server of your own and use --nats-url for a network")
	}
	text, names, err := c.serverConfig(net.JoinHostPort(host, strconv.Itoa(port)), manifests)
	if err != nil {
		return nil, nil, err
	}
	options := new(server.Options)
	if err := options.ProcessConfigString(text); err != nil {
		return nil, nil, fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	options.SyncAlways = c.Profile != ProfileFast // without it a power cut may lose acknowledged messages
	return options, names, nil
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
