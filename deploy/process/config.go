package process

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins the name of every environment variable that a program of confab reads.
const EnvPrefix = "CONFAB_"

// configKey is the name of the setting that names the configuration file; it can stand in a flag or in the environment only. A program that has a setting of that
// name itself reads no such file.
const configKey = "config"

// ErrHelp is returned by Load after it has printed the help that was asked for.
var ErrHelp = flag.ErrHelp

// Source is where Load reads from. The zero value is an empty command line and environment.
type Source struct {
	Args   []string  // the command line without the program's name
	Env    []string  // as os.Environ returns it
	Help   io.Writer // where the help goes; nil = nowhere
	Shared bool      // Env holds settings of other programs too: a variable is an error only where it looks like a misspelt one of this program
}

// System returns the command line and the environment of this process, with help on standard output.
func System() Source { return Source{Args: os.Args[1:], Env: os.Environ(), Help: os.Stdout} }

// Load fills config, a pointer to a struct that holds the defaults, and returns what stands on the command line behind the flags. Flags
// win over the environment, which wins over the file, which wins over the defaults. A name that config does not have is an error, so that a misspelt
// setting is never silently without effect; an Adopter may know variables that it does not have. A flag of a list may be given more than once. Fields take part that have the tags conf:"name" and help:"sentence"; embedded structs and
// struct fields without a name are part of the same flat list.
func Load(program string, config any, src Source) (rest []string, err error) {
	fields, err := fieldsOf(config)
	if err != nil {
		return nil, err
	}
	flags, rest, err := parseFlags(program, fields, src)
	if err != nil {
		return nil, err
	}
	env, others := parseEnv(fields, src.Env)
	path := env[configKey]
	if given, ok := flags[configKey]; ok {
		path = given
	}
	if path != "" && !has(fields, configKey) {
		if err := loadFile(path, fields); err != nil {
			return nil, err
		}
	}
	for _, layer := range []struct {
		values map[string]string
		name   func(string) string
	}{{env, envName}, {flags, func(key string) string { return "--" + key }}} {
		for _, f := range fields {
			if text, ok := layer.values[f.name]; ok {
				if err := f.set(text); err != nil {
					return nil, fmt.Errorf("%s: %w", layer.name(f.name), err)
				}
			}
		}
	}
	if a, ok := config.(Adopter); ok && len(others) > 0 {
		if others, err = a.Adopt(others); err != nil {
			return nil, err
		}
	}
	for _, pair := range others {
		variable, _, _ := strings.Cut(pair, "=")
		meant, letters := nearest(keyOf(variable), fields)
		if src.Shared && letters > 1 {
			continue
		}
		return nil, fmt.Errorf("the environment sets %s, which is no setting of this program%s", variable, question(meant, letters))
	}
	if v, ok := config.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// Adopter is a configuration of a program that passes variables on to others. When all settings are read, Load hands it those variables of confab, as NAME=value,
// that are none of its settings; it keeps what is for others, and returns the rest, which is an error.
type Adopter interface {
	Adopt(variables []string) (unknown []string, err error)
}

func parseFlags(program string, fields []field, src Source) (map[string]string, []string, error) {
	values := map[string]string{}
	set := flag.NewFlagSet(program, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	note := func(name string) func(string) error {
		return func(text string) error { values[name] = text; return nil }
	}
	add := func(name string) func(string) error {
		return func(text string) error {
			if before, ok := values[name]; ok {
				text = before + "," + text
			}
			values[name] = text
			return nil
		}
	}
	for _, f := range fields {
		switch {
		case f.isBool():
			set.BoolFunc(f.name, "", note(f.name))
		case isStrings(f.value):
			set.Func(f.name, "", add(f.name))
		default:
			set.Func(f.name, "", note(f.name))
		}
	}
	if !has(fields, configKey) {
		set.Func(configKey, "", note(configKey))
	}
	err := set.Parse(src.Args)
	if errors.Is(err, flag.ErrHelp) {
		if src.Help != nil {
			writeHelp(src.Help, program, fields)
		}
		return nil, nil, ErrHelp
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w%s; --help lists all flags", err, suggestion(lastFlag(src.Args, fields), fields))
	}
	return values, set.Args(), nil
}

// lastFlag returns the first flag of args that is not the name of a field, for the suggestion.
func lastFlag(args []string, fields []field) string {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && !known(name, fields) {
			return name
		}
	}
	return ""
}

// parseEnv returns the values of fields, and what else of confab there is in the environment.
func parseEnv(fields []field, environ []string) (values map[string]string, others []string) {
	values = map[string]string{}
	for _, pair := range environ {
		variable, text, _ := strings.Cut(pair, "=")
		key := keyOf(variable)
		switch {
		case key == "":
		case known(key, fields):
			values[key] = text
		default:
			others = append(others, pair)
		}
	}
	return values, others
}

// keyOf returns the name of the setting that a variable is for, "" where it is not one of confab.
func keyOf(variable string) string {
	key, ours := strings.CutPrefix(variable, EnvPrefix)
	if !ours {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(key), "_", "-")
}

func loadFile(path string, fields []field) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	var nodes map[string]yaml.Node
	if err := yaml.Unmarshal(data, &nodes); err != nil {
		return fmt.Errorf("%s is not a YAML map of settings: %w", path, err)
	}
	for key, node := range nodes {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			return fmt.Errorf("%s:%d: %q is no setting of this program%s", path, node.Line, key, suggestion(key, fields))
		}
		if err := fields[i].setNode(&node); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", path, node.Line, key, err)
		}
	}
	return nil
}

