package deploy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/confab-im/confab"

// source is one parsed Go file of the repository.
type source struct {
	path string // from the root of the repository, with slashes
	set  *token.FileSet
	file *ast.File
}

func (s source) folder() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// sources parses every Go file of the repository in this process: what a tool prints would escape the test cache.
func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var found []source
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (strings.HasPrefix(name, ".") && path != root || name == "testdata" || name == "node_modules") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		found = append(found, source{filepath.ToSlash(relative), set, file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 20 {
		t.Fatalf("only %d Go files found below %s", len(found), root)
	}
	return found
}

// maxFile and maxFunction bound lines. What is longer says why with the words "long because" in its comment.
const (
	maxFile     = 500
	maxFunction = 70
	excuse      = "long because"
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, src := range sources(t) {
		if ast.IsGenerated(src.file) {
			continue
		}
		if lines := src.set.File(src.file.Pos()).LineCount(); lines > maxFile && !strings.Contains(comments(src.file), excuse) {
			t.Errorf("%s has %d lines; split it, or say in a comment that it is %s …", src.path, lines, excuse)
		}
		for _, decl := range src.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			start, end := src.set.Position(f.Pos()).Line, src.set.Position(f.End()).Line
			if end-start+1 > maxFunction && !strings.Contains(f.Doc.Text(), excuse) {
				t.Errorf("%s:%d: %s has %d lines; split it, or say in its comment that it is %s …", src.path, start, f.Name, end-start+1, excuse)
			}
		}
	}
}

func comments(file *ast.File) string {
	var all strings.Builder
	for _, group := range file.Comments {
		all.WriteString(group.Text())
	}
	return all.String()
}

func TestEveryPackageAndExportedNameHasAComment(t *testing.T) {
	documented := map[string]bool{}
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		if ast.IsGenerated(src.file) {
			continue
		}
		documented[src.folder()] = documented[src.folder()] || src.file.Doc.Text() != ""
		for _, decl := range src.file.Decls {
			for _, missing := range undocumented(decl) {
				t.Errorf("%s: %s is exported and has no comment", src.path, missing)
			}
		}
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment that says what it is for", folder)
		}
	}
}

// undocumented returns the exported functions, methods of exported types, and types of a declaration that have no comment. A group of
// constants or variables is documented by the comment of the group or of the line.
func undocumented(decl ast.Decl) []string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc.Text() == "" && (d.Recv == nil || ast.IsExported(receiver(d.Recv))) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var names []string
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc.Text()+s.Doc.Text() == "" {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && d.Doc.Text()+s.Doc.Text()+s.Comment.Text() == "" {
					names = append(names, s.Names[0].Name)
				}
			}
		}
		return names
	}
	return nil
}

func receiver(list *ast.FieldList) string {
	t := list.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func TestTheRootHoldsOnlyWhatItShould(t *testing.T) {
	allowed := map[string]bool{
		"functions": true, "edge": true, "subjects": true, "jetstream": true, "deploy": true, "docs": true,
		"go.mod": true, "go.sum": true, "Taskfile.yml": true, "README.md": true, "LICENSE": true, "CHANGELOG.md": true,
	}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !allowed[entry.Name()] && !strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s does not belong at the root of the repository", entry.Name())
		}
	}
}

func TestProgramsAreThin(t *testing.T) {
	for _, src := range sources(t) {
		if src.file.Name.Name != "main" {
			continue
		}
		if !strings.Contains(src.path, "/cmd/") || filepath.Base(src.path) != "main.go" {
			t.Errorf("%s: a program is <folder>/cmd/<program>/main.go", src.path)
		}
		if lines := src.set.File(src.file.Pos()).LineCount(); lines > 30 {
			t.Errorf("%s has %d lines; a program has at most 30 and no logic", src.path, lines)
		}
	}
}
