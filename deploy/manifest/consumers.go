package manifest

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
)

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

// DeclareConsumers makes the consumers of functions with events or jobs in the store that was declared over nc. It is the deployer's act, and may be repeated.
func DeclareConsumers(ctx context.Context, nc *nats.Conn, manifests []Manifest) error {
	return jetstream.DeclareConsumers(ctx, nc, Consumers(manifests))
}
