package jetstream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A copy that is compressed may be destroyed when its server is killed (docs/decisions/0014).
func TestCopiesAreNotCompressed(t *testing.T) {
	for replicas, want := range map[int]bool{1: true, 3: false} {
		compressed := false
		for _, a := range Assets() {
			var c jetstream.StreamConfig
			a.shape(&c, Profile{Replicas: replicas}.withDefaults())
			compressed = compressed || c.Compression != jetstream.NoCompression
		}
		if compressed != want {
			t.Errorf("with %d replicas something is compressed: %v, want %v", replicas, compressed, want)
		}
	}
}
