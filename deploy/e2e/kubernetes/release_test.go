package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	api "k8s.io/api/core/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/confab-im/confab/deploy/e2e/kubernetes/charts"
	"github.com/confab-im/confab/deploy/e2e/kubernetes/work"
	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	confab "github.com/confab-im/confab/deploy/process"
)

// The release that the tests share, and where it stands.
const (
	release   = "confab"
	namespace = "chat"
	chartDir  = "../../chart"
)

// overrides is what the tests set in the chart: one NATS server, because disks are slow; every function may go to zero, soon; pods listen on their own address,
// since they share a machine; and what the suite needs.
const overrides = `
pods: {listen: "$(POD_IP)"}
nats: {replicas: 1}
edge:
  replicas: 1
  stopDelay: 1
  drain: 2s
  scaling: {enabled: false}
  environment: {CONFAB_LIMITS: none}
scaling:
  cooldown: 1
  behavior:
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 4, periodSeconds: 1}]}
    scaleDown: {stabilizationWindowSeconds: 3, policies: [{type: Percent, value: 100, periodSeconds: 1}]}
functions:
  sleep: all
  idle: 1s
  builtIn: {auth: {environment: {CONFAB_REGISTRATION: open}}}
`

// installation is the chart as it was installed.
type installation struct {
	nats, url string // where NATS and the edge's clients connect
	seeds     string // the directory with the seeds of all NATS users
}

// installed installs the chart, once for all tests.
var installed = sync.OnceValues(func() (*installation, error) {
	ctx := context.Background()
	i := &installation{seeds: filepath.Join(cluster.dir, "seeds")}
	if err := i.install(ctx); err != nil {
		return nil, err
	}
	for service, to := range map[string]*string{"nats": &i.nats, "edge": &i.url} {
		address, err := cluster.Address(ctx, namespace, release+"-"+service)
		if err != nil {
			return nil, err
		}
		*to = address
	}
	i.nats, i.url = "nats://"+i.nats+":4222", "http://"+i.url
	for _, part := range []string{"nats", "edge", "scaler"} {
		if err := until(ctx, func(ctx context.Context) error { return serving(ctx, part) }); err != nil {
			return nil, err
		}
	}
	return i, nil
})

// chat returns the installation, or ends the test.
func chat(t *testing.T) *installation {
	t.Helper()
	i, err := installed()
	if err != nil {
		t.Fatalf("install the chart: %v\n%s", err, cluster.Logs())
	}
	return i
}

// install does what the chart's README says: the users' secrets first, then the chart. The server is asked about all objects before any is stored.
func (i *installation) install(ctx context.Context) error {
	if _, err := cluster.core.Namespaces().Create(ctx, &api.Namespace{ObjectMeta: meta1.ObjectMeta{Name: namespace}}, meta1.CreateOptions{}); err != nil {
		return err
	}
	own, err := manifest.Parse([]byte(work.Manifest))
	if err != nil {
		return err
	}
	users, err := natsconfig.Users(append(manifest.BuiltIn(), own))
	if err != nil {
		return err
	}
	if err := natsconfig.WriteKubernetes(i.seeds, "confab-nats", natsconfig.WithAdmin(users)); err != nil {
		return err
	}
	secrets, err := os.ReadFile(filepath.Join(i.seeds, natsconfig.KubernetesFile))
	if err != nil {
		return err
	}
	objects, err := render("")
	if err != nil {
		return err
	}
	for _, text := range [][]byte{secrets, objects} {
		if err := cluster.DryRun(ctx, namespace, text); err != nil {
			return fmt.Errorf("dry run: %w", err)
		}
		if err := cluster.Apply(ctx, namespace, text); err != nil {
			return err
		}
	}
	return nil
}

// render renders the chart with the tests' values and more.
func render(more string) ([]byte, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(overrides+more), &values); err != nil {
		return nil, err
	}
	functions := values["functions"].(map[string]any)
	functions["own"] = map[string]any{"work": map[string]any{"image": "example.org/work:test", "manifest": work.Manifest}}
	text, err := yaml.Marshal(values)
	if err != nil {
		return nil, err
	}
	return charts.Render(chartDir, release, namespace, string(text))
}

// part selects the pods of one part of the release.
func part(name string) string {
	return "app.kubernetes.io/instance=" + release + ",app.kubernetes.io/component=" + name
}

// serving says why a part does not serve.
func serving(ctx context.Context, name string) error {
	pods, err := cluster.Pods(ctx, namespace, part(name))
	for i := range pods {
		if isReady(&pods[i]) {
			return err
		}
	}
	return cmp.Or(err, errors.New("no pod of "+name+" is ready"))
}

// connect connects to NATS as a user until the test ends.
func (i *installation) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	config := confab.NATSConfig{URL: i.nats, NKey: natsconfig.SeedFile(i.seeds, user)}
	nc, _, err := config.Connect("tests", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// said returns how often the function work said each thing that begins with a verb, over all instances that there ever were.
func said(t *testing.T, verb string) map[string]int {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(cluster.dir, "logs", namespace+"_"+release+"-work-*"))
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if what, found := strings.CutPrefix(strings.TrimSpace(line), verb+" "); found {
				times[what]++
			}
		}
	}
	return times
}
