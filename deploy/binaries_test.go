package deploy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestAFunctionsProgramLinksOnlyWhatItNeeds follows imports from the programs of functions through the packages of this module. What those
// import from elsewhere is where a program gets heavy.
func TestAFunctionsProgramLinksOnlyWhatItNeeds(t *testing.T) {
	heavy := []string{
		"github.com/gin-gonic/gin", "github.com/gorilla/websocket", "google.golang.org/grpc", "github.com/prometheus/client_golang",
		"github.com/nats-io/nats-server", "edge", "deploy/standalone", "deploy/ops",
	}
	imports := map[string]map[string]bool{}
	programs := map[string]bool{}
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		if strings.HasPrefix(src.path, "functions/cmd/") {
			programs[src.folder()] = true
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
	if len(programs) < 6 {
		t.Fatalf("only %d programs of functions found", len(programs))
	}
	for program := range programs {
		for imported, by := range reach(program, imports) {
			for _, prefix := range heavy {
				if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
					t.Errorf("%s links %s, through %s", program, imported, by)
				}
			}
		}
	}
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
