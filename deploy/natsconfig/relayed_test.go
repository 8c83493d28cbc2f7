package natsconfig

import (
	"slices"
	"testing"

	"github.com/confab-im/confab/deploy/manifest"
)

// TestAFunctionMayAskEdgesForWhatIsPublic: edges pass on what they may call for users anyway, and nothing that only functions may.
func TestAFunctionMayAskEdgesForWhatIsPublic(t *testing.T) {
	asks := manifest.BuiltIn()[0]
	asks.Function, asks.NATS = "asks", manifest.Permissions{Calls: []string{"send.post", "history.fill"}}
	users, err := Users(append(manifest.BuiltIn(), asks))
	if err != nil {
		t.Fatal(err)
	}
	may := map[string][]string{}
	for _, u := range users {
		may[u.Name] = u.Publish
	}
	for subject, want := range map[string]bool{
		"im.call.send.post": true, "im.rpc.send.post": true, "im.rpc.history.fill": true, "im.call.history.fill": false, "im.call.send.react": false,
	} {
		if got := slices.Contains(may["asks"], subject); got != want {
			t.Errorf("publish to %s: allowed %v, want %v", subject, got, want)
		}
	}
	for user, want := range map[string]bool{Edge: true, "send": true, "history": true, "auth": false} {
		if got := slices.Contains(may[user], "_INBOX_asks.>"); got != want {
			t.Errorf("%s answers it: %v, want %v", user, got, want)
		}
	}
}
