package mutants_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/confab-im/confab/deploy/faultlab/check"
	"github.com/confab-im/confab/deploy/faultlab/mutants"
)

var every = flag.Bool("every", false, "run every mutant under faults, not only the first; takes minutes")

const root = "../../.."

func TestEveryMutantCanBeBuilt(t *testing.T) {
	for _, m := range mutants.All() {
		t.Run(m.Name, func(t *testing.T) {
			packages := map[string]bool{}
			for _, e := range m.Edits {
				packages["./"+path.Dir(e.File)] = true
			}
			for pkg := range packages {
				if err := m.Build(t.Context(), abs(t, root), t.TempDir(), os.DevNull, pkg); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// The first is run here, which needs no fault, and all of them by task mutants.
func TestMutantsAreCaught(t *testing.T) {
	if testing.Short() {
		return // what runs is another program, without the race detector
	}
	run := mutants.All()
	if !*every {
		run = run[:1]
	}
	for _, m := range run {
		t.Run(m.Name, func(t *testing.T) {
			dir := t.TempDir()
			program, out := filepath.Join(dir, "confab"), filepath.Join(dir, "run")
			if err := m.Build(t.Context(), abs(t, root), t.TempDir(), program, "./deploy/cmd/confab"); err != nil {
				t.Fatal(err)
			}
			said, err := exec.CommandContext(t.Context(), program, append([]string{"faultlab", "--out", out}, m.Args...)...).CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && exit.ExitCode() != 1 {
				t.Fatalf("%v\n%s", err, said)
			}
			data, err := os.ReadFile(filepath.Join(out, "verdict.json"))
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			var v check.Verdict
			if err := json.Unmarshal(data, &v); err != nil {
				t.Fatal(err)
			}
			found := map[check.Defect]int{}
			for _, f := range v.Findings {
				found[f.Defect]++
			}
			t.Logf("%s: %v", v.Result, found)
			if !slices.ContainsFunc(m.Caught, func(d check.Defect) bool { return found[d] > 0 }) {
				t.Errorf("nothing noticed that it does not %s: %s, %v", m.Lacks, v.Result, found)
			}
		})
	}
}

func abs(t *testing.T, path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
