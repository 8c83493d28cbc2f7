package cli

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	server := jetstreamtest.Start(t)
	store, nc := server.Store(t), server.Connect(t)
	for _, u := range []subjects.User{"ada", "bob"} {
		if err := store.PutListing(t.Context(), jetstream.Member{Conversation: "d.ada.bob", User: u, Role: wire.RoleMember, JoinedSeq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		jetstreamtest.Say(t, store, "d.ada.bob", "ada", "hi")
	}
	out, err := confab(t, "verify", "--nats-url", server.URL)
	if want := regexp.MustCompile(`^3 entries of 1 conversations, 2 memberships, 0 marks: 0 defects, 0 unfinished \(`); err != nil || !want.MatchString(out) {
		t.Errorf("a sound store: %q, %v", out, err)
	}
	if _, err := nc.RequestMsgWithContext(t.Context(), &nats.Msg{Subject: subjects.Message("d.ada.bob"), Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	out, err = confab(t, "verify", "--nats-url", server.URL)
	if want := regexp.MustCompile(`(?m)^foreign d\.ada\.bob message 4: it is no entry`); err == nil || !want.MatchString(out) {
		t.Errorf("a message that is no entry: %q, %v", out, err)
	}
	if process.ExitCode(err) != 1 {
		t.Errorf("the exit code is %d", process.ExitCode(err))
	}
	out, err = confab(t, "verify", "--nats-url", server.URL, "--conversation", "d.ada.bob", "--json")
	var audit jetstream.Audit
	if broken := json.Unmarshal([]byte(out), &audit); broken != nil || err == nil || audit.Defects != 1 || audit.Findings[0].Defect != jetstream.DefectForeign {
		t.Errorf("for programs: %q, %v, %v", out, err, broken)
	}
	if out, err = confab(t, "verify", "--nats-url", server.URL, "--conversation", "g.other"); err != nil {
		t.Errorf("another conversation: %q, %v", out, err)
	}
}
