// Package chart keeps the Helm chart of confab in step with the manifests of functions: it renders the section of values.yaml that says how each function runs.
// Helm itself is no part of it.
package chart

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/manifest"
)

// marker is the line of values.yaml from which on Functions writes what stands there.
const marker = "# Rendered from functions/*/function.yaml; go test ./deploy/chart -update writes it anew.\n"

// leastDrain bounds the drain of functions whose calls are all short: a moment without the processor must not cut them off.
const leastDrain = 5 * time.Second

// Functions returns the last section of values.yaml, from the marker on, for functions with these manifests.
func Functions(manifests []manifest.Manifest) string {
	var b strings.Builder
	b.WriteString(marker + `functions:
  # manifest: as each one's scale says; all: every function may go to zero; none: every function keeps one instance at least.
  sleep: manifest
  # one: an image for each function; multicall: one image, confab, for all.
  images: one
  # How long an instance without calls counts as at work.
  idle: 60s
  # Functions beside confab's own, by name: {image: …, manifest: the text of function.yaml}. Whatever stands below can be given too, and wins.
  own: {}
  # drain is the longest timeout of the methods; settings are the names that environment and secrets may set.
  # Beside these keys there are enabled, image, idle, args, command, probes (false: none), environment ({NAME: value}),
  # secrets ([{name: NAME, secret: …, key: …}]) and egress (rules of NetworkPolicy, for what a function reaches beside NATS).
  builtIn:
`)
	for _, m := range manifests {
		fmt.Fprintf(&b, "    %s:\n      concurrency: %d\n      scale: {min: %d, max: %d, wake: %d}\n", m.Function, m.Concurrency, m.Scale.Min, m.Scale.Max, m.Scale.Wake)
		fmt.Fprintf(&b, "      drain: %s\n      resources: {cpu: %s, memory: %s}\n", drain(m), m.Resources.CPU, m.Resources.Memory)
		if len(m.Environment) == 0 {
			b.WriteString("      settings: []\n")
			continue
		}
		b.WriteString("      settings:\n")
		for _, name := range m.Environment {
			fmt.Fprintf(&b, "        - %s\n", name)
		}
	}
	return b.String()
}

// drain returns how long an instance that is asked to end may work on what it has accepted.
func drain(m manifest.Manifest) time.Duration {
	longest := leastDrain
	for _, method := range m.Methods {
		longest = max(longest, method.Timeout)
	}
	return longest
}

// splice replaces the rendered section at the end of values.yaml, or appends it where there is none.
func splice(values []byte, section string) []byte {
	written, _, _ := bytes.Cut(values, []byte(marker))
	return append(bytes.Clone(written), section...)
}
