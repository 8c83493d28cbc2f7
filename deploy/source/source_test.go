package source

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/confab-im/confab/deploy/scaffold"
)

// text is the manifest of a function that needs nothing.
const text = `function: poll
kind: call
methods: {vote: {public: true, timeout: 5s}}
concurrency: 1
scale: {min: 0, max: 1, wake: 1}
hold: 5s
resources: {cpu: 100m, memory: 64Mi}
`

// folder makes a folder of files, whose names stand before their contents.
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, filepath.FromSlash(files[i]))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestACommandOfAnyLanguage(t *testing.T) {
	dir := folder(t, ManifestFile, text+"command: [./run.sh, --fast]\n", "run.sh", "#!/bin/sh\necho ran in $PWD with $1\n")
	programs, err := Open(t.Context(), []string{dir}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := programs[0]
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Dir = p.Dir
	if out, err := cmd.Output(); err != nil || string(out) != "ran in "+dir+" with --fast\n" {
		t.Errorf("it wrote %q, %v", out, err)
	}
	if all := Manifests(programs); len(all) != 7 || all[6].Function != "poll" {
		t.Errorf("there are %d manifests", len(all))
	}
	dir = folder(t, ManifestFile, text+"command: [go, version]\n")
	if programs, err = Open(t.Context(), []string{dir}, t.TempDir()); err != nil || !filepath.IsAbs(programs[0].Command[0]) {
		t.Errorf("a program of the path: %v, %v", programs, err)
	}
}

func TestAGoProgramIsBuilt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vote-box")
	if _, err := scaffold.Write(scaffold.Config{Name: "vote-box", Dir: dir, Source: scaffold.Source()}); err != nil {
		t.Fatal(err)
	}
	plain := folder(t, ManifestFile, text, "main.go", "package main\n\nfunc main() { println(\"plain\") }\n", "go.mod", "module plain\n")
	cache := filepath.Join(t.TempDir(), "functions")
	programs, err := Open(t.Context(), []string{dir, plain}, cache)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"--greeting", "plain"} {
		out, err := exec.Command(programs[i].Command[0], "--help").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || filepath.Dir(programs[i].Command[0]) != cache {
			t.Errorf("%q wrote %q, %v", programs[i].Command, out, err)
		}
	}
	main := filepath.Join(dir, "function.go")
	if err := os.WriteFile(main, []byte("package votebox\n\nvar x int = \"text\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), []string{dir}, cache)
	for _, want := range []string{"function vote-box in " + dir, "function.go:3:13", "cannot use"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

func TestWhatCannotBeRunIsNamed(t *testing.T) {
	good := folder(t, ManifestFile, text+"command: [go]\n")
	named := func(name string) string {
		return folder(t, ManifestFile, strings.Replace(text, "poll", name, 1)+"command: [go]\n")
	}
	for name, c := range map[string]struct {
		folders []string
		want    string
	}{
		"no folder":              {[]string{filepath.Join(good, "none")}, "needs its function.yaml"},
		"a broken manifest":      {[]string{folder(t, ManifestFile, "function: [")}, "function.yaml: read a manifest"},
		"the name of confab's":   {[]string{named("send")}, "is called send, and so is that of confab: give it another name"},
		"the name of another":    {[]string{good, named("poll")}, "is called poll, and so is that of " + good},
		"the name of all":        {[]string{named("all")}, "the name for all functions"},
		"the name of a program":  {[]string{named("edge")}, "another user has that name"},
		"a call of nothing":      {[]string{folder(t, ManifestFile, text+"command: [go]\nnats: {calls: [vote.count]}\n")}, "no manifest has vote.count"},
		"a command that is not":  {[]string{folder(t, ManifestFile, text+"command: [./none]\n")}, "its command cannot be run"},
		"a program that is not":  {[]string{folder(t, ManifestFile, text+"command: [no-such-program]\n")}, "its command cannot be run"},
		"neither of both":        {[]string{folder(t, ManifestFile, text)}, "names no command, and there is no Go program either"},
		"a package, no program":  {[]string{folder(t, ManifestFile, text, "poll.go", "package poll\n", "go.mod", "module poll\n")}, "makes no program"},
		"a module without words": {[]string{folder(t, ManifestFile, text, "main.go", "package main\n", "go.mod", "")}, "go build .:\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(t.Context(), c.folders, t.TempDir()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}
