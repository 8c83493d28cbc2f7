package deploy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestProgramsLinkOnlyWhatTheyNeed follows imports from the programs of functions, the edge and confab through the packages of this module. What
// those import from elsewhere is where a program gets heavy.
func TestProgramsLinkOnlyWhatTheyNeed(t *testing.T) {
	grpc := []string{"google.golang.org/grpc", "deploy/scaler"}
	heavy := append([]string{
		"github.com/gin-gonic/gin", "github.com/gorilla/websocket", "github.com/prometheus/client_golang",
		"github.com/nats-io/nats-server", "edge", "deploy/standalone", "deploy/ops",
	}, grpc...)
	imports, programs := links(t)
	for _, other := range []string{"edge/cmd/edge", "deploy/cmd/confab"} {
		if imports[other] == nil {
			t.Fatalf("there is no program %s", other)
		}
		programs[other] = grpc
	}
	for program, unwanted := range programs {
		if unwanted == nil {
			unwanted = heavy
		}
		for imported, by := range reach(program, imports) {
			for _, prefix := range unwanted {
				if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
					t.Errorf("%s links %s, through %s", program, imported, by)
				}
			}
		}
	}
}

// links returns what each package imports, and the programs of functions.
func links(t *testing.T) (imports map[string]map[string]bool, functions map[string][]string) {
	t.Helper()
	imports, functions = map[string]map[string]bool{}, map[string][]string{}
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		if strings.HasPrefix(src.path, "functions/cmd/") {
			functions[src.folder()] = nil
		}
		if imports[src.folder()] == nil {
			imports[src.folder()] = map[string]bool{}
		}
		for _, spec := range src.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			imports[src.folder()][strings.TrimPrefix(imported, module+"/")] = true
		}
	}
	if len(functions) < 6 {
		t.Fatalf("only %d programs of functions found", len(functions))
	}
	return imports, functions
}

// reach returns everything that a package imports, directly or through packages of this module, and through which one.
func reach(from string, imports map[string]map[string]bool) map[string]string {
	reached := map[string]string{}
	todo := []string{from}
	for len(todo) > 0 {
		by := todo[0]
		todo = todo[1:]
		for _, imported := range slices.Sorted(maps.Keys(imports[by])) {
			if _, seen := reached[imported]; !seen {
				reached[imported] = by
				todo = append(todo, imported)
			}
		}
	}
	return reached
}
