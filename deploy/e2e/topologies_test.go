package e2e

import (
	"testing"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

func TestAllInOneProcess(t *testing.T) {
	_, target, _ := up(t, t.TempDir())
	Run(t, target)
}

func TestEdgeAndFunctionsAsProcessesOfTheirOwn(t *testing.T) {
	server := jetstreamtest.Start(t, jetstreamtest.Synced())
	// Programs may start in any order: the functions wait for the store, the edge for the functions.
	nats := []string{"--nats-url", server.URL}
	edge := start(t, "edge", append(nats, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--limits", "none")...)
	for _, function := range []string{"send", "history", "conversations", "receipts", "presence"} {
		start(t, function, nats...)
	}
	start(t, "auth", append(nats, "--registration", "open")...)
	start(t, "send", nats...) // a second instance, so that the queue group has a choice
	if code := exitCode(t, start(t, "confab", append([]string{"declare"}, nats...)...)); code != 0 {
		t.Fatalf("confab declare ended with %d", code)
	}
	edge.says(t, `edge is ready`)
	Run(t, Target{URL: edge.says(t, `"?url"?[=:]"?(http://[^\s"]+)`), NATS: server.URL})
}

// exitCode waits for the end of a process.
func exitCode(t *testing.T, p *process) int {
	t.Helper()
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}
