package scaffold

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/subjects"
)

// TestWhatIsWrittenCompilesAndPassesItsTest writes one function as a module of its own and others inside of that module, and runs what an author would run,
// without a network.
func TestWhatIsWrittenCompilesAndPassesItsTest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "poll-box")
	source := Source()
	if source == "" {
		t.Fatal("the source tree of this test is not found")
	}
	w, err := Write(Config{Name: "poll-box", Dir: dir, Module: "chat.example/poll-box", Source: source})
	if err != nil || !w.Module || w.Import != "chat.example/poll-box" || w.Missing != "" {
		t.Fatalf("it wrote %+v, %v", w, err)
	}
	// Names that Go has a use for.
	for _, name := range []subjects.Function{"range", "wire"} {
		w, err := Write(Config{Name: name, Dir: filepath.Join(dir, "more", string(name)), Events: name == "wire", Source: source})
		if err != nil || w.Module || w.Import != "chat.example/poll-box/more/"+string(name) || w.Missing != "" {
			t.Fatalf("it wrote %+v, %v", w, err)
		}
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "function.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := manifest.Parse(data); err != nil || m.Function != "poll-box" {
		t.Errorf("the manifest is that of %q: %v", m.Function, err)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "function.go")
	if err := os.WriteFile(own, []byte("package mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(Config{Name: "poll", Dir: dir}); err == nil || !strings.Contains(err.Error(), own+" is there already") {
		t.Errorf("the error is %v", err)
	}
	if data, err := os.ReadFile(own); err != nil || string(data) != "package mine" {
		t.Errorf("the file holds %q now, %v", data, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestNamesThatCannotBeUsedAreRefused(t *testing.T) {
	for name, want := range map[subjects.Function]string{
		"": "no name", "Poll": "no name", "1poll": "no name", "a_b": "no name", "a.b": "no name", "../up": "no name", "a\n": "no name",
		"{}": "no name", subjects.Function(strings.Repeat("a", 33)): "no name", "send": "of confab", "edge": "of confab", "operator": "of confab", "all": "all functions",
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := Write(Config{Name: name, Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", name, err, want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: something was written", name)
		}
	}
}

func TestTheModuleOfAnAuthor(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("module chat.example\n\ngo 1.26\n")
	if w, err := Write(Config{Name: "one", Dir: filepath.Join(dir, "one")}); err != nil || w.Missing != "go get "+confab+"@latest" {
		t.Errorf("in a module that does not know confab it wrote %+v, %v", w, err)
	}
	if _, err := Write(Config{Name: "two", Dir: filepath.Join(dir, "two"), Module: "other.example"}); err == nil || !strings.Contains(err.Error(), "leave --module out") {
		t.Errorf("a module in a module: %v", err)
	}
	for version, want := range map[string]string{"1.2.3": "require " + confab + " v1.2.3\n", "0.0.0-20261121-abc": "go 1.26.0\n"} {
		at := t.TempDir()
		w, err := Write(Config{Name: "three", Dir: at, Version: version})
		if err != nil || w.Missing != "go mod tidy" || w.Import != "example.com/three" {
			t.Errorf("with version %s it wrote %+v, %v", version, w, err)
		}
		if data, err := os.ReadFile(filepath.Join(at, "go.mod")); err != nil || !bytes.HasSuffix(data, []byte(want)) {
			t.Errorf("with version %s go.mod is %q, %v", version, data, err)
		}
	}
}

func TestThePackageOfAFunctionHasANameThatGoAllows(t *testing.T) {
	for name, want := range map[subjects.Function]string{"poll": "poll", "poll-box": "pollbox", "range": "rangefn", "main": "mainfn", "functions": "functionsfn", "s-tring": "stringfn"} {
		if got := packageName(name); got != want {
			t.Errorf("the package of %s is called %s, want %s", name, got, want)
		}
	}
}
