package deploy

import (
	"path"
	"strconv"
	"strings"
	"testing"
)

// arrows is the table of who may import whom: for each folder, the packages of this module and of others that its files may import beside the standard
// library. A longer folder wins over a shorter one. A pattern that ends in /... stands for a package and all below it.
var arrows = map[string][]string{
	"subjects":                {},
	"subjects/wire":           {"subjects"},
	"jetstream":               {"subjects", "subjects/wire", "github.com/nats-io/nats.go/..."},
	"jetstream/jetstreamtest": {"jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2/server"},
	"functions":               {"subjects", "subjects/wire", "github.com/nats-io/nats.go", "github.com/nats-io/nats.go/micro"},
	"functions/functionstest": {"functions", "subjects", "subjects/wire", "github.com/nats-io/nats.go", "github.com/google/uuid"},
	"functions/auth": {"functions", "jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go",
		"github.com/golang-jwt/jwt/v5", "golang.org/x/crypto/argon2"},
	"functions/send":          {"functions", "jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go"},
	"functions/history":       {"functions", "jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go"},
	"functions/conversations": {"functions", "jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go"},
	"functions/receipts":      {"functions", "jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go"},
	"functions/presence":      {"functions", "jetstream", "subjects", "subjects/wire", "github.com/nats-io/nats.go"},
	"functions/cmd":           {"functions/...", "deploy/process"},
	"edge": {"functions", "subjects", "subjects/wire", "github.com/nats-io/nats.go", "github.com/gin-gonic/gin", "github.com/gorilla/websocket",
		"github.com/prometheus/client_golang/prometheus"},
	"edge/client":      {"subjects", "subjects/wire", "github.com/gorilla/websocket"},
	"edge/web":         {},
	"edge/web/build":   {"github.com/evanw/esbuild/pkg/api"},
	"edge/web/webtest": {"github.com/chromedp/..."},
	"edge/web/cmd":     {"edge/web/build"},
	"edge/cmd":         {"deploy/edges", "deploy/process"},
	"deploy/process":   {"functions", "subjects", "github.com/nats-io/nats.go", "go.yaml.in/yaml/v3", "golang.org/x/term"},
	"deploy":           {"..."},
	"deploy/e2e/kubernetes": {"deploy/e2e/kubernetes/work", "deploy/process", "functions", "subjects/wire",
		"k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/client-go/..."}, // a module of its own; KEDA's objects are plain data there
	"deploy/e2e/kubernetes/charts": {"helm.sh/helm/v3/...", "sigs.k8s.io/yaml"},
}

func TestImportsPointOneWay(t *testing.T) {
	used := map[string]bool{}
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") {
			continue // tests may bring a server, a browser or a peer
		}
		row, allowed := rowOf(src.folder())
		used[row] = true
		for _, spec := range src.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if isStandard(imported) || allows(allowed, imported) {
				continue
			}
			t.Errorf("%s imports %s: that arrow is not in the table for %q", src.path, strings.TrimPrefix(imported, module+"/"), row)
		}
	}
	for row := range arrows {
		if !used[row] {
			t.Errorf("the table has a row for %q, where there is no package", row)
		}
	}
}

// TestOnlyOnePackageImportsTheJetStreamClient also covers tests: the two packages of that name never meet in one file.
func TestOnlyOnePackageImportsTheJetStreamClient(t *testing.T) {
	for _, src := range sources(t) {
		for _, spec := range src.file.Imports {
			if spec.Path.Value == `"github.com/nats-io/nats.go/jetstream"` && path.Dir(src.path) != "jetstream" {
				t.Errorf("%s imports the JetStream client; only package jetstream may", src.path)
			}
		}
	}
}

// TestOnlyTheScalerSpeaksGRPC also covers tests: everything else in confab speaks NATS.
func TestOnlyTheScalerSpeaksGRPC(t *testing.T) {
	for _, src := range sources(t) {
		if src.folder() == "deploy/cmd/scaler" || src.folder() == "deploy/scaler" || strings.HasPrefix(src.folder(), "deploy/scaler/") {
			continue
		}
		for _, spec := range src.file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			for _, module := range []string{"google.golang.org/grpc", "google.golang.org/protobuf"} {
				if imported == module || strings.HasPrefix(imported, module+"/") {
					t.Errorf("%s imports %s; only the scaler may", src.path, imported)
				}
			}
		}
	}
}

// rowOf returns the row of the table for a folder: its own, or that of the nearest folder above.
func rowOf(folder string) (string, []string) {
	for at := folder; at != "."; at = path.Dir(at) {
		if allowed, ok := arrows[at]; ok {
			return at, allowed
		}
	}
	return folder, nil
}

func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func allows(allowed []string, imported string) bool {
	imported = strings.TrimPrefix(imported, module+"/")
	for _, pattern := range allowed {
		if prefix, all := strings.CutSuffix(pattern, "..."); all && strings.HasPrefix(imported+"/", prefix) || pattern == imported {
			return true
		}
	}
	return false
}

// TestKubernetesStaysOutOfTheModule: what runs a cluster in tests has a module of its own, and what speaks to KEDA has its own words of the protocol.
func TestKubernetesStaysOutOfTheModule(t *testing.T) {
	for _, heavy := range []string{"k8s.io/", "kedacore/", "go.etcd.io/", "helm.sh/"} {
		if strings.Contains(text(t, "go.mod"), heavy) {
			t.Errorf("go.mod names %s", heavy)
		}
	}
}
