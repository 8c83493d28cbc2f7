package kubernetes

import (
	"testing"

	"github.com/confab-im/confab/deploy/e2e"
	"github.com/confab-im/confab/deploy/natsconfig"
)

// TestTheSuite runs what every topology must do, with functions that go to sleep while it runs.
func TestTheSuite(t *testing.T) {
	i := chat(t)
	e2e.Run(t, e2e.Target{URL: i.url, NATS: i.nats, NKey: natsconfig.SeedFile(i.seeds, natsconfig.Admin)})
}
