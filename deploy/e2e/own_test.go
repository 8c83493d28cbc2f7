package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/confab-im/confab/deploy/scaffold"
	"github.com/confab-im/confab/subjects/wire"
)

type (
	greet    map[string]string
	greeting struct {
		Text string `json:"text"`
	}
)

// TestAFunctionOfOnesOwn goes the way of an author: new function, up with its folder, a call from a client.
func TestAFunctionOfOnesOwn(t *testing.T) {
	dir, data := filepath.Join(t.TempDir(), "poll-box"), t.TempDir()
	if _, err := scaffold.Write(scaffold.Config{Name: "poll-box", Dir: dir, Events: true, Source: scaffold.Source()}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONFAB_GREETING", "Good morning") // a setting of the function, which confab passes on
	first, target, _ := up(t, data, "--function", dir, "--idle-timeout", "500ms", "--log", "info")
	ada := register(t, target, "ada")
	for range 2 { // the second time its process has left
		if got := call[greeting](ada, "poll-box.greet", greet{}); got.Text != "Good morning, "+string(ada.user)+"!" {
			t.Errorf("it answers %q", got.Text)
		}
		first.says(t, `instance left`)
	}
	refused(ada, wire.BadData, "poll-box.greet", greet{"name": strings.Repeat("x", 101)})
	first.says(t, `instance left`)
	said := ada.say("g.general", "Hello everybody") // an event wakes it as well
	until(ada, "the wave", wire.EventEntry, func(e wire.Entry) bool {
		return e.Kind == wire.KindReaction && e.Target == said.Seq && e.From == ada.user
	})
	_, err := post[greeting](target, "", "poll-box.greet", greet{})
	fails(t, err, wire.Unauthenticated)
	if code := first.stop(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for _, line := range first.lines { // its NATS user has the rights of its manifest
		if strings.Contains(line, "ermission") {
			t.Error(line)
		}
	}

	// Without the function nobody waits for it.
	if err := os.Unsetenv("CONFAB_GREETING"); err != nil {
		t.Fatal(err)
	}
	second, target, _ := up(t, data)
	refused(connect(t, target, ada.tokens, "web-1"), wire.UnknownCall, "poll-box.greet", greet{})
	second.stop(t)

	// What cannot be run is said before anything starts.
	if err := os.WriteFile(filepath.Join(dir, "function.go"), []byte("package pollbox\n\nvar x int = \"text\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := start(t, "confab", "up", "--data", data, "--listen", "127.0.0.1:0", "--function", dir)
	broken.says(t, `function.go:3:13: cannot use "text"`)
	if code := exitCode(t, broken); code != 1 {
		t.Errorf("with a function that does not compile it ended with %d", code)
	}
}
