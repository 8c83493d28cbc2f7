package cli

import (
	"strings"
	"testing"

	"github.com/confab-im/confab/deploy/manifest"
)

func TestScalesOfADeploymentReplaceThoseOfManifests(t *testing.T) {
	before := manifest.BuiltIn()
	after, err := scaled(before, []string{"send=0:3:2", "auth=2:2:1"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]manifest.Scale{"send": {Min: 0, Max: 3, Wake: 2}, "auth": {Min: 2, Max: 2, Wake: 1}}
	for i, m := range after {
		scale, changed := want[string(m.Function)]
		if !changed {
			scale = before[i].Scale
		}
		if m.Scale != scale {
			t.Errorf("%s scales as %+v, want %+v", m.Function, m.Scale, scale)
		}
	}
	if again := manifest.BuiltIn(); before[0].Scale != again[0].Scale {
		t.Error("the manifests given are changed")
	}
	for text, want := range map[string]string{
		"sent=0:1:1":   "no function",
		"send":         "not of the form",
		"send=1":       "not of the form",
		"send=1:2:3:4": "not of the form",
		"send=0:1:1x":  "not of the form",
		"send=-1:2:1":  "0 ≤ min",
		"send=3:2:1":   "0 ≤ min",
	} {
		if _, err := scaled(before, []string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want one with %q", text, err, want)
		}
	}
}
