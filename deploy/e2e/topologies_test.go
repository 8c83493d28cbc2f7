package e2e

import (
	"strings"
	"testing"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects/wire"
)

func TestAllInOneProcess(t *testing.T) {
	p, target, _ := up(t, t.TempDir(), "--log", "debug")
	Run(t, target)
	// Whatever is logged, at whatever level, holds no password, no token and no word of a message.
	ada := register(t, target, "ada")
	ada.say("g.general", "canary in a message")
	refused(ada, wire.BadData, "send.post", []byte(`{"conversation":"g.general","client_id":"x","body":"canary in a broken message"}`))
	_, err := post[wire.Tokens](target, "", "auth.login", wire.Login{User: ada.user, Password: "canary in a wrong password"})
	fails(t, err, wire.Unauthenticated)
	if code := p.stop(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for _, line := range p.lines {
		for _, secret := range []string{"canary", password, ada.tokens.Token, ada.tokens.RefreshToken} {
			if strings.Contains(line, secret) {
				t.Errorf("the log holds %q:\n%s", secret, line)
			}
		}
	}
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
