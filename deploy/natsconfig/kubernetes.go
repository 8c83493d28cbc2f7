package natsconfig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

// KubernetesFile is the name of the file that WriteKubernetes makes for kubectl apply.
const KubernetesFile = "kubernetes.yaml"

// The keys of the secret that NATS servers read.
const (
	accountsKey = "accounts.conf"  // what a server's configuration includes
	routeKey    = "route-password" // by which the servers of a cluster know each other
)

// secret is a Secret of Kubernetes.
type secret struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   metadata          `yaml:"metadata"`
	Type       string            `yaml:"type"`
	Data       map[string]string `yaml:"stringData"`
}

type metadata struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
}

// WriteKubernetes writes a seed for each user and the password of routes into a directory, which only this user of the machine can read, and one file with secrets for
// Kubernetes: <prefix>-<user> for each user that runs in the cluster, and <prefix>-server. People's users (operator, viewer, backup, restore) stay out of the cluster.
// Seeds and the password that are there stay.
func WriteKubernetes(dir, prefix string, users []User) error {
	keys, err := Keys(dir, users)
	if err != nil {
		return err
	}
	accounts, err := renderAccounts("", users, keys)
	if err != nil {
		return err
	}
	password, err := RoutePassword(dir)
	if err != nil {
		return err
	}
	all := []secret{newSecret(prefix+"-server", map[string]string{accountsKey: accounts, routeKey: password})}
	for _, u := range users {
		if slices.Contains([]string{Operator, Viewer, Backup, Restore, Supervisor, Admin}, u.Name) {
			continue
		}
		file := SeedFile(dir, u.Name)
		seed, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("seed of user %s: %w", u.Name, err)
		}
		all = append(all, newSecret(prefix+"-"+u.Name, map[string]string{filepath.Base(file): string(seed)}))
	}
	var b bytes.Buffer
	b.WriteString("# Written by confab nats-config, which writes it anew; the keys stay. It holds seeds: whoever reads one can be that user.\n")
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	for _, s := range all {
		if err := encoder.Encode(s); err != nil {
			return fmt.Errorf("write secret %s: %w", s.Metadata.Name, err)
		}
	}
	return replaceFile(filepath.Join(dir, KubernetesFile), b.Bytes())
}

func newSecret(name string, data map[string]string) secret {
	return secret{
		APIVersion: "v1", Kind: "Secret", Type: "Opaque", Data: data,
		Metadata: metadata{Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "confab"}},
	}
}
