package chart

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/confab-im/confab/deploy/manifest"
)

var update = flag.Bool("update", false, "write the rendered section of values.yaml anew")

func TestValuesSayWhatTheManifestsSay(t *testing.T) {
	have, err := os.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := splice(have, Functions(manifest.BuiltIn()))
	if bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Fatal("the functions in values.yaml are not what their manifests say; go test ./deploy/chart -update writes them anew")
	}
	if err := os.WriteFile("values.yaml", want, 0o644); err != nil {
		t.Fatal(err)
	}
}
