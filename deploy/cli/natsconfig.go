package cli

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
)

// natsConfig writes the configuration of a NATS server on which each program has a user with the least permissions.
func natsConfig(_ context.Context, c call) error {
	config := struct {
		Out       string   `conf:"out" help:"the directory for the configuration and the seeds; seeds that are there stay"`
		Listen    string   `conf:"listen" help:"where the NATS server listens"`
		StoreDir  string   `conf:"store-dir" help:"where the NATS server keeps its data; empty = jetstream in the directory of --out"`
		Manifests []string `conf:"manifests" help:"files function.yaml of functions beside confab's own"`
		Cluster   bool     `conf:"kubernetes" help:"write secrets for kubectl apply instead of the configuration of a server, which the Helm chart brings"`
		Prefix    string   `conf:"secret-prefix" help:"what the names of those secrets begin with, as the chart's nats.secrets"`
	}{Listen: "127.0.0.1:4222", Prefix: "confab-nats"}
	rest, err := c.load("nats-config", &config)
	if err != nil {
		return err
	}
	if err := noArguments("nats-config", rest); err != nil {
		return err
	}
	if config.Out == "" {
		return &process.UsageError{Err: fmt.Errorf("--out must name a directory")}
	}
	if _, _, err := net.SplitHostPort(config.Listen); err != nil {
		return &process.UsageError{Err: fmt.Errorf("--listen %q is not of the form host:port", config.Listen)}
	}
	dir, err := filepath.Abs(config.Out)
	if err != nil {
		return err
	}
	if config.StoreDir == "" {
		config.StoreDir = filepath.Join(dir, "jetstream")
	}
	manifests, err := readManifests(config.Manifests)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	users, err := natsconfig.Users(manifests)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	if config.Cluster {
		if err := natsconfig.WriteKubernetes(dir, config.Prefix, users); err != nil {
			return err
		}
		explainSecrets(c, dir)
		return nil
	}
	if err := natsconfig.Write(dir, natsconfig.Server{Listen: config.Listen, StoreDir: config.StoreDir}, users); err != nil {
		return err
	}
	explainUsers(c, dir, config.Listen, users)
	return nil
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
func explainUsers(c call, dir, listen string, users []natsconfig.User) {
	url := "nats://" + listen
	start := func(command, user string) {
		fmt.Fprintf(c.out, "  %-16s --nats-url %s --nats-nkey %s\n", command, url, natsconfig.SeedFile(dir, user))
	}
	fmt.Fprintf(c.out, "The server:\n  nats-server -c %s\n\nThe programs:\n", filepath.Join(dir, natsconfig.ServerFile))
	start("confab declare", natsconfig.Deployer)
	for _, u := range users {
		switch u.Name {
		case natsconfig.Deployer, natsconfig.Operator, natsconfig.Viewer, natsconfig.Supervisor: // the last is no program of its own
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
