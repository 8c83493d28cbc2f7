package wire

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/confab-im/confab/subjects"
)

var update = flag.Bool("update", false, "rewrite the golden bodies, the schemas and the tables of PROTOCOL.md")

// golden compares text with a file, or rewrites the file.
func golden(t *testing.T, path string, text []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, text) {
		t.Errorf("%s differs; run the test with -update and look at what changed", path)
	}
}

// bodies returns every golden value by name.
func bodies() map[string]any {
	all := maps.Clone(requests)
	maps.Copy(all, answers)
	return all
}

func TestGoldenBodiesAreReadAndWrittenUnchanged(t *testing.T) {
	names := map[string]bool{}
	for name, value := range bodies() {
		text, err := Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		names[name+".json"] = true
		golden(t, filepath.Join("testdata", "golden", name+".json"), append(text, '\n'))
		fresh := reflect.New(reflect.TypeOf(value).Elem()).Interface()
		if err := json.Unmarshal(text, fresh); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := Marshal(fresh); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s became %s, %v", name, again, err)
		}
		if _, request := requests[name]; request {
			if err := Decode(text, reflect.New(reflect.TypeOf(value).Elem()).Interface()); err != nil {
				t.Errorf("%s as a request: %v", name, err)
			}
		}
		if strings.HasPrefix(name, "Frame") {
			if _, err := ParseFrame(text); err != nil {
				t.Errorf("%s as a frame: %v", name, err)
			}
		}
	}
	files, err := os.ReadDir(filepath.Join("testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f.Name()] {
			t.Errorf("%s belongs to no value", f.Name())
		}
	}
}

// internal lists the exported structs that are no bodies of their own.
var internal = []string{"CodeInfo", "EntryHeader"}

func TestEveryBodyHasAGoldenValue(t *testing.T) {
	have := map[string]bool{}
	for _, value := range bodies() {
		within(reflect.TypeOf(value), have)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			_, structure := spec.Type.(*ast.StructType)
			if structure && spec.Name.IsExported() && !have[spec.Name.Name] && !slices.Contains(internal, spec.Name.Name) {
				t.Errorf("%s has no golden value in bodies_test.go", spec.Name.Name)
			}
			return true
		})
	}
}

// within notes the names of t and of every struct below it.
func within(t reflect.Type, names map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		within(t.Elem(), names)
	case reflect.Struct:
		names[t.Name()] = true
		for i := range t.NumField() {
			within(t.Field(i).Type, names)
		}
	}
}

const (
	idPattern           = `^[a-z0-9][a-z0-9_-]{0,62}$`
	conversationPattern = `^(d\.[a-z0-9][a-z0-9_-]{0,62}\.[a-z0-9][a-z0-9_-]{0,62}|[gc]\.[a-z0-9][a-z0-9_-]{0,62})$`
	timePattern         = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`
)

// typeSchemas describes the types that JSON sees as bare strings, numbers or anything.
func typeSchemas() map[reflect.Type]*jsonschema.Schema {
	text := func(pattern string) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Pattern: pattern} }
	number := func(most float64) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "integer", Minimum: ptr(0.0), Maximum: ptr(most)}
	}
	enum := func(values ...any) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Enum: values} }
	codes := make([]any, len(Codes))
	for i, c := range Codes {
		codes[i] = string(c.Code)
	}
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[subjects.User]():         text(idPattern),
		reflect.TypeFor[subjects.Device]():       text(idPattern),
		reflect.TypeFor[subjects.Edge]():         text(idPattern),
		reflect.TypeFor[subjects.Conversation](): text(conversationPattern),
		reflect.TypeFor[subjects.Kind]():         enum("direct", "group", "channel"),
		reflect.TypeFor[Time]():                  text(timePattern),
		reflect.TypeFor[Seq]():                   number(float64(MaxSeq)),
		reflect.TypeFor[uint64]():                number(float64(MaxSeq)),
		reflect.TypeFor[json.RawMessage]():       {},
		reflect.TypeFor[Code]():                  enum(codes...),
		reflect.TypeFor[Role]():                  enum("owner", "moderator", "member", "reader"),
		reflect.TypeFor[State]():                 enum("online", "away", "offline", "invisible"),
	}
}

// schemaOf returns the schema of a body: unknown fields are allowed, for a later release may add some, and null is not.
func schemaOf(t reflect.Type) (*jsonschema.Schema, error) {
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: typeSchemas()})
	if err != nil {
		return nil, err
	}
	open(s)
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", t.Name()
	return s, nil
}

// open takes null and closedness out of a schema that was made from Go types.
func open(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	if s.Type == "object" && s.Properties != nil {
		s.AdditionalProperties = nil
	}
	open(s.Items)
	open(s.AdditionalProperties)
	for name, property := range s.Properties {
		open(property)
		if name == "body" {
			property.Type = "object"
		}
	}
}

func TestSchemasDescribeTheBodies(t *testing.T) {
	schemas := map[string]*jsonschema.Resolved{}
	for name, value := range bodies() {
		kind := reflect.TypeOf(value).Elem()
		if schemas[kind.Name()] == nil {
			s, err := schemaOf(kind)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			text, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("schemas", kind.Name()+".json"), append(text, '\n'))
			if schemas[kind.Name()], err = s.Resolve(nil); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
		}
		text, err := Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var instance any
		if err := json.Unmarshal(text, &instance); err != nil {
			t.Fatal(err)
		}
		if err := schemas[kind.Name()].Validate(instance); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	files, err := filepath.Glob(filepath.Join("schemas", "*.json"))
	if err != nil || len(files) != len(schemas) {
		t.Errorf("%d schemas for %d bodies, %v", len(files), len(schemas), err)
	}
	for name, wrong := range map[string]string{
		"Post": `{"client_id":"1"}`, "Entry": `{"conversation":"x.y","seq":1,"count":0,"kind":"message","from":"ada","at":"2026-11-20T15:04:05.123Z"}`, "Error": `{"code":"made_up","message":""}`,
		"Posted": `{"conversation":"g.a","seq":-1,"count":0,"at":"2026-11-20T15:04:05.123Z"}`, "Draining": `{}`, "UsersQuery": `{"users":null}`,
	} {
		var instance any
		_ = json.Unmarshal([]byte(wrong), &instance)
		if schemas[name].Validate(instance) == nil {
			t.Errorf("the schema of %s allows %s", name, wrong)
		}
	}
}
