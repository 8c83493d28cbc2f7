package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
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

func TestWhatHappensAtOneEdgeIsKnownAtTheOther(t *testing.T) {
	data := t.TempDir()
	_, here, _ := up(t, data)
	edge := start(t, "edge", "--nats-url", here.NATS, "--nats-nkey", key(data, "edge"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--limits", "none")
	edge.says(t, `edge is ready`)
	there := Target{URL: edge.says(t, `"?url"?[=:]"?(http://[^\s"]+)`), NATS: here.NATS, NKey: here.NKey}

	ada, bob := register(t, here, "ada"), register(t, there, "bob")
	call[wire.Presences](ada, wire.CallWatch, wire.UsersQuery{Users: []subjects.User{bob.user}})
	call[wire.Empty](bob, "presence.set", wire.PresenceSetting{State: wire.StateAway})
	until(ada, "bob away", wire.EventPresence, func(c wire.PresenceChange) bool { return c.User == bob.user && c.State == wire.StateAway })

	posted := call[wire.Posted](ada, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("over there")})
	bob.entry(posted.Conversation, posted.Seq)
	call[wire.Empty](bob, wire.CallSignal, wire.Signal{Conversation: posted.Conversation, Kind: "typing"})
	until(ada, "bob typing", wire.EventSignal, func(s wire.Signal) bool { return s.User == bob.user })
	call[wire.Marked](bob, "receipts.mark", wire.MarkQuery{Conversation: posted.Conversation, Read: posted.Seq})
	until(ada, "bob's receipt", wire.EventReceipt, func(r wire.Receipt) bool { return r.User == bob.user && r.Read == posted.Seq })

	moved := connect(t, here, bob.tokens, "web-1")
	if code := bob.ended(); code != wire.CloseReplaced {
		t.Errorf("the device moved to another edge, and its older socket closed with %d, want %d", code, wire.CloseReplaced)
	}
	phone := connect(t, there, bob.tokens, "phone-1")
	begun := time.Now()
	call[wire.Empty](moved, "auth.logout", wire.Logout{})
	for _, p := range []*peer{moved, phone} {
		if code := p.ended(); code != wire.CloseRevoked || time.Since(begun) > 2*time.Second {
			t.Errorf("a socket of the ended session closed with %d after %s", code, time.Since(begun))
		}
	}
	for _, target := range []Target{here, there} {
		_, err := post[wire.Heads](target, bob.tokens.Token, "history.heads", wire.HeadsQuery{})
		fails(t, err, wire.Unauthenticated)
	}
}

// exitCode waits for the end of a process.
func exitCode(t *testing.T, p *process) int {
	t.Helper()
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}
