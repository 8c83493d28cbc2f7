package standalone

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/supervisor"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/subjects"
)

// Profile says what an acknowledgement survives.
type Profile string

// The profiles.
const (
	ProfileStandalone Profile = "standalone" // synced before it is acknowledged: survives kill -9 and a power cut
	ProfileFast       Profile = "fast"       // may lose acknowledged messages in a power cut
)

// Config is the configuration of confab up.
type Config struct {
	Log         process.LogConfig
	NATS        process.NATSConfig
	NATSListen  string        `conf:"nats-listen" help:"where the embedded NATS server listens, for the nats tool; loopback only"`
	NATSLook    bool          `conf:"nats-look" help:"whoever is on this machine may look at everything but secrets on the embedded NATS server, without a key, and change nothing"`
	OpsListen   string        `conf:"ops-listen" help:"where /livez, /readyz and /metrics answer; empty = nowhere"`
	Pprof       string        `conf:"pprof" help:"where /debug/pprof answers, profiles of this process for go tool pprof; loopback only; empty = nowhere"`
	Data        string        `conf:"data" help:"the directory that holds everything"`
	Profile     Profile       `conf:"profile" help:"standalone (synced before acknowledged) or fast (may lose acknowledged messages in a power cut)"`
	CacheMiB    int           `conf:"cache-mib" help:"memory, in MiB, for messages that were read lately; 0 = leave it to the Go runtime"`
	Owner       string        `conf:"owner" help:"the user whom the printed link signs in"`
	Functions   Place         `conf:"functions" help:"where functions run: inside (this process) or processes (child processes, started when there is work)"`
	IdleTimeout time.Duration `conf:"idle-timeout" help:"after how much time without calls a child process leaves"`
	SleepAll    bool          `conf:"sleep-all" help:"let child processes of every function leave, also of those whose function.yaml keeps one"`
	Function    []string      `conf:"function" help:"folder of a function of your own, with its function.yaml; it runs in child processes. May be given more than once"`
	Manifests   []string      `conf:"manifests" help:"files function.yaml of functions beside confab's own that are started elsewhere: they get users and keys"`
	Cluster     ClusterConfig
	Edge        edges.Config
	Auth        auth.Config

	environment []string // the settings of the functions in folders, NAME=value
}

// DefaultConfig returns the configuration without any setting: everything on loopback, data in the user's data directory.
func DefaultConfig() Config {
	front := edges.DefaultConfig()
	front.Drain = time.Second // there is no other edge to spare a rush, and somebody waits for Ctrl-C
	return Config{
		NATSListen:  "127.0.0.1:4222",
		NATSLook:    true,
		OpsListen:   "127.0.0.1:9090",
		Data:        DefaultData(),
		Profile:     ProfileStandalone,
		CacheMiB:    512,
		Owner:       "owner",
		Functions:   PlaceInside,
		IdleTimeout: supervisor.DefaultIdle,
		Edge:        front,
	}
}

// DefaultData returns the data directory without any setting: the one that the XDG base directory specification names for data of a user's programs.
func DefaultData() string {
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "confab")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "confab-data"
	}
	return filepath.Join(home, ".local", "share", "confab")
}

// keys returns the directory of the seeds of the users of the embedded server.
func (c *Config) keys() string { return cmp.Or(c.Cluster.Keys, keysDir(c.Data)) }

// Validate returns an error that names the setting that is wrong, and fills in the ways of registration: open on loopback, by invite elsewhere.
func (c *Config) Validate() error {
	if c.Profile != ProfileStandalone && c.Profile != ProfileFast {
		return fmt.Errorf("profile %q is neither standalone nor fast", c.Profile)
	}
	if c.CacheMiB < 0 {
		return errors.New("cache-mib must not be negative")
	}
	if host, _, err := net.SplitHostPort(c.Pprof); c.Pprof != "" && (err != nil || !isLoopback(host)) {
		return fmt.Errorf("pprof %q is not of the form host:port on loopback: whoever reads a profile sees what is in memory", c.Pprof)
	}
	if c.Data == "" {
		return errors.New("data must name a directory")
	}
	if _, err := subjects.ParseUser(c.Owner); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if err := c.validatePlace(); err != nil {
		return err
	}
	if c.NATS.URL != "" && c.Cluster.several() {
		return errors.New("cluster is for the embedded NATS server, and nats-url names another")
	}
	if err := c.Cluster.validate(); err != nil {
		return err
	}
	if err := c.Edge.Validate(); err != nil {
		return err
	}
	if c.Auth.Registration == "" {
		c.Auth.Registration = auth.RegistrationInvite
		if c.Edge.Loopback() {
			c.Auth.Registration = auth.RegistrationOpen
		}
	}
	return c.Auth.Validate()
}
