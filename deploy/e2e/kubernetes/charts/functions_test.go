package charts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/scaffold"
)

// functionsOf returns the manifests of confab's functions, and that of the one of one's own.
func functionsOf(t *testing.T) []manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse([]byte(Foreign))
	if err != nil {
		t.Fatal(err)
	}
	return append(manifest.BuiltIn(), m)
}

// TestFunctionsRunAsTheirManifestsSay is also about a function of one's own, whose manifest the templates read themselves.
func TestFunctionsRunAsTheirManifestsSay(t *testing.T) {
	for name, c := range map[string]struct {
		values string
		least  func(m manifest.Manifest) int
	}{
		"as they say": {Sets()["a function of one's own"], func(m manifest.Manifest) int { return m.Scale.Min }},
		"all asleep":  {strings.Replace(Sets()["a function of one's own"], "{own:", "{sleep: all, own:", 1), func(manifest.Manifest) int { return 0 }},
		"all awake":   {strings.Replace(Sets()["a function of one's own"], "{own:", "{sleep: none, own:", 1), func(m manifest.Manifest) int { return max(1, m.Scale.Min) }},
	} {
		t.Run(name, func(t *testing.T) {
			o := render(t, c.values)
			declared := strings.Join(job(t, o).template.Spec.Containers[0].Args, " ")
			for _, m := range functionsOf(t) {
				if scale := fmt.Sprintf("%s=%d:%d:%d", m.Function, c.least(m), m.Scale.Max, m.Scale.Wake); !strings.Contains(declared, scale) {
					t.Errorf("%q does not register %s", declared, scale)
				}
				p := o.named(t, "confab-"+string(m.Function))
				checkRun(t, p, m)
				for _, s := range o.scaled {
					if s.GetName() == p.name {
						checkScale(t, s, m, c.least(m))
					}
				}
			}
		})
	}
}

// What confab new function writes goes to a cluster as the tutorial says: its function.yaml as a value, and an image.
func TestAScaffoldedFunctionGetsAScaledObject(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wave")
	if _, err := scaffold.Write(scaffold.Config{Name: "wave", Dir: dir, Events: true, Source: scaffold.Source()}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "function.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	o := render(t, fmt.Sprintf("functions: {own: {wave: {image: registry.example/chat, manifest: %q}}}", text))
	checkRun(t, o.named(t, "confab-wave"), m)
	at := slices.IndexFunc(o.scaled, func(s *unstructured.Unstructured) bool { return s.GetName() == "confab-wave" })
	if at < 0 {
		t.Fatal("wave has no ScaledObject")
	}
	checkScale(t, o.scaled[at], m, 0)
}

// job returns the one job there is.
func job(t *testing.T, o objects) pod {
	t.Helper()
	at := slices.IndexFunc(o.pods, func(p pod) bool { return p.kind == "Job" })
	if at < 0 {
		t.Fatal("there is no job")
	}
	return o.pods[at]
}

// checkRun compares a workload with the manifest.
func checkRun(t *testing.T, p pod, m manifest.Manifest) {
	t.Helper()
	var longest time.Duration
	for _, method := range m.Methods {
		longest = max(longest, method.Timeout)
	}
	if grace := time.Duration(*p.template.Spec.TerminationGracePeriodSeconds) * time.Second; grace < longest+5*time.Second {
		t.Errorf("%s may take %s to end, and its longest call %s", p.name, grace, longest)
	}
	c := p.template.Spec.Containers[0]
	environment := map[string]string{}
	for _, variable := range c.Env {
		environment[variable.Name] = variable.Value
	}
	drain, err := time.ParseDuration(environment["CONFAB_DRAIN_TIMEOUT"])
	if err != nil || drain < longest || environment["CONFAB_CONCURRENCY"] != fmt.Sprint(m.Concurrency) {
		t.Errorf("%s drains for %q and works on %q calls at once", p.name, environment["CONFAB_DRAIN_TIMEOUT"], environment["CONFAB_CONCURRENCY"])
	}
	if want := "/etc/confab/nats/" + string(m.Function) + ".nk"; environment["CONFAB_NATS_NKEY"] != want {
		t.Errorf("%s connects as %s, not %s", p.name, environment["CONFAB_NATS_NKEY"], want)
	}
	if c.Resources.Requests.Cpu().String() != m.Resources.CPU || c.Resources.Limits.Memory().String() != m.Resources.Memory {
		t.Errorf("%s is given %v, its manifest asks for %v", p.name, c.Resources, m.Resources)
	}
}

// checkScale compares what KEDA is told with the manifest.
func checkScale(t *testing.T, s *unstructured.Unstructured, m manifest.Manifest, least int) {
	t.Helper()
	_, sleeps, _ := unstructured.NestedFieldNoCopy(s.Object, "spec", "idleReplicaCount")
	want := least
	if least == 0 {
		want = m.Scale.Wake
	}
	if sleeps != (least == 0) || number(t, s, "minReplicaCount") != int64(want) || number(t, s, "maxReplicaCount") != int64(m.Scale.Max) {
		t.Errorf("%s: sleeps %v, %d to %d; the manifest says %+v", m.Function, sleeps, number(t, s, "minReplicaCount"), number(t, s, "maxReplicaCount"), m.Scale)
	}
	triggers, _, _ := unstructured.NestedSlice(s.Object, "spec", "triggers")
	metadata, _, _ := unstructured.NestedStringMap(triggers[0].(map[string]any), "metadata")
	if len(triggers) != 1 || metadata["function"] != string(m.Function) || metadata["concurrency"] != fmt.Sprint(m.Concurrency) || number(t, s, "pollingInterval") != 1 {
		t.Errorf("%s: %d triggers, the first is %v", m.Function, len(triggers), triggers[0])
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"a misspelt value":             {"{edge: {replica: 3}}", "replica"},
		"a variable of nobody":         {"{functions: {builtIn: {send: {environment: {CONFAB_SPED: 1}}}}}", "send has no setting CONFAB_SPED"},
		"a secret variable of nobody":  {"{functions: {builtIn: {send: {secrets: [{name: CONFAB_SPED, secret: a, key: b}]}}}}", "send has no setting CONFAB_SPED"},
		"more to wake than there are":  {"{functions: {builtIn: {send: {scale: {wake: 9}}}}}", "1 ≤ wake ≤ max"},
		"a function without a scale":   {"{functions: {own: {a: {image: i}}}}", "functions.own.a.concurrency is missing"},
		"a function of confab's":       {"{functions: {own: {send: {image: i}}}}", "one of confab's own"},
		"a function called as a part":  {"{functions: {own: {edge: {image: i, concurrency: 1, drain: 5s, scale: {min: 0, max: 1, wake: 1}, resources: {cpu: 1, memory: 1Gi}}}}}", "name of something else"},
		"the manifest of another":      {"{functions: {own: {a: {image: i, manifest: 'function: b'}}}}", `function "b"`},
		"no address of servers":        {"{nats: {enabled: false}}", "nats.url"},
		"an ingress without a host":    {"{edge: {ingress: {enabled: true}}}", "edge.ingress.host"},
		"servers that leave too early": {"{nats: {lameDuck: 20s}}", "nats.lameDuck"},
		"two servers":                  {"{nats: {replicas: 2}}", "nats.replicas"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Render(chartDir, "confab", "chat", c.values); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}
