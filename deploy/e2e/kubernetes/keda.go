package kubernetes

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
)

// The programs of KEDA.
const (
	operator = "keda-operator"
	adapter  = "keda-adapter"
)

// aggregation tells the API server who answers for external metrics. The service is one by name because an address on loopback may not be an endpoint.
const aggregation = `
apiVersion: v1
kind: Namespace
metadata: {name: keda}
---
apiVersion: v1
kind: Service
metadata: {name: keda-metrics-apiserver, namespace: keda}
spec: {type: ExternalName, externalName: %q}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: %s
  service: {name: keda-metrics-apiserver, namespace: keda, port: 6443}
`

// startKEDA makes KEDA's kinds known, starts its operator and its metrics adapter, and returns when the autoscaler can ask for external metrics.
func (c *Cluster) startKEDA(ctx context.Context) error {
	definitions, err := filepath.Glob(filepath.Join(c.home, "crds", "*.yaml"))
	if err != nil {
		return err
	}
	for _, path := range definitions {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, "", data); err != nil {
			return err
		}
	}
	asked := fmt.Sprintf(aggregation, c.network.control(3), base64.StdEncoding.EncodeToString(c.ca.pem))
	if err := c.Apply(ctx, "", []byte(asked)); err != nil {
		return err
	}
	if err := c.StartOperator(ctx); err != nil {
		return err
	}
	if err := c.startAdapter(); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return err
	}
	return c.answers(ctx, adapter, client, c.config.Host+"/apis/external.metrics.k8s.io/v1beta1")
}

// StartOperator starts KEDA's operator, again where it was killed, and returns when it is ready.
func (c *Cluster) StartOperator(ctx context.Context) error {
	root, err := c.kedaRoot(operator)
	if err != nil {
		return err
	}
	address := c.network.control(2)
	if err := c.launch(operator, root, kedaEnvironment, "--kubeconfig=/kubeconfig", "--zap-log-level=info", "--zap-encoder=console",
		"--metrics-bind-address="+address+":8080", "--health-probe-bind-address="+address+":8081", "--metrics-service-bind-address="+address+":9666",
		"--kube-api-qps=500", "--kube-api-burst=1000"); err != nil {
		return err
	}
	return c.answers(ctx, operator, http.DefaultClient, "http://"+address+":8081/readyz")
}

// KillOperator ends KEDA's operator as kill -9 does. StartOperator brings it back.
func (c *Cluster) KillOperator() error {
	c.control[operator].kill()
	return nil
}

func (c *Cluster) startAdapter() error {
	root, err := c.kedaRoot(adapter)
	if err != nil {
		return err
	}
	return c.launch(adapter, root, kedaEnvironment, "--kubeconfig=/kubeconfig", "--lister-kubeconfig=/kubeconfig",
		"--authentication-kubeconfig=/kubeconfig", "--authorization-kubeconfig=/kubeconfig", "--bind-address="+c.network.control(3), "--secure-port=6443",
		"--client-ca-file=/certs/ca.crt", "--tls-cert-file=/certs/tls.crt", "--tls-private-key-file=/certs/tls.key", "--cert-dir=/certs",
		"--port=0", "--metrics-service-address="+c.network.control(2)+":9666", "--zap-log-level=info", "--kube-api-qps=500", "--kube-api-burst=1000")
}

// kedaEnvironment is what KEDA reads from its pod's environment.
var kedaEnvironment = []string{"WATCH_NAMESPACE=", "POD_NAMESPACE=keda", "KEDA_CLUSTER_OBJECT_NAMESPACE=keda", "KUBECONFIG=/kubeconfig"}

// kedaRoot makes the root directory of one of KEDA's programs, with the names of the services, certificates for both ends of the connection between
// operator and adapter, and the way to the API server.
func (c *Cluster) kedaRoot(name string) (string, error) {
	root := filepath.Join(c.dir, name)
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	id, err := c.ca.issue(name, nil, c.network.control(2), c.network.control(3), "keda-metrics-apiserver.keda.svc")
	if err != nil {
		return "", err
	}
	if err := c.ca.save(filepath.Join(root, "certs"), id); err != nil {
		return "", err
	}
	if err := c.kubelet.services.join(root, "keda"); err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o777); err != nil {
		return "", err
	}
	config, err := c.kubeconfig(name, "system:masters")
	if err != nil {
		return "", err
	}
	return root, os.Rename(config, filepath.Join(root, "kubeconfig"))
}
