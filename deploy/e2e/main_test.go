package e2e

import (
	"fmt"
	"os"
	"testing"

	// What the built programs consist of. Without these imports the test cache would not see that they have changed, and an old success would stand.
	_ "github.com/confab-im/confab/deploy/cli"
	_ "github.com/confab-im/confab/deploy/edges"
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "confab-e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
