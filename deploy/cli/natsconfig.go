package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
)

// natsSettings is the configuration of confab nats-config.
type natsSettings struct {
	Out           string             `conf:"out" help:"the directory for the configuration and the seeds; seeds that are there stay"`
	Listen        string             `conf:"listen" help:"where the NATS server listens"`
	StoreDir      string             `conf:"store-dir" help:"where the NATS server keeps its data; empty = jetstream, or jetstream-NAME in a cluster, in the directory of --out"`
	Profile       standalone.Profile `conf:"profile" help:"standalone (synced before acknowledged) or fast (may lose acknowledged messages in a power cut)"`
	Manifests     []string           `conf:"manifests" help:"files function.yaml of functions beside confab's own"`
	Admin         bool               `conf:"admin" help:"make a user admin too, who may do everything"`
	Cluster       string             `conf:"cluster" help:"name of the cluster that the server is one of; empty = it stands alone. Run the command once for each server, on one directory"`
	Server        string             `conf:"server" help:"name of this server in its cluster"`
	ClusterListen string             `conf:"cluster-listen" help:"where the other servers of the cluster connect"`
	Routes        []string           `conf:"routes" help:"where all servers of the cluster listen for each other, host:port"`
	Certificate   string             `conf:"tls-certificate" help:"PEM file with the certificate of the server, which it shows to clients and to the other servers of its cluster"`
	Key           string             `conf:"tls-key" help:"PEM file with the key of that certificate"`
	CA            string             `conf:"tls-ca" help:"PEM file with what the certificates of the other servers are checked against"`
	KeysOnly      bool               `conf:"keys-only" help:"write the seeds and the password of a cluster, and no configuration: what confab up --cluster takes as --nats-keys"`
	Kubernetes    bool               `conf:"kubernetes" help:"write secrets for kubectl apply instead of the configuration of a server, which the Helm chart brings"`
	Prefix        string             `conf:"secret-prefix" help:"what the names of those secrets begin with, as the chart's nats.secrets"`
}

// Validate returns an error that names the setting that is wrong.
func (c *natsSettings) Validate() error {
	if c.Out == "" {
		return errors.New("--out must name a directory")
	}
	for name, address := range map[string]string{"listen": c.Listen, "cluster-listen": c.ClusterListen} {
		if _, _, err := net.SplitHostPort(address); err != nil && (address != "" || name == "listen") {
			return fmt.Errorf("--%s %q is not of the form host:port", name, address)
		}
	}
	if c.Profile != standalone.ProfileStandalone && c.Profile != standalone.ProfileFast {
		return fmt.Errorf("--profile %q is neither standalone nor fast", c.Profile)
	}
	if (c.Certificate == "") != (c.Key == "") || c.Cluster != "" && (c.Certificate == "") != (c.CA == "") {
		return errors.New("--tls-certificate and --tls-key belong together, and in a cluster --tls-ca too")
	}
	if c.Cluster == "" {
		if c.Server != "" || c.ClusterListen != "" || len(c.Routes) > 0 {
			return errors.New("--server, --cluster-listen and --routes are for the server of a cluster, which --cluster names")
		}
		return nil
	}
	return c.clusterOf().Validate(c.Server)
}

// clusterOf returns the cluster without its password.
func (c *natsSettings) clusterOf() *natsconfig.Cluster {
	return &natsconfig.Cluster{Name: c.Cluster, Listen: c.ClusterListen, Routes: c.Routes}
}

// natsConfig writes the configuration of a NATS server on which each program has a user with the least permissions.
func natsConfig(_ context.Context, c call) error {
	config := natsSettings{Listen: "127.0.0.1:4222", Profile: standalone.ProfileStandalone, Prefix: "confab-nats"}
	rest, err := c.load("nats-config", &config)
	if err != nil {
		return err
	}
	if err := noArguments("nats-config", rest); err != nil {
		return err
	}
	dir, err := filepath.Abs(config.Out)
	if err != nil {
		return err
	}
	manifests, err := readManifests(config.Manifests)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	users, err := natsconfig.Users(manifests)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	if config.Kubernetes {
		if err := natsconfig.WriteKubernetes(dir, config.Prefix, users); err != nil {
			return err
		}
		explainSecrets(c, dir)
		return nil
	}
	if config.KeysOnly {
		return writeKeys(c, dir, users)
	}
	server, err := config.serverIn(dir)
	if err != nil {
		return err
	}
	if config.Admin {
		users = natsconfig.WithAdmin(users)
	}
	if err := natsconfig.Write(dir, server, users); err != nil {
		return err
	}
	explainUsers(c, dir, server, users)
	return nil
}

