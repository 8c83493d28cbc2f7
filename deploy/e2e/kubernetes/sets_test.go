package kubernetes

import (
	"testing"

	api "k8s.io/api/core/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/confab-im/confab/deploy/e2e/kubernetes/charts"
)

// TestTheServerTakesTheChartWithAnyValues has the API server check what no test installs: three servers, certificates, an ingress, edges that are scaled.
func TestTheServerTakesTheChartWithAnyValues(t *testing.T) {
	const elsewhere = "values"
	if _, err := cluster.core.Namespaces().Create(t.Context(), &api.Namespace{ObjectMeta: meta1.ObjectMeta{Name: elsewhere}}, meta1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, values := range charts.Sets() {
		t.Run(name, func(t *testing.T) {
			objects, err := charts.Render(chartDir, release, elsewhere, values)
			if err != nil {
				t.Fatal(err)
			}
			if err := cluster.DryRun(t.Context(), elsewhere, objects); err != nil {
				t.Error(err)
			}
		})
	}
}
