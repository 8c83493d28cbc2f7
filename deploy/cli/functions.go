package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// onFunctions is what can be done about functions, by the word behind confab functions.
var onFunctions = []command{
	{"replay", "hand entries to a function again, from a time on", replay},
	{"unregister", "forget a function that is not deployed any more", unregister},
	{"dead", "show what a function could not handle, hand it over again, or forget it", dead},
}

// aboutFunctions runs one of onFunctions, or shows what functions there are.
func aboutFunctions(ctx context.Context, c call) error {
	if len(c.args) > 0 {
		for _, action := range onFunctions {
			if action.name == c.args[0] {
				c.args = c.args[1:]
				return action.run(ctx, c)
			}
		}
	}
	if slices.Contains(c.args, "--help") {
		fmt.Fprintln(c.out, "confab functions shows what functions there are, and confab functions NAME one of them with its instances. Beside:")
		for _, action := range onFunctions {
			fmt.Fprintf(c.out, "  confab functions %-10s %s\n", action.name, action.help)
		}
		fmt.Fprintln(c.out)
	}
	return showFunctions(ctx, c)
}

// unregister takes a function out of the registry. What is up of it is answered as before; its consumers stay, with what waits in them.
func unregister(ctx context.Context, c call) error {
	config := newOperator()
	name, err := c.loadFunction("functions unregister", &config)
	if err != nil {
		return err
	}
	nc, ctx, done, err := config.connect(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Unregister(ctx, name); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s is not registered any more.\n", name)
	return err
}

// loadFunction reads the name of a function behind the words of a command, and the command's configuration from the flags behind it.
func (c call) loadFunction(words string, config any) (subjects.Function, error) {
	usage := words + " NAME"
	if slices.Contains(c.args, "--help") {
		_, err := c.load(usage, config)
		return "", err
	}
	if len(c.args) == 0 || strings.HasPrefix(c.args[0], "-") {
		return "", &process.UsageError{Err: fmt.Errorf("it is called as confab %s, and flags behind", usage)}
	}
	name, err := subjects.ParseFunction(c.args[0])
	if err != nil {
		return "", &process.UsageError{Err: fmt.Errorf("%q is no name of a function", c.args[0])}
	}
	c.args = c.args[1:]
	rest, err := c.load(usage, config)
	if err != nil {
		return "", err
	}
	return name, noArguments(words, rest)
}