// writeKeys writes what the machines of a cluster share, and no configuration.
func writeKeys(c call, dir string, users []natsconfig.User) error {
	if _, err := natsconfig.Keys(dir, natsconfig.WithAdmin(users)); err != nil {
		return err
	}
	if _, err := natsconfig.RoutePassword(dir); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.out, "The keys are in %s. Copy that directory to each machine, and give it to confab up as --nats-keys.\n", dir)
	return err
}

// serverIn returns what is written of the server into a directory.
func (c *natsSettings) serverIn(dir string) (server natsconfig.Server, err error) {
	server = natsconfig.Server{Name: c.Server, Listen: c.Listen, StoreDir: c.StoreDir, Fast: c.Profile == standalone.ProfileFast}
	if server.TLS, err = (natsconfig.TLS{Certificate: c.Certificate, Key: c.Key, CA: c.CA}).Absolute(); err != nil {
		return natsconfig.Server{}, err
	}
	own := "jetstream"
	if c.Cluster != "" {
		password, err := natsconfig.RoutePassword(dir)
		if err != nil {
			return natsconfig.Server{}, err
		}
		server.Cluster = c.clusterOf()
		server.Cluster.Password, server.Cluster.TLS = password, server.TLS
		own = "jetstream-" + c.Server
	}
	server.StoreDir = cmp.Or(server.StoreDir, filepath.Join(dir, own))
	if server.StoreDir, err = filepath.Abs(server.StoreDir); err != nil {
		return natsconfig.Server{}, err
	}
	return server, nil
}

// readManifests returns confab's own manifests and those in files.
func readManifests(files []string) ([]manifest.Manifest, error) {
	others, err := manifest.Files(files)
	if err != nil {
		return nil, fmt.Errorf("--manifests: %w", err)
	}
	return append(manifest.BuiltIn(), others...), nil
}

// explainUsers says what to do with what was written.
func explainUsers(c call, dir string, server natsconfig.Server, users []natsconfig.User) {
	url := "nats://" + server.Listen
	start := func(command, user string) {
		fmt.Fprintf(c.out, "  %-16s --nats-url %s --nats-nkey %s\n", command, url, natsconfig.SeedFile(dir, user))
	}
	file := filepath.Join(dir, server.File())
	fmt.Fprintf(c.out, "The server:\n  confab nats --config %s\n  nats-server -c %s   # the same with NATS's own program\n", file, file)
	if server.Cluster != nil {
		fmt.Fprintf(c.out, "\nThe other servers of the cluster: run this command again with their --server, --listen and --cluster-listen, and the same --out.\n")
	}
	fmt.Fprint(c.out, "\nThe programs:\n")
	if server.Cluster != nil {
		start("confab declare --replicas 3", natsconfig.Deployer)
	} else {
		start("confab declare", natsconfig.Deployer)
	}
	for _, u := range users {
		switch u.Name {
		case natsconfig.Deployer, natsconfig.Operator, natsconfig.Viewer, natsconfig.Supervisor, natsconfig.Admin: // the last is no program of its own
		default:
			start(u.Name, u.Name)
		}
	}
	fmt.Fprintf(c.out, "\nFor people:\n")
	start("confab invite", natsconfig.Operator)
	fmt.Fprintf(c.out, "  nats --server %s --nkey %s micro ls\n", url, natsconfig.SeedFile(dir, natsconfig.Viewer))
	fmt.Fprint(c.out, "\nThe directory holds secrets: a seed is all that a program needs to be that user.\n"+
		"After an upgrade run this command again, then nats-server --signal reload: permissions change, keys stay.\n")
}

// explainSecrets says what to do with the secrets for Kubernetes.
func explainSecrets(c call, dir string) {
	fmt.Fprintf(c.out, "The users of the cluster:\n  kubectl apply --filename %s\n\nFor people:\n", filepath.Join(dir, natsconfig.KubernetesFile))
	fmt.Fprintf(c.out, "  kubectl port-forward service/confab-nats 4222\n  confab invite --nats-nkey %s\n", natsconfig.SeedFile(dir, natsconfig.Operator))
	fmt.Fprint(c.out, "\nThe directory holds secrets: a seed is all that a program needs to be that user.\n"+
		"After an upgrade run this command again, apply the file, and let each server read it (nats-server --signal reload): permissions change, keys stay.\n")
}
