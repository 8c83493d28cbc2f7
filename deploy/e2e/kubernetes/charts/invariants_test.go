package charts

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
)

func TestWhatHoldsWithAnyValues(t *testing.T) {
	for name, values := range Sets() {
		t.Run(name, func(t *testing.T) {
			o := render(t, values)
			lint(t, values)
			checkNames(t, o)
			for _, p := range o.pods {
				checkPod(t, p)
				checkReferences(t, o, p)
			}
			checkScaled(t, o)
			checkServices(t, o)
			if !strings.Contains(name, "neither") {
				checkCover(t, o)
			}
		})
	}
}

// TestAJobNeverChanges: an upgrade that sent another spec under the same name would be refused.
func TestAJobNeverChanges(t *testing.T) {
	jobs := map[string]pod{}
	for name, values := range Sets() {
		for _, p := range render(t, values).pods {
			before, known := jobs[p.name]
			if p.kind == "Job" && known && !reflect.DeepEqual(before.template, p.template) {
				t.Errorf("with %s, %s is another one", name, p.name)
			}
			if p.kind == "Job" {
				jobs[p.name] = p
			}
		}
	}
	if len(jobs) < 5 {
		t.Errorf("there are only %d jobs for %d sets", len(jobs), len(Sets()))
	}
}

func lint(t *testing.T, values string) {
	t.Helper()
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	for _, err := range action.NewLint().Run([]string{chartDir}, given).Errors {
		t.Error(err)
	}
}

// checkNames looks for objects in each other's way.
func checkNames(t *testing.T, o objects) {
	t.Helper()
	seen := map[string]bool{}
	for _, object := range o.all {
		key := object.GetKind() + " " + object.GetName()
		if seen[key] || object.GetNamespace() != "chat" || object.GetLabels()["app.kubernetes.io/instance"] != "confab" {
			t.Errorf("%s is there twice, or in the namespace %q, or has the labels %v", key, object.GetNamespace(), object.GetLabels())
		}
		seen[key] = true
	}
}

func checkPod(t *testing.T, p pod) {
	t.Helper()
	spec := p.template.Spec
	security := spec.SecurityContext
	if security == nil || security.RunAsNonRoot == nil || !*security.RunAsNonRoot || security.RunAsUser == nil || *security.RunAsUser == 0 ||
		security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the security context of pods is %+v", p.name, security)
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken || spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Errorf("%s gets a token, or variables of services", p.name)
	}
	if !selects(t, p.selector, p) {
		t.Errorf("%s does not select its own pods", p.name)
	}
	for _, c := range spec.Containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") {
			t.Errorf("%s: the security context of the container is %+v", p.name, s)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: the resources are %+v", p.name, c.Resources)
		}
		if p.kind != "Job" && (c.LivenessProbe == nil || c.ReadinessProbe == nil) {
			t.Errorf("%s has no probes", p.name)
		}
		checkEnvironment(t, p, c)
	}
	if grace := spec.TerminationGracePeriodSeconds; p.kind != "Job" && (grace == nil || *grace < 10) {
		t.Errorf("%s has no time to end", p.name)
	}
}

// checkEnvironment looks for variables that are there twice or refer to later ones, which Kubernetes leaves as they are.
func checkEnvironment(t *testing.T, p pod, c corev1.Container) {
	t.Helper()
	seen := map[string]bool{}
	for _, variable := range c.Env {
		if seen[variable.Name] {
			t.Errorf("%s sets %s twice", p.name, variable.Name)
		}
		for rest := variable.Value; strings.Contains(rest, "$("); {
			_, rest, _ = strings.Cut(rest, "$(")
			if name, _, _ := strings.Cut(rest, ")"); !seen[name] {
				t.Errorf("%s: %s refers to %s, which does not stand before it", p.name, variable.Name, name)
			}
		}
		seen[variable.Name] = true
	}
}

