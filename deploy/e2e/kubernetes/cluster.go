// Package kubernetes runs confab on a real Kubernetes control plane without containers: etcd, kube-apiserver, kube-controller-manager and KEDA as
// processes on loopback, and a kubelet of its own that runs the command of a pod's container as a process of this machine. The scheduling, the
// deployments, the autoscaler and KEDA are the real ones; images, networks and isolation are not.
//
// It needs Linux, and the programs that the script build makes.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// patience bounds every wait for something that takes a second or two when all is well.
const patience = time.Minute

// versions is the folder that the script build fills, in the cache.
const versions = "kubernetes-1.36.3-etcd-3.6.16-keda-2.21.0"

// Cluster is a running control plane with one node. Many goroutines may look at it and apply objects; starting and killing is for one.
type Cluster struct {
	dir     string // of this run: data, certificates, logs, pods
	home    string // of the programs
	network *network
	ca      *authority
	config  *rest.Config
	core    core.CoreV1Interface
	objects dynamic.Interface
	kinds   *kinds
	control map[string]*process // by the program's name
	kubelet *kubelet
}

// Start starts the control plane, KEDA and the node in a directory of the caller's, which holds all data and logs and should be empty. Images maps the last
// element of an image's name, without its tag, to the program that the image would hold; each is run as it is.
func Start(ctx context.Context, dir string, images map[string]string) (*Cluster, error) {
	home, err := programs()
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, home: home, control: map[string]*process{}}
	if err := c.start(ctx, images); err != nil {
		c.Stop()
		return nil, fmt.Errorf("%w\n%s", err, c.Logs())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, images map[string]string) (err error) {
	if c.network, err = takeNetwork(); err != nil {
		return err
	}
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	if err := c.startKubelet(ctx, images); err != nil {
		return err
	}
	return c.startKEDA(ctx)
}

// Stop ends everything that the cluster runs and waits for it. The directory stays.
func (c *Cluster) Stop() {
	if c.kubelet != nil {
		c.kubelet.stop()
	}
	for _, name := range []string{adapter, operator, "kube-controller-manager", "kube-apiserver", "etcd"} {
		if p := c.control[name]; p != nil {
			p.kill()
		}
	}
	if c.network != nil {
		c.network.free()
	}
}

// Logs returns the ends of the logs of the control plane and of the pods that are or were.
func (c *Cluster) Logs() string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(c.dir, "logs", "*"))
	for _, log := range logs {
		fmt.Fprintf(&all, "--- %s\n%s\n", filepath.Base(log), tail(log, 25))
	}
	return all.String()
}

// Resident returns the resident memory of each program of the control plane and of KEDA, in bytes.
func (c *Cluster) Resident() map[string]int64 {
	all := map[string]int64{}
	for name, p := range c.control {
		all[name] = p.resident()
	}
	return all
}

// programs returns the folder with the control plane's programs.
func programs() (string, error) {
	cache := os.Getenv("E2E_KUBERNETES_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "confab", "kubernetes")
	}
	home := filepath.Join(cache, versions)
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", operator, adapter} {
		if _, err := os.Stat(filepath.Join(home, "bin", name)); errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%s has no %s: `task e2e:kubernetes` builds the control plane first (20 minutes, once)", home, name)
		} else if err != nil {
			return "", err
		}
	}
	return home, nil
}

// launch runs a program of the control plane.
func (c *Cluster) launch(name, root string, env []string, args ...string) error {
	path := filepath.Join(c.home, "bin", name)
	if root != "" {
		if err := install(path, filepath.Join(root, name)); err != nil {
			return err
		}
		path = "/" + name
	}
	p, err := run(program{name: name, path: path, args: args, env: env, root: root, log: filepath.Join(c.dir, "logs", name)})
	if err == nil {
		c.control[name] = p
	}
	return err
}

// until asks again and again, more slowly with time, until ask says nil, and returns its last error when the patience is over.
func until(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
