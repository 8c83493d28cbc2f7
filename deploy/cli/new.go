package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/scaffold"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// newThing writes the first files of a function, the one thing that there is to make.
func newThing(_ context.Context, c call) error {
	config := struct {
		Dir    string `conf:"dir" help:"the folder to make; empty = one with the name of the function"`
		Events string `conf:"events" help:"message: it works on the messages of conversations too; empty = on calls only"`
		Module string `conf:"module" help:"the path of the Go module, where the folder is in none yet; empty = example.com/NAME"`
	}{}
	var name string
	if len(c.args) > 0 && c.args[0] == "function" {
		if c.args = c.args[1:]; len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
			name, c.args = c.args[0], c.args[1:]
		}
	}
	rest, err := c.load("new function NAME", &config)
	if err != nil {
		return err
	}
	if name == "" || len(rest) > 0 {
		return &process.UsageError{Err: errors.New("it is called as confab new function NAME, and flags behind")}
	}
	if config.Events != "" && config.Events != string(wire.KindMessage) {
		return &process.UsageError{Err: fmt.Errorf("--events %q: there are first files for message only; what follows is yours to change", config.Events)}
	}
	written, err := scaffold.Write(scaffold.Config{
		Name: subjects.Function(name), Dir: config.Dir, Module: config.Module, Events: config.Events != "", Version: process.Version(), Source: scaffold.Source(),
	})
	if err != nil {
		return &process.UsageError{Err: err}
	}
	dir := written.Dir
	if here, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(here, dir); err == nil && filepath.IsLocal(relative) {
			dir = "./" + filepath.ToSlash(relative)
		}
	}
	fmt.Fprintf(c.out, "The function %s is in %s:\n", name, dir)
	for _, file := range written.Files {
		fmt.Fprintf(c.out, "  %s\n", file)
	}
	fmt.Fprintf(c.out, "\nTest it, and run it with everything else:\n  cd %s\n", dir)
	if written.Missing != "" {
		fmt.Fprintf(c.out, "  %s\n", written.Missing)
	}
	fmt.Fprintf(c.out, "  go test ./...\n  confab up --function .\nClients call %s.greet then.\n", name)
	return nil
}
