package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/natsserver"
	"github.com/confab-im/confab/deploy/ops"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/source"
)

// natsDir returns where the embedded server keeps its store.
func natsDir(data string) string { return filepath.Join(data, "nats") }

// keysDir returns where the seeds of the users of the embedded server are.
func keysDir(data string) string { return filepath.Join(natsDir(data), "keys") }

// KeyFile returns the file with the seed of a user of the embedded NATS server, in a data directory that confab up has used.
func KeyFile(data, user string) string { return natsconfig.SeedFile(keysDir(data), user) }

// addressFile returns the file that says where the embedded server listens while it runs, and in a second line where the seeds are.
func addressFile(data string) string { return filepath.Join(natsDir(data), "address") }

// Local returns how a user reaches the embedded NATS server of the confab up that keeps a data directory, where one runs and the caller may read its keys.
func Local(data, user string) (config process.NATSConfig, ok bool) {
	address, err := os.ReadFile(addressFile(data))
	if err != nil {
		return config, false
	}
	url, keys, _ := strings.Cut(strings.TrimSpace(string(address)), "\n")
	key := natsconfig.SeedFile(cmp.Or(keys, keysDir(data)), user)
	if _, err := os.Stat(key); err != nil {
		return config, false
	}
	return process.NATSConfig{URL: url, NKey: key}, true
}

// manifests returns those of all functions that there may be beside this process.
func (s *system) manifests() ([]manifest.Manifest, error) {
	others, err := manifest.Files(s.config.Manifests)
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	return append(source.Manifests(s.own), others...), nil
}

// serverConfig returns the configuration of the embedded server, and the names of its users by their public keys. It makes keys that are missing.
func (c *Config) serverConfig(listen string, manifests []manifest.Manifest) (text string, names map[string]string, err error) {
	users, err := natsconfig.Users(manifests)
	if err != nil {
		return "", nil, err
	}
	users = natsconfig.WithAdmin(users)
	keys, err := natsconfig.Keys(c.keys(), users)
	if err != nil {
		return "", nil, fmt.Errorf("make the keys of the embedded NATS server: %w", err)
	}
	settings := natsconfig.Server{Listen: listen, StoreDir: natsDir(c.Data)}
	if c.NATSLook {
		settings.Anonymous = natsconfig.Viewer
	}
	if err := c.Cluster.addTo(&settings, c.keys()); err != nil {
		return "", nil, err
	}
	text, err = natsconfig.Render(settings, users, keys)
	names = make(map[string]string, len(keys))
	for name, key := range keys {
		names[key] = name
	}
	return text, names, err
}

// keepStore moves what a release without users stored, in the account that the server then has, to where the account with users looks for it.
func keepStore(data string) error {
	const without = "$G"
	store := filepath.Join(natsDir(data), "jetstream")
	if _, err := os.Stat(filepath.Join(store, natsconfig.Account)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Rename(filepath.Join(store, without), filepath.Join(store, natsconfig.Account))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move the store of an earlier release: %w", err)
	}
	return nil
}

func (s *system) startServer(ctx context.Context) error {
	if err := checkFree("nats-listen", s.config.NATSListen); err != nil {
		return err
	}
	if s.config.Profile == ProfileFast {
		s.log.Warn("the profile fast may lose acknowledged messages in a power cut")
	}
	refusals := ops.Violations(s.registry)
	manifests, err := s.manifests()
	if err != nil {
		return err
	}
	s.server, s.natsLog, err = s.config.startServer(ctx, manifests, s.log, func(user string) { refusals.WithLabelValues(user).Inc() })
	if err != nil {
		return err
	}
	keys, err := filepath.Abs(s.config.keys())
	if err == nil {
		err = os.WriteFile(addressFile(s.config.Data), []byte(s.server.ClientURL()+"\n"+keys+"\n"), 0o600)
	}
	if err != nil {
		s.stopServer()
		return fmt.Errorf("say where the embedded NATS server listens: %w", err)
	}
	return nil
}

// stopServer ends the embedded server. One of several hands over first what it leads, so that the others need not find out that it is gone.
func (s *system) stopServer() {
	_ = os.Remove(addressFile(s.config.Data)) // a command that finds it finds nobody there
	if s.config.Cluster.several() {
		natsserver.Leave(s.server)
		return
	}
	natsserver.Stop(s.server)
}

// as returns how a child process reaches NATS as a user: the embedded server over loopback, or the outside one as this process does.
func (s *system) as(user string) process.NATSConfig {
	if s.server == nil {
		return s.config.NATS
	}
	return process.NATSConfig{URL: s.server.ClientURL(), NKey: natsconfig.SeedFile(s.config.keys(), user)}
}

// connect returns a connection for the part that is the user of that name: within the process, or to the outside server.
func (s *system) connect(user string) (*nats.Conn, <-chan struct{}, error) {
	config, name := s.as(user), "im-"+user
	if s.server == nil {
		return config.Connect(name, s.log)
	}
	return config.Connect(name, s.log, nats.InProcessServer(s.server))
}
