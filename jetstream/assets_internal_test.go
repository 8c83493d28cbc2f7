package jetstream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// TestNothingIsCompressed: a copy that is compressed may be destroyed when its server is killed (docs/decisions/0014), and what is read again after a while costs
// several times as much where it is (docs/decisions/0022).
func TestNothingIsCompressed(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		for _, a := range Assets() {
			if c := a.config(Profile{Replicas: replicas}.withDefaults()); c.Compression != jetstream.NoCompression {
				t.Errorf("%s is compressed with %d replicas", a.Stream, replicas)
			}
		}
	}
}
