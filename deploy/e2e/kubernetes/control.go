package kubernetes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"k8s.io/client-go/dynamic"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"
)

// controllers are the ones that a cluster needs whose node never goes away and whose pods have no tokens. No controller for endpoints: an address on
// loopback may not be one, so the node keeps its own account of who serves what.
const controllers = "deployment-controller,replicaset-controller,statefulset-controller,job-controller,horizontal-pod-autoscaler-controller," +
	"disruption-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller"

// startControlPlane starts etcd, the API server and the controllers, and returns when the API server is ready.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	if err := c.startEtcd(); err != nil {
		return err
	}
	if err := c.startServer(); err != nil {
		return err
	}
	admin, err := c.kubeconfig("admin", "system:masters")
	if err != nil {
		return err
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", admin); err != nil {
		return err
	}
	c.config.QPS = -1 // no limit: tests come in bursts
	if c.core, err = core.NewForConfig(c.config); err != nil {
		return err
	}
	if c.objects, err = dynamic.NewForConfig(c.config); err != nil {
		return err
	}
	if c.kinds, err = newKinds(c.config); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return err
	}
	if err := c.answers(ctx, "kube-apiserver", client, c.config.Host+"/readyz"); err != nil {
		return err
	}
	return c.startControllers()
}

func (c *Cluster) startEtcd() error {
	clients, peers := "http://"+c.network.control(0)+":2379", "http://"+c.network.control(0)+":2380"
	return c.launch("etcd", "", nil, "--name=etcd", "--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=etcd="+peers)
}

// startServer starts the API server. It authorises everybody who has a certificate: what is tested here is confab, which has no rights in a cluster.
func (c *Cluster) startServer() error {
	dir, proxy := filepath.Join(c.dir, "kube-apiserver"), filepath.Join(c.dir, "proxy")
	server, err := c.ca.issue("kube-apiserver", nil, c.network.control(0), "kubernetes.default.svc")
	if err != nil {
		return err
	}
	if err := c.ca.save(dir, server); err != nil {
		return err
	}
	aggregator, err := c.ca.issue("aggregator", nil)
	if err != nil {
		return err
	}
	if err := c.ca.save(proxy, aggregator); err != nil {
		return err
	}
	accounts, err := serviceAccountKey(dir)
	if err != nil {
		return err
	}
	ca := filepath.Join(dir, "ca.crt")
	return c.launch("kube-apiserver", "", nil,
		"--etcd-servers=http://"+c.network.control(0)+":2379", "--bind-address="+c.network.control(0), "--secure-port=6443",
		"--tls-cert-file="+filepath.Join(dir, "tls.crt"), "--tls-private-key-file="+filepath.Join(dir, "tls.key"), "--client-ca-file="+ca,
		"--authorization-mode=AlwaysAllow", "--anonymous-auth=false", "--service-cluster-ip-range="+c.network.services(),
		"--endpoint-reconciler-type=none", "--enable-priority-and-fairness=false", "--profiling=false",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+accounts, "--service-account-signing-key-file="+accounts,
		"--requestheader-client-ca-file="+ca, "--requestheader-allowed-names=aggregator", "--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+filepath.Join(proxy, "tls.crt"), "--proxy-client-key-file="+filepath.Join(proxy, "tls.key"))
}

// startControllers starts the controller manager. Its autoscaler looks once a second and waits 5 s before it removes an instance, where a cluster's default
// is 15 s and 5 minutes.
func (c *Cluster) startControllers() error {
	config, err := c.kubeconfig("kube-controller-manager", "system:masters")
	if err != nil {
		return err
	}
	return c.launch("kube-controller-manager", "", nil, "--kubeconfig="+config, "--leader-elect=false", "--controllers="+controllers,
		"--bind-address="+c.network.control(1), "--secure-port=10257", "--kube-api-qps=500", "--kube-api-burst=1000",
		"--authentication-skip-lookup", "--horizontal-pod-autoscaler-sync-period=1s", "--horizontal-pod-autoscaler-downscale-stabilization=5s",
		"--cert-dir="+filepath.Join(c.dir, "kube-controller-manager"))
}

// answers waits until a program of the control plane answers at a URL. It gives up where the program has ended.
func (c *Cluster) answers(ctx context.Context, program string, client *http.Client, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := c.control[program].done
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := until(ctx, func(ctx context.Context) error { return ready(ctx, client, url) }); err != nil {
		return fmt.Errorf("%s is not ready: %w", program, err)
	}
	return nil
}

// ready says why a URL does not answer with 200.
func ready(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}

// kubeconfig writes what a client needs to sign in as a user and returns the file's path.
func (c *Cluster) kubeconfig(user string, groups ...string) (string, error) {
	id, err := c.ca.issue(user, groups)
	if err != nil {
		return "", err
	}
	config := api.NewConfig()
	config.Clusters["tests"] = &api.Cluster{Server: "https://" + c.network.control(0) + ":6443", CertificateAuthorityData: c.ca.pem}
	config.AuthInfos[user] = &api.AuthInfo{ClientCertificateData: id.certificate, ClientKeyData: id.key}
	config.Contexts["tests"] = &api.Context{Cluster: "tests", AuthInfo: user}
	config.CurrentContext = "tests"
	path := filepath.Join(c.dir, user+".kubeconfig")
	return path, clientcmd.WriteToFile(*config, path)
}

// serviceAccountKey makes the key that would sign the tokens of service accounts, which the API server does not start without.
func serviceAccountKey(dir string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "accounts.key")
	return path, os.WriteFile(path, block("EC PRIVATE KEY", der), 0o600)
}
