package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
)

// ClusterConfig says which machines are one confab, each with a NATS server inside. Messages are on three of them before they are acknowledged.
type ClusterConfig struct {
	Routes      []string `conf:"cluster" help:"where the embedded NATS servers of all machines listen for each other, host:port, three or more; empty = this machine stands alone"`
	Listen      string   `conf:"cluster-listen" help:"where the embedded NATS server of this machine listens for the others"`
	Server      string   `conf:"server" help:"name of this machine in the cluster, different from the others' and the same for good"`
	Keys        string   `conf:"nats-keys" help:"directory with the keys of NATS users and the password of the cluster, the same on every machine; empty = nats/keys in the directory of --data"`
	Certificate string   `conf:"cluster-tls-certificate" help:"PEM file with the certificate that the machines show each other, for client and server use"`
	Key         string   `conf:"cluster-tls-key" help:"PEM file with the key of that certificate"`
	CA          string   `conf:"cluster-tls-ca" help:"PEM file with what the certificates of the other machines are checked against"`
	Await       bool     `conf:"await-restore" help:"wait until confab restore has made the streams, instead of making empty ones; give it to every machine"`
}

// clusterName is what the servers of all machines call their cluster.
const clusterName = "confab"

// copies is on how many machines of a cluster everything is stored.
const copies = 3

// several reports whether there are several machines.
func (c *ClusterConfig) several() bool { return len(c.Routes) > 0 }

// validate returns an error that names the setting that is wrong.
func (c *ClusterConfig) validate() error {
	if !c.several() {
		if c.Listen != "" || c.Server != "" || c.Certificate != "" || c.Key != "" || c.CA != "" || c.Await {
			return errors.New("server, cluster-listen, cluster-tls-… and await-restore are for a machine of several, which cluster lists")
		}
		return nil
	}
	if len(c.Routes) < copies {
		return fmt.Errorf("cluster lists %d machines; it takes three or more, so that one may fail", len(c.Routes))
	}
	if (c.Certificate == "") != (c.Key == "") || (c.Certificate == "") != (c.CA == "") {
		return errors.New("cluster-tls-certificate, cluster-tls-key and cluster-tls-ca belong together")
	}
	if err := (&natsconfig.Cluster{Name: clusterName, Listen: c.Listen, Routes: c.Routes}).Validate(c.Server); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// addTo adds what makes the server one of several to its settings.
func (c *ClusterConfig) addTo(settings *natsconfig.Server, keys string) error {
	if !c.several() {
		return nil
	}
	password, err := natsconfig.RoutePassword(keys)
	if err != nil {
		return err
	}
	settings.Name = c.Server
	settings.Cluster = &natsconfig.Cluster{
		Name: clusterName, Listen: c.Listen, Routes: c.Routes, Password: password,
		TLS: natsconfig.TLS{Certificate: c.Certificate, Key: c.Key, CA: c.CA},
	}
	return nil
}

// checkStore refuses a store that a server would not recognise as its own and throw away: one that was kept alone in a cluster, and the other way round.
func (c *ClusterConfig) checkStore(data string) error {
	store := filepath.Join(natsDir(data), "jetstream")
	if _, err := os.Stat(filepath.Join(store, natsconfig.Account)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	metas, err := filepath.Glob(filepath.Join(store, "*", "_js_", "_meta_")) // what a server of a cluster keeps in its system account
	clustered := len(metas) > 0
	switch {
	case err != nil:
		return err
	case clustered && !c.several():
		return fmt.Errorf("the data in %s is one copy of a cluster's: start it with the --cluster of before", data)
	case !clustered && c.several():
		return fmt.Errorf("the data in %s is of a machine that stood alone, and a cluster would not keep it: take a backup, start the cluster on a new --data, and restore it there", data)
	}
	return nil
}

// waitTick is how often the cluster is looked at while this machine waits for it.
const waitTick = 250 * time.Millisecond

// declareTry bounds one try to declare the store of a cluster. A request that was sent while the servers had no leader is never answered.
const declareTry = 20 * time.Second

// join waits until enough machines are there, and makes the streams and buckets: whichever machine comes first does, and the others find them. It says on out whom it waits for, in a line for
// each change.
func (s *system) join(ctx context.Context, nc *nats.Conn, out io.Writer) error {
	said := ""
	say := func(reason string) {
		s.starting.Store(&reason)
		if reason != said {
			fmt.Fprintf(out, "confab %s\n", reason)
			said = reason
		}
	}
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	for {
		reason := s.missing()
		if reason == "" && s.config.Cluster.Await {
			reason = unrestored(ctx, nc)
		}
		if reason == "" {
			say("makes the streams and buckets, or finds them")
			try, cancel := context.WithTimeout(ctx, declareTry)
			err := s.declareAll(try, nc, jetstream.Profile{Replicas: copies})
			cancel()
			if err == nil || !errors.Is(err, jetstream.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			s.log.Debug("streams and buckets not declared yet", process.KeyErr, err)
			if reason = s.missing(); reason == "" {
				reason = "waits for all machines, which it takes to make the streams and buckets: " + s.present()
			}
		}
		say(reason)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// lookWithin bounds one look whether there is a store.
const lookWithin = time.Second

// unrestored returns that this machine waits for a restore, "" where there is a store.
func unrestored(ctx context.Context, nc *nats.Conn) string {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		return "waits for confab restore"
	}
	store.Close()
	return ""
}

// missing returns what this machine waits for before anything can be stored, "" for nothing.
func (s *system) missing() string {
	if !s.config.Cluster.several() {
		return ""
	}
	all := len(s.config.Cluster.Routes)
	need := all/2 + 1
	there := s.machines()
	if len(there) < need {
		reason := fmt.Sprintf("waits for %d of %d machines: %s", need, all, s.present())
		if s.natsLog.RefusedRoute() {
			reason += fmt.Sprintf("; another one has a different password of the cluster, so copy %s of one machine to all", s.config.keys())
		}
		return reason
	}
	if health := s.server.Healthz(&server.HealthzOptions{JSMetaOnly: true}); health.Error != "" {
		return fmt.Sprintf("waits until %d machines agree on a leader (%s)", len(there), health.Error)
	}
	return ""
}

// machines returns the names of the servers that this one sees, with its own.
func (s *system) machines() []string {
	names := []string{s.server.Name()}
	if routes, err := s.server.Routez(nil); err == nil {
		for _, r := range routes.Routes {
			names = append(names, r.RemoteName)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// present says in words which machines are there.
func (s *system) present() string {
	names := s.machines()
	if len(names) == 1 {
		return "there is only " + names[0]
	}
	return "there are " + strings.Join(names, ", ")
}
