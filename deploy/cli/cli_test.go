package cli

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/confab-im/confab/deploy/process"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"confab": func() { process.Main(Main) }})
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
