package manifest

import "github.com/confab-im/confab/jetstream"

// Works reports whether the function gets entries or jobs, and so has consumers.
func (m Manifest) Works() bool { return len(m.Events) > 0 || m.Jobs }

// Consumers returns what the functions of the manifests are handed of the store.
func Consumers(manifests []Manifest) []jetstream.ConsumerSpec {
	var specs []jetstream.ConsumerSpec
	for _, m := range manifests {
		if m.Works() {
			specs = append(specs, jetstream.ConsumerSpec{Function: m.Function, Entries: len(m.Events) > 0, Jobs: m.Jobs})
		}
	}
	return specs
}
