// Package charts renders Helm charts as `helm template` does, without a cluster.
package charts

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// Render returns the objects of the chart in a directory as one YAML text, in the order in which they are to be applied. Values is YAML as well and wins over
// the chart's own. The error says what a template or the schema of the values refuses.
func Render(dir, release, namespace, values string) ([]byte, error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	for name := range files {
		if path.Ext(name) != ".yaml" {
			delete(files, name) // notes
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, err
	}
	var text []string
	for _, hook := range hooks {
		text = append(text, hook.Manifest)
	}
	slices.Reverse(text)
	for _, m := range manifests {
		text = append(text, m.Content)
	}
	return []byte(strings.Join(text, "\n---\n") + "\n"), nil
}
