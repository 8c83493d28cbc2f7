package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/confab-im/confab/deploy/manifest"
)

// scaled returns the manifests with scales in the place of their own, each written name=min:max:wake. What is registered then says how functions scale in one deployment,
// where whoever runs it has decided otherwise than their authors.
func scaled(manifests []manifest.Manifest, scales []string) ([]manifest.Manifest, error) {
	all := slices.Clone(manifests)
	for _, text := range scales {
		name, numbers, _ := strings.Cut(text, "=")
		at := slices.IndexFunc(all, func(m manifest.Manifest) bool { return string(m.Function) == name })
		if at < 0 {
			return nil, fmt.Errorf("--scale: %q is no function of confab or of --manifests", name)
		}
		var s manifest.Scale
		if n, err := fmt.Sscanf(numbers+"\n", "%d:%d:%d\n", &s.Min, &s.Max, &s.Wake); n != 3 || err != nil {
			return nil, fmt.Errorf("--scale: %q is not of the form name=min:max:wake", text)
		}
		all[at].Scale = s
		if err := all[at].Validate(); err != nil {
			return nil, fmt.Errorf("--scale: %s: %w", text, err)
		}
	}
	return all, nil
}