// checkReferences looks for volumes, secrets and maps that nobody makes.
func checkReferences(t *testing.T, o objects, p pod) {
	t.Helper()
	volumes := map[string]bool{"data": p.kind == "StatefulSet"}
	for _, v := range p.template.Spec.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && o.configs[v.ConfigMap.Name].Name == "" {
			t.Errorf("%s needs the map %s", p.name, v.ConfigMap.Name)
		}
		if v.Secret != nil && strings.HasPrefix(v.Secret.SecretName, "confab-nats-") && !slices.Contains(secrets(t), v.Secret.SecretName) {
			t.Errorf("%s needs the secret %s, which nats-config does not write", p.name, v.Secret.SecretName)
		}
	}
	for _, m := range p.template.Spec.Containers[0].VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("%s mounts %s, which is no volume", p.name, m.Name)
		}
	}
}

// secrets returns the names of the secrets that nats-config writes.
func secrets(t *testing.T) []string {
	t.Helper()
	m, err := manifest.Parse([]byte(Foreign))
	if err != nil {
		t.Fatal(err)
	}
	users, err := natsconfig.Users(append(manifest.BuiltIn(), m))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := natsconfig.WriteKubernetes(dir, "confab-nats", users); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, natsconfig.KubernetesFile))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "  name: "); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// checkScaled compares what KEDA scales with the workloads.
func checkScaled(t *testing.T, o objects) {
	t.Helper()
	targets := map[string]bool{}
	for _, s := range o.scaled {
		target := text(s, "spec", "scaleTargetRef", "name")
		targets[target] = true
		if p := o.named(t, target); p.replicas != nil {
			t.Errorf("%s is scaled, and every upgrade would set its replicas to %d", target, *p.replicas)
		}
		least, most := number(t, s, "minReplicaCount"), number(t, s, "maxReplicaCount")
		idle, sleeps, _ := unstructured.NestedFieldNoCopy(s.Object, "spec", "idleReplicaCount")
		if least < 1 || most < least || sleeps && (idle != int64(0) && idle != float64(0)) {
			t.Errorf("%s has between %d and %d replicas, when idle %v", target, least, most, idle)
		}
	}
	for _, p := range o.pods {
		if p.kind == "Deployment" && !targets[p.name] && (p.replicas == nil || *p.replicas < 1) {
			t.Errorf("nobody scales %s, and it has the replicas %v", p.name, p.replicas)
		}
	}
}

func checkServices(t *testing.T, o objects) {
	t.Helper()
	for _, s := range o.services {
		for _, port := range s.Spec.Ports {
			found := false
			for _, p := range o.pods {
				if p.component() == s.Spec.Selector["app.kubernetes.io/component"] {
					found = found || hasPort(p, port.TargetPort.String())
				}
			}
			if !found {
				t.Errorf("service %s leads to the port %s, which no pod has", s.Name, port.TargetPort.String())
			}
		}
	}
}

func hasPort(p pod, name string) bool {
	return slices.ContainsFunc(p.template.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool { return c.Name == name })
}

// checkCover looks for pods without a policy for both directions, or without a budget.
func checkCover(t *testing.T, o objects) {
	t.Helper()
	for _, p := range o.pods {
		policies, budgets := 0, 0
		for _, policy := range o.policies {
			if selects(t, &policy.Spec.PodSelector, p) && len(policy.Spec.PolicyTypes) == 2 {
				policies++
			}
		}
		for _, budget := range o.budgets {
			if selects(t, budget.Spec.Selector, p) {
				budgets++
			}
		}
		if policies != 1 || p.kind != "Job" && budgets != 1 {
			t.Errorf("%s has %d policies and %d budgets", p.name, policies, budgets)
		}
	}
}

func text(o *unstructured.Unstructured, path ...string) string {
	found, _, _ := unstructured.NestedString(o.Object, path...)
	return found
}

func number(t *testing.T, o *unstructured.Unstructured, name string) int64 {
	t.Helper()
	found, ok, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", name)
	switch n := found.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	t.Fatalf("%s: %s is %v (%v)", o.GetName(), name, found, ok)
	return 0
}
