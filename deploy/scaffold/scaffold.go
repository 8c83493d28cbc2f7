// Package scaffold writes the first files of a function: code, test, manifest, README and program. What it writes compiles, passes its test and runs.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/subjects"
)

//go:embed templates
var templates embed.FS

// Config says what to write.
type Config struct {
	Name    subjects.Function // of the function; not that of another one, nor of a user on NATS
	Dir     string            // the folder of the function; "" = one with its name here
	Module  string            // the path of the module, where the folder is in none; "" = example.com/<name>
	Events  bool              // it works on the messages of conversations too
	Version string            // of confab, for the go.mod of a module; what is no release counts as unknown
	Source  string            // the source tree of confab, which stands in for a release; "" = none
}

// Written says what was written.
type Written struct {
	Dir     string   // the folder of the function
	Files   []string // from Dir, with slashes
	Import  string   // the path of its package
	Module  bool     // the folder became a module of its own
	Missing string   // what must be run in Dir before it compiles; "" = nothing
}

// Write writes the files of a function and changes none that is there: if one is, nothing is written and the error names it.
func Write(c Config) (Written, error) {
	if c.Dir == "" {
		c.Dir = string(c.Name)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return Written{}, err
	}
	around, err := moduleOf(dir)
	if err != nil {
		return Written{}, err
	}
	if c.Module != "" && around.path != "" {
		return Written{}, fmt.Errorf("%s is in the module %s already; leave --module out", dir, around.path)
	}
	w := Written{Dir: dir, Module: around.path == ""}
	files := map[string][]byte{}
	if w.Module {
		w.Import = c.Module
		if w.Import == "" {
			w.Import = "example.com/" + string(c.Name)
		}
		if files, err = c.moduleFiles(w.Import); err != nil {
			return Written{}, err
		}
		if c.Source == "" {
			w.Missing = "go mod tidy"
		}
	} else {
		w.Import = around.path + around.below
		if !around.knows {
			w.Missing = "go get " + confab + "@latest"
		}
	}
	if err := c.render(w.Import, files); err != nil {
		return Written{}, err
	}
	for name := range files {
		w.Files = append(w.Files, name)
	}
	slices.Sort(w.Files)
	return w, write(dir, w.Files, files)
}

// render adds the files that every function has.
func (c Config) render(importPath string, files map[string][]byte) error {
	words := struct {
		Name           subjects.Function
		Package        string
		Import, Confab string
		Events         bool
	}{c.Name, packageName(c.Name), importPath, confab, c.Events}
	for _, name := range []string{"function.yaml", "function.go", "manifest.go", "function_test.go", "README.md", "main.go"} {
		t, err := template.ParseFS(templates, "templates/"+name+".tmpl")
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := t.Execute(&out, words); err != nil {
			return err
		}
		data := out.Bytes()
		switch {
		case name == "function.yaml":
			err = c.check(data) // before the name gets into code
		case strings.HasSuffix(name, ".go"):
			data, err = format.Source(data)
		}
		if err != nil {
			return err
		}
		if name == "main.go" {
			name = "cmd/" + string(c.Name) + "/main.go"
		}
		files[name] = data
	}
	return nil
}

// check reads the new manifest as whatever runs the function does, so that a name that cannot be used is refused before anything is written.
func (c Config) check(data []byte) error {
	m, err := manifest.Parse(data)
	if err != nil || m.Function != c.Name {
		return fmt.Errorf("%q is no name of a function: it must be of the form [a-z][a-z0-9-]{0,31}", c.Name)
	}
	if m.Function == subjects.Everyone {
		return fmt.Errorf("%q stands for all functions; choose another name", c.Name)
	}
	if _, err := natsconfig.Users(append(manifest.BuiltIn(), m)); err != nil {
		return fmt.Errorf("%q is the name of a program of confab; choose another one", c.Name)
	}
	return nil
}

// packageName returns a name for the package of a function: its own without hyphens, unless Go or the files themselves use the word.
func packageName(f subjects.Function) string {
	name := strings.ReplaceAll(string(f), "-", "")
	taken := []string{"main", "cmp", "context", "hex", "json", "fmt", "sha256", "strings", "jetstream", "testing", "functions", "wire", "process", "manifest", "functionstest", "jetstreamtest", "string", "error", "nil"}
	if token.IsKeyword(name) || slices.Contains(taken, name) {
		return name + "fn"
	}
	return name
}

func write(dir string, names []string, files map[string][]byte) error {
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			return fmt.Errorf("%s is there already; nothing was written", filepath.Join(dir, filepath.FromSlash(name)))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = file.Write(files[name])
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}
