package manifest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestManifestsSayWhatTheCodeSays(t *testing.T) {
	code := map[subjects.Function]struct {
		function functions.Function
		config   any
	}{
		"auth":          {auth.Function(auth.Config{}), &auth.Config{}},
		"conversations": {conversations.Function(conversations.Config{}), &conversations.Config{}},
		"history":       {history.Function(history.Config{}), &history.Config{}},
		"presence":      {presence.Function(presence.Config{}), &presence.Config{}},
		"receipts":      {receipts.Function(receipts.Config{}), &receipts.Config{}},
		"send":          {send.Function(send.Config{}), &send.Config{}},
	}
	for _, m := range BuiltIn() {
		c, ok := code[m.Function]
		if !ok {
			t.Errorf("there is a manifest of %q, and no such function", m.Function)
			continue
		}
		delete(code, m.Function)
		if err := m.Compare(c.function, c.config); err != nil {
			t.Errorf("%s: %v", m.Function, err)
		}
	}
	for name := range code {
		t.Errorf("function %s has no manifest", name)
	}
}

func TestABrokenManifestIsRefused(t *testing.T) {
	if _, err := Parse(auth.Manifest); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"an unknown key":           {"kind: call", "kind: call\nspeed: 3", "field speed not found"},
		"an unknown key of scale":  {"wake: 1", "wake: 1, least: 2", "field least not found"},
		"a key twice":              {"kind: call", "kind: call\nkind: call", "already defined"},
		"another kind":             {"kind: call", "kind: cron", "kind:"},
		"a method of a bad name":   {"  login:", "  Log_in:", "methods:"},
		"no timeout":               {"issue: {timeout: 5s}", "issue: {}", "timeout must be above 0"},
		"a secret anonymous call":  {"login: {public: true,", "login: {", "what is anonymous must be public"},
		"more at least than most":  {"min: 1, max: 8", "min: 9, max: 8", "scale:"},
		"nothing that wakes":       {"wake: 1", "wake: 0", "scale:"},
		"no hold":                  {"hold: 5s", "hold: 0s", "hold:"},
		"an unknown event":         {"events: []", "events: [posted]", "events:"},
		"an event twice":           {"events: []", "events: [edit, message, edit]", "events:"},
		"an event without events":  {"kind: call", "kind: event\njobs: true", "events:"},
		"calls of an event":        {"kind: call", "kind: event", "methods:"},
		"a function without name":  {"function: auth", "function: Auth", "function:"},
		"an empty command":         {"kind: call", "kind: call\ncommand: [node, '']", "command:"},
		"no concurrency":           {"concurrency: 64", "concurrency: 0", "concurrency:"},
		"a variable of others":     {"- CONFAB_ISSUERS", "- PATH", "environment:"},
		"memory without a unit":    {"memory: 256Mi", "memory: 256", "resources:"},
		"a call of no method":      {"[conversations.enrol]", "[conversations]", "nats: calls:"},
		"a call of itself":         {"[conversations.enrol]", "[auth.verify]", "does not call itself"},
		"a second document behind": {"resources: ", "---\nresources: ", "must be one document"},
	} {
		t.Run(name, func(t *testing.T) {
			if !bytes.Contains(auth.Manifest, []byte(c.old)) {
				t.Fatalf("the manifest has no %q", c.old)
			}
			_, err := Parse(bytes.Replace(auth.Manifest, []byte(c.old), []byte(c.new), 1))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestWhatWorksOnEventsHasConsumers(t *testing.T) {
	const text = "function: counter\nkind: event\nevents: [message, edit]\nconcurrency: 8\nscale: {min: 0, max: 4, wake: 1}\nhold: 5s\nresources: {cpu: 100m, memory: 64Mi}\n"
	event, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	both, err := Parse([]byte(strings.Replace(text, "kind: event", "kind: call\njobs: true\nmethods: {reset: {timeout: 5s}}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse([]byte(strings.Replace(text, "kind: event", "kind: call\nmethods: {entry: {timeout: 5s}}", 1))); err == nil || !strings.Contains(err.Error(), "the name entry is taken") {
		t.Errorf("a method under the name of the handler: %v", err)
	}
	if _, err := Parse([]byte(strings.Replace(text, "events: [message, edit]", "jobs: true\nevents: [pin]", 1))); err == nil || !strings.Contains(err.Error(), "jobs:") {
		t.Errorf("jobs without methods: %v", err)
	}
	got := Consumers(append(BuiltIn(), event, both))
	if len(got) != 2 || got[0] != (jetstream.ConsumerSpec{Function: "counter", Entries: true}) || got[1] != (jetstream.ConsumerSpec{Function: "counter", Entries: true, Jobs: true}) {
		t.Errorf("the consumers are %+v", got)
	}
	code := functions.Function{
		Name: "counter", Events: functions.Events{Kinds: []wire.EntryKind{wire.KindEdit, wire.KindMessage}}, Jobs: true,
		Methods: []functions.Method{{Name: "reset"}},
	}
	if err := both.Compare(code, &struct{}{}); err != nil {
		t.Error(err)
	}
	code.Events.Kinds = code.Events.Kinds[:1]
	if err := both.Compare(code, &struct{}{}); err == nil {
		t.Error("code and manifest name other events, and compare equal")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(auth.Manifest)
	f.Add(send.Manifest)
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := Parse(data); err == nil && m.Validate() != nil {
			t.Errorf("Parse lets through what Validate refuses: %+v", m)
		}
	})
}

func TestWhatASupervisorKnows(t *testing.T) {
	m, err := Parse(auth.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	s := m.Supervised()
	if s.Function != "auth" || s.Drain != 10*time.Second || s.Memory != 256<<20 || s.CPU != 100 || s.Concurrency != m.Concurrency || s.Scale != m.Scale {
		t.Errorf("of auth it knows %+v", s)
	}
	if !slices.Equal(s.Calls, []subjects.Function{"conversations"}) || !slices.Contains(s.Settings, "CONFAB_ISSUERS") {
		t.Errorf("of auth it knows %+v", s)
	}
	m.Resources = Resources{CPU: "3", Memory: "2Gi"}
	if s = m.Supervised(); s.CPU != 3000 || s.Memory != 2<<30 {
		t.Errorf("%+v are %d thousandths and %d bytes", m.Resources, s.CPU, s.Memory)
	}
}
