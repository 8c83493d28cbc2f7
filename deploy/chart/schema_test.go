package chart

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"
)

// presets returns values.yaml as Helm reads it.
func presets(t *testing.T) map[string]any {
	t.Helper()
	data, err := os.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func schema(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	data, err := os.ReadFile("values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// set changes the value at a path such as edge.scaling.min, as helm --set does.
func set(values map[string]any, path, text string) {
	at := values
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := at[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			at[name] = inner
		}
		at = inner
	}
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		panic(err)
	}
	at[names[len(names)-1]] = value
}

func TestTheSchemaTakesWhatIsMeant(t *testing.T) {
	s := schema(t)
	for _, change := range []string{
		"", "functions.sleep=all", "functions.builtIn.send.scale.max=16", "functions.builtIn.auth.environment.CONFAB_REGISTRATION=invite",
		"functions.own.translate.image=example/translate:1", "nats.enabled=false", "nats.storage.size=20Gi", "edge.ingress.host=chat.example",
		"network.monitoring=[{namespaceSelector: {}}]", "pods.listen=$(POD_IP)", "functions.builtIn.send.enabled=false",
	} {
		values := presets(t)
		if path, text, ok := strings.Cut(change, "="); ok {
			set(values, path, text)
		}
		if err := s.Validate(values); err != nil {
			t.Errorf("with %q: %v", change, err)
		}
	}
}

func TestTheSchemaRefusesWhatIsNot(t *testing.T) {
	s := schema(t)
	for _, change := range []string{
		"edge.replica=3", "functions.sleep=some", "functions.builtIn.send.scal=3", "functions.builtIn.send.drain=5", "functions.builtIn.send.resources.cpu=fast",
		"functions.own.Translate.image=x", "functions.own.translate.manifest=x", "nats.storage.size=10G", "nats.replicas=0", "scaler.environment.lower=1",
	} {
		values := presets(t)
		path, text, _ := strings.Cut(change, "=")
		set(values, path, text)
		if s.Validate(values) == nil {
			t.Errorf("%s is taken", change)
		}
	}
}

// TestValuesInTheReadmeExist reads what the README tells people to set.
func TestValuesInTheReadmeExist(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?:--set(?:-file)? |\| `+"`"+`)([a-z][A-Za-z.]*\.[A-Za-z.]*[A-Za-z])(?:=|`+"`"+`)`).FindAllStringSubmatch(string(text), -1)
	if len(found) < 10 {
		t.Fatalf("only %d values found", len(found))
	}
	for _, match := range found {
		at := any(presets(t))
		for _, name := range strings.Split(match[1], ".") {
			inner, ok := at.(map[string]any)
			if ok && strings.HasPrefix(match[1], "functions.own.") {
				break // named by whoever adds it; the schema knows what may stand there
			}
			if at, ok = inner[name]; !ok {
				t.Errorf("README.md names %s, which values.yaml does not have", match[1])
				break
			}
		}
	}
}
