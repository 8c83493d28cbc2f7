package kubernetes

import (
	"testing"

	api "k8s.io/api/core/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/confab-im/confab/deploy/e2e/kubernetes/charts"
)

// TestTheServerAcceptsTheChart asks the API server, and KEDA's definitions in it, about the objects of the chart in many shapes. Nothing is stored.
func TestTheServerAcceptsTheChart(t *testing.T) {
	if _, err := cluster.core.Namespaces().Create(t.Context(), &api.Namespace{ObjectMeta: meta1.ObjectMeta{Name: "dry"}}, meta1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string]string{
		"as it is":           "",
		"everything sleeps":  "functions: {sleep: all}",
		"nothing sleeps":     "functions: {sleep: none}",
		"without KEDA":       "scaling: {enabled: false}",
		"one image for all":  "functions: {images: multicall}",
		"NATS from outside":  "nats: {enabled: false, url: 'tls://nats.example.org:4222', caSecret: authority}",
		"TLS everywhere":     "nats: {tlsSecret: nats-tls, caSecret: authority}\nedge: {tlsSecret: edge-tls}\nscaler: {tlsSecret: scaler-tls}",
		"with an ingress":    "edge: {ingress: {enabled: true, class: public, host: chat.example.org, tlsSecret: chat-tls}}",
		"with monitoring":    "network: {monitoring: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}",
		"a long name":        "fullnameOverride: the-instant-messaging-of-our-organisation",
		"without protection": "network: {enabled: false}\ndisruption: {enabled: false}\nnats: {users: false, replicas: 1}",
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := charts.Render(chartDir, release, "dry", values)
			if err != nil {
				t.Fatal(err)
			}
			if err := cluster.DryRun(t.Context(), "dry", objects); err != nil {
				t.Error(err)
			}
		})
	}
}
