// Package source turns a folder with a function.yaml into a program that can be started: by the command that its manifest names, in whatever language, or by
// building the Go package in it. It starts nothing itself.
package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/subjects"
)

// ManifestFile is the name of the file that says what the function in a folder is and needs.
const ManifestFile = "function.yaml"

// Program is a function whose program can be started.
type Program struct {
	Manifest manifest.Manifest
	Dir      string   // absolute; where the program runs
	Command  []string // the program, absolute, and its arguments
}

// Settings returns the names of the variables of the functions in some folders, as their manifests list them.
func Settings(folders []string) ([]string, error) {
	var all []string
	for _, folder := range folders {
		p, err := read(folder)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Manifest.Environment...)
	}
	return all, nil
}

// Open reads the manifests of the functions in some folders, and builds those that are written in Go; their programs are put into the folder cache. The error names
// what is wrong with the first that cannot be run, with all that the compiler says.
func Open(ctx context.Context, folders []string, cache string) ([]Program, error) {
	programs := make([]Program, len(folders))
	for i, folder := range folders {
		p, err := read(folder)
		if err != nil {
			return nil, err
		}
		programs[i] = p
	}
	if err := check(programs); err != nil {
		return nil, err
	}
	for i := range programs {
		if err := programs[i].ready(ctx, cache); err != nil {
			return nil, fmt.Errorf("function %s in %s: %w", programs[i].Manifest.Function, programs[i].Dir, err)
		}
	}
	return programs, nil
}

// Manifests returns the manifests of confab's own functions and of some more.
func Manifests(programs []Program) []manifest.Manifest {
	all := manifest.BuiltIn()
	for _, p := range programs {
		all = append(all, p.Manifest)
	}
	return all
}

func read(folder string) (Program, error) {
	dir, err := filepath.Abs(folder)
	if err != nil {
		return Program{}, err
	}
	file := filepath.Join(dir, ManifestFile)
	data, err := os.ReadFile(file)
	if err != nil {
		return Program{}, fmt.Errorf("a folder with a function needs its %s: %w", ManifestFile, err)
	}
	m, err := manifest.Parse(data)
	if err != nil {
		return Program{}, fmt.Errorf("%s: %w", file, err)
	}
	return Program{Manifest: m, Dir: dir}, nil
}

// check refuses functions that have one name, or that of a program of confab, and rights to what does not exist.
func check(programs []Program) error {
	dirs := map[subjects.Function]string{subjects.Everyone: "the name for all functions"}
	for _, m := range manifest.BuiltIn() {
		dirs[m.Function] = "confab"
	}
	for _, p := range programs {
		if other, taken := dirs[p.Manifest.Function]; taken {
			return fmt.Errorf("the function in %s is called %s, and so is that of %s: give it another name", p.Dir, p.Manifest.Function, other)
		}
		dirs[p.Manifest.Function] = p.Dir
	}
	_, err := natsconfig.Users(Manifests(programs))
	return err
}

// ready finds the command, or builds it.
func (p *Program) ready(ctx context.Context, cache string) error {
	if len(p.Manifest.Command) > 0 {
		return p.find()
	}
	return p.build(ctx, cache)
}

func (p *Program) find() error {
	program := p.Manifest.Command[0]
	if strings.ContainsRune(program, '/') && !filepath.IsAbs(program) {
		program = filepath.Join(p.Dir, filepath.FromSlash(program))
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("its command cannot be run: %w", err)
	}
	p.Command = append([]string{path}, p.Manifest.Command[1:]...)
	return nil
}

// build builds the command cmd/<function> of the folder, or the folder itself where it is a program.
func (p *Program) build(ctx context.Context, cache string) error {
	name := string(p.Manifest.Function)
	target := "./cmd/" + name
	if _, err := os.Stat(filepath.Join(p.Dir, "cmd", name)); err != nil {
		target = "."
		if found, _ := filepath.Glob(filepath.Join(p.Dir, "*.go")); len(found) == 0 {
			return fmt.Errorf("%s names no command, and there is no Go program either", ManifestFile)
		}
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("it is written in Go, which is not installed: %w", err)
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	program, err := filepath.Abs(filepath.Join(cache, name))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-o", program, target)
	cmd.Dir = p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		if text := strings.TrimSpace(string(out)); text != "" {
			err = errors.New(text)
		}
		return fmt.Errorf("go build %s:\n%w", target, err)
	}
	if info, err := os.Stat(program); err != nil || info.Mode()&0o111 == 0 {
		return fmt.Errorf("go build %s makes no program: it is not package main", target)
	}
	p.Command = []string{program}
	return nil
}
