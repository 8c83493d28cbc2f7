package subjects

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// name matches what only this package may spell out: subjects of confab, of buckets and of JetStream, and names of streams and buckets.
var name = regexp.MustCompile(`(^|[^a-z0-9._-])im\.[a-z*>%]|\$KV\.|\$JS\.|\$SYS\.|(^|[^A-Z0-9])IM_`)

// exceptions lists, by folder, what may stand there all the same, and why.
var exceptions = []struct {
	folder  string
	literal *regexp.Regexp
	why     string
}{
	{"jetstream", regexp.MustCompile(`^\$JS\.(API|ACK)\.`), "the requests of JetStream's own protocol, which nobody but its one client package makes"},
	{"deploy", regexp.MustCompile(`\bnats (-s \S+ )?sub '`), "commands that a program shows to people, who type them"},
}

// TestNamesAreWrittenHereOnly looks for names of NATS in string literals of other packages: what is written twice drifts apart, and a
// subject glued from strings takes ids that nobody checked. Tests, and what tests are made of, may spell names out, for that is how they
// notice a change.
func TestNamesAreWrittenHereOnly(t *testing.T) {
	root := repository(t)
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if base := d.Name(); relative != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Dir(relative) == "subjects" {
			return nil
		}
		files++
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range literals(t, relative, source) {
			t.Errorf("%s: build it with package subjects", found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("only %d files were read", files)
	}
}

func TestNamesInLiteralsAreFound(t *testing.T) {
	source := "package x\nimport _ \"im.example/x\"\n" +
		"const a, b, c, d, e, f, g, h = \"im.live.\", `$KV.IM_USERS.ada`, \"nats sub 'im.live.>'\", \"IM_JOBS\", \"dim.light\", \"swim.\", \"I am. here\", \"$JS.API.INFO\"\n" +
		"type T struct { X int `im.live.tag` }\n"
	if found := literals(t, "functions/x/x.go", []byte(source)); len(found) != 5 {
		t.Errorf("found %q", found)
	}
	if found := literals(t, "jetstream/x.go", []byte(source)); len(found) != 4 {
		t.Errorf("found %q in jetstream", found)
	}
}

// literals returns place and text of every name in a string literal of a Go file that no exception covers.
func literals(t *testing.T, path string, source []byte) []string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Logf("%s does not parse: %v", path, err) // the compiler says so better
		return nil
	}
	for _, spec := range file.Imports {
		if spec.Path.Value == `"testing"` {
			return nil // a suite that tests share
		}
	}
	folder, _, _ := strings.Cut(filepath.ToSlash(path), "/")
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			n.Tag = nil
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if n.Kind == token.STRING && err == nil && name.MatchString(text) && !excepted(folder, text) {
				found = append(found, set.Position(n.Pos()).String()+": "+n.Value)
			}
		}
		return true
	})
	return found
}

func excepted(folder, literal string) bool {
	for _, e := range exceptions {
		if e.folder == folder && e.literal.MatchString(literal) {
			return true
		}
	}
	return false
}

// repository returns the folder of go.mod.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = parent
	}
}
