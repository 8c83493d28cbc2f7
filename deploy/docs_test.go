package deploy

import (
	"bytes"
	"errors"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
)

// every is every function. TestEveryFunctionIsDocumented compares it with the folders.
var every = []functions.Function{
	auth.Function(auth.Config{}), conversations.Function(conversations.Config{}), history.Function(history.Config{}),
	presence.Function(presence.Config{}), receipts.Function(receipts.Config{}), send.Function(send.Config{}),
}

// texts returns the repository's Markdown files by their paths from the root, with slashes.
func texts(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (strings.HasPrefix(name, ".") && path != "." || name == "node_modules" || name == "testdata") {
			return fs.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(name, ".md") {
			found[path] = text(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 15 {
		t.Fatalf("only %d Markdown files found", len(found))
	}
	return found
}

// text returns a file of the repository.
func text(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	silent  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns what links to the headings of a text are called.
func anchors(markdown string) []string {
	var all []string
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(markdown, ""), -1) {
		all = append(all, strings.ReplaceAll(silent.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
	}
	return all
}

func TestLinksInTheDocsResolve(t *testing.T) {
	all := texts(t)
	for from, markdown := range all {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(markdown, ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(match[1], "#")
			target := from
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(from), file))
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s links to %s, which is not there", from, match[1])
			} else if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", from, match[1], target)
			}
		}
	}
}

// settings returns the names of all settings of all programs, which are flags and variables alike.
func settings(t *testing.T) map[string]bool {
	t.Helper()
	tag := regexp.MustCompile(`conf:"([a-z-]+)"`)
	all := map[string]bool{"config": true, "help": true}
	paths := []string{"deploy/scaffold/templates/function.go.tmpl"} // the function that the tutorial is about
	for _, src := range sources(t) {
		if !strings.HasSuffix(src.path, "_test.go") {
			paths = append(paths, src.path)
		}
	}
	for _, path := range paths {
		for _, match := range tag.FindAllStringSubmatch(text(t, path), -1) {
			all[match[1]] = true
		}
	}
	return all
}

func TestSettingsInTheDocsExist(t *testing.T) {
	known := settings(t)
	var (
		flag     = regexp.MustCompile(`(?:^|[\s(])` + "`?" + `--([a-z][a-z-]*)`)
		variable = regexp.MustCompile(`CONFAB_([A-Z_]*[A-Z])`)
		// Commands of other tools, in a line of their own or in a sentence, have flags of their own.
		foreign = regexp.MustCompile("(?m)(^ *|`)(nats|nats-server|go|task|kubectl|helm) [^`\n]*")
	)
	for _, match := range flag.FindAllStringSubmatch(foreign.ReplaceAllString(text(t, "deploy/README.md"), ""), -1) {
		if !known[match[1]] {
			t.Errorf("deploy/README.md names --%s, which no program has", match[1])
		}
	}
	all := texts(t)
	templates, err := filepath.Glob("chart/templates/*")
	if err != nil || len(templates) < 5 {
		t.Fatalf("the chart has the templates %v (%v)", templates, err)
	}
	for _, path := range templates {
		all["deploy/"+path] = text(t, "deploy/"+path)
	}
	for path, markdown := range all {
		for _, match := range variable.FindAllStringSubmatch(markdown, -1) {
			if name := strings.ReplaceAll(strings.ToLower(match[1]), "_", "-"); !known[name] {
				t.Errorf("%s names CONFAB_%s, which no program reads", path, match[1])
			}
		}
	}
}

// TestTheTableOfSettingsAgreesWithTheHelp reads the table of confab up: a row is a flag, its default and what it is for.
func TestTheTableOfSettingsAgreesWithTheHelp(t *testing.T) {
	config := standalone.DefaultConfig()
	var help bytes.Buffer
	if _, err := process.Load("confab up", &config, process.Source{Args: []string{"--help"}, Help: &help}); !errors.Is(err, process.ErrHelp) {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\|([^|]*)\\|")
	rows := row.FindAllStringSubmatch(text(t, "deploy/README.md"), -1)
	if len(rows) < 5 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	code := regexp.MustCompile("^`([^`]+)`$") // other defaults are described, not written
	for _, match := range rows {
		entry := regexp.MustCompile(`(?m)^  --` + match[1] + `( .*)?\n +(.*)$`).FindStringSubmatch(help.String())
		if entry == nil {
			t.Errorf("confab up --help has no --%s", match[1])
			continue
		}
		if preset := code.FindStringSubmatch(strings.TrimSpace(match[2])); preset != nil && !strings.HasSuffix(entry[2], "(default "+preset[1]+")") {
			t.Errorf("the table presets --%s with %s; the help says: %s", match[1], preset[1], entry[2])
		}
	}
}

func TestEveryFunctionIsDocumented(t *testing.T) {
	var folders, names []string
	for _, src := range sources(t) {
		parent, folder := filepath.Split(filepath.ToSlash(src.folder()))
		if parent == "functions/cmd/" && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	for _, f := range every {
		names = append(names, string(f.Name))
	}
	slices.Sort(folders)
	slices.Sort(names)
	if !reflect.DeepEqual(folders, names) {
		t.Errorf("functions/cmd holds the programs %v; this test, and so the docs, know %v", folders, names)
	}
	protocol := text(t, "subjects/PROTOCOL.md")
	for _, f := range every {
		name := string(f.Name)
		for path, row := range map[string]string{
			"docs/architecture.md": "| " + name + " |", "functions/README.md": "| `" + name + "` |", "deploy/README.md": "\n" + name + " ",
		} {
			if !strings.Contains(text(t, path), row) {
				t.Errorf("%s does not list the function %s", path, name)
			}
		}
		readme := text(t, "functions/"+name+"/README.md")
		for _, m := range f.Methods {
			if !strings.Contains(readme, "| `"+name+"."+string(m.Name)+"` |") {
				t.Errorf("functions/%s/README.md has no row for the method %s", name, m.Name)
			}
			if call := name + "." + string(m.Name); !strings.Contains(protocol, "`"+call+"`") && !strings.Contains(protocol, ", `"+string(m.Name)+"`") {
				t.Errorf("subjects/PROTOCOL.md does not name %s", call)
			}
		}
	}
}

// TestTestsThatTheDocsNameExist keeps the table of promises true: a test that is renamed or gone must not stand there as their proof.
func TestTestsThatTheDocsNameExist(t *testing.T) {
	there := map[string]bool{}
	for _, src := range sources(t) {
		for _, declared := range src.file.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && f.Recv == nil {
				there[f.Name.Name] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z][A-Za-z0-9_]*)`")
	count := 0
	for path, markdown := range texts(t) {
		for _, match := range named.FindAllStringSubmatch(markdown, -1) {
			if count++; !there[match[1]] {
				t.Errorf("%s names %s, which does not exist", path, match[1])
			}
		}
	}
	if count < 20 {
		t.Errorf("the docs name %d tests", count)
	}
}
