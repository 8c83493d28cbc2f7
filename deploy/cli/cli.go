// Package cli holds the commands of the program confab. A command reads its configuration, calls the package that does the work, and prints;
// it decides nothing about chat.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/confab-im/confab/deploy/process"
)

// command is one word behind confab.
type command struct {
	name, help string
	run        func(ctx context.Context, c call) error
}

// call is what a command gets from its caller.
type call struct {
	args []string
	env  []string
	in   io.Reader
	out  io.Writer // what was asked for
	note io.Writer // what is said beside it
}

// source is where the configuration of a command comes from.
func (c call) source() process.Source {
	return process.Source{Args: c.args, Env: c.env, Help: c.out}
}

// commands is set by init because help, one of them, lists them all.
var commands []command

func init() {
	commands = []command{
		{"up", "start everything on this machine (what confab does without a command)", up},
		{"function", "run one instance of a function of confab: confab function NAME", function},
		{"edge", "run one edge", edgeProgram},
		{"nats", "run a NATS server from a file that confab nats-config wrote", natsServer},
		{"chat", "chat in the terminal: send, follow, history", chat},
		{"token", "make a token without a password, for development and scripts", token},
		{"invite", "make a link that lets people register", invite},
		{"declare", "make the streams and buckets on an outside NATS server", declare},
		{"nats-config", "write users, keys and permissions for an outside NATS server", natsConfig},
		{"functions", "show functions, replay one, or look at what it could not handle", aboutFunctions},
		{"backup", "copy everything into a file while others write: confab backup FILE", takeBackup},
		{"restore", "make a store out of a backup: confab restore FILE", restore},
		{"verify", "look whether what is stored contradicts itself", verify},
		{"new", "write the first files of a function of your own", newThing},
		{"faultlab", "break this program on purpose and check that nothing is lost", faultlab},
		{"bench", "measure this program, or a confab elsewhere, beside a floor", measure},
		{"errors", "explain an error code, or list them all", explain},
		{"version", "print the version", version},
		{"help", "list the commands", help},
	}
}

// Main runs the command that the command line of this process names.
func Main(ctx context.Context) error {
	return run(ctx, call{args: os.Args[1:], env: os.Environ(), in: os.Stdin, out: os.Stdout, note: os.Stderr})
}

func run(ctx context.Context, c call) error {
	name := "up"
	if len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		name, c.args = c.args[0], c.args[1:]
	}
	for _, command := range commands {
		if command.name == name {
			return command.run(ctx, c)
		}
	}
	return &process.UsageError{Err: fmt.Errorf("%q is no command; confab help lists them", name)}
}

func help(_ context.Context, c call) error {
	fmt.Fprintln(c.out, "Usage: confab [command] [flags]\n\nCommands:")
	for _, command := range commands {
		fmt.Fprintf(c.out, "  %-11s %s\n", command.name, command.help)
	}
	fmt.Fprintln(c.out, "\nconfab COMMAND --help lists the flags of a command.")
	return nil
}

// load fills config from the caller's flags and environment; an error is the caller's to mend. What else the environment says is for other commands,
// or for the program in whose container a command is run.
func (c call) load(name string, config any) (rest []string, err error) {
	source := c.source()
	source.Shared = true
	return loadFrom(source, name, config)
}

func loadFrom(source process.Source, name string, config any) (rest []string, err error) {
	rest, err = process.Load("confab "+name, config, source)
	if err != nil && err != process.ErrHelp {
		return nil, &process.UsageError{Err: err}
	}
	return rest, err
}