func known(name string, fields []field) bool { return name == configKey || has(fields, name) }

func has(fields []field, name string) bool {
	return slices.ContainsFunc(fields, func(f field) bool { return f.name == name })
}

// Environment returns the names of the variables that set the fields of config, a pointer to a struct as Load takes it, in their order.
func Environment(config any) ([]string, error) {
	fields, err := fieldsOf(config)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = envName(f.name)
	}
	return names, nil
}

// Environ returns NAME=value for every field of config, a pointer to a struct as Load takes it, that is not empty, so that a program started with it as
// its environment has the same configuration.
func Environ(config any) ([]string, error) {
	fields, err := fieldsOf(config)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range fields {
		text, err := f.text()
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		if text != "" {
			all = append(all, envName(f.name)+"="+text)
		}
	}
	return all, nil
}

func envName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// suggestion asks whether a name that does not exist is a misspelt one of fields, where one is near enough.
func suggestion(name string, fields []field) string { return question(nearest(name, fields)) }

// nearest returns the name that is most like a given one, and by how many letters they differ.
func nearest(name string, fields []field) (best string, letters int) {
	letters = math.MaxInt
	for _, f := range fields {
		if d := editDistance(name, f.name); d < letters {
			best, letters = f.name, d
		}
	}
	return best, letters
}

func question(meant string, letters int) string {
	if letters > 2 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", meant)
}

// editDistance returns how many letters must be inserted, removed or replaced to make a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func writeHelp(w io.Writer, program string, fields []field) {
	if has(fields, configKey) {
		fmt.Fprintf(w, "Usage: %s [flags]\n\nEvery flag can also be set in the environment as %sNAME. A flag wins over the environment.\n\n", program, EnvPrefix)
	} else {
		fmt.Fprintf(w, "Usage: %s [flags]\n\nEvery flag can also be set in the environment as %sNAME, and in a YAML file as name: value.\nA flag wins over the environment, the environment over the file.\n\n", program, EnvPrefix)
		fmt.Fprintf(w, "  --%s FILE\n        the YAML file\n", configKey)
	}
	for _, f := range fields {
		fmt.Fprintf(w, "  --%s %s\n        %s", f.name, f.kind(), f.help)
		if preset := f.preset(); preset != "" {
			fmt.Fprintf(w, " (default %s)", preset)
		}
		fmt.Fprintln(w)
	}
}
