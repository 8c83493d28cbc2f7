package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/subjects"
)

// run runs a program to its end and returns what it wrote.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	p := start(t, program, args...)
	if code := exitCode(t, p); code != 0 {
		t.Fatalf("%s %v ended with %d:\n%s", program, args, code, strings.Join(p.lines, "\n"))
	}
	return strings.Join(p.lines, "\n")
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func metrics(t *testing.T, ops string) string {
	t.Helper()
	response, err := http.Get(ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// as returns a target whose operator is another NATS user.
func (target Target) as(file string) Target {
	target.NKey = file
	return target
}

func TestEveryPartOfTheAllInOneIsAUserOfItsOwn(t *testing.T) {
	data := t.TempDir()
	p, target, b := up(t, data)
	err := filepath.WalkDir(filepath.Join(data, "nats", "keys"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	Run(t, target)
	if text := metrics(t, b.ops); strings.Contains(text, "confab_nats_permission_violations_total{") {
		t.Errorf("the all-in-one was refused something:\n%s", text)
	}

	// Somebody without a key looks, and changes nothing.
	look := target.as("").operator(t)
	for _, subject := range []string{"$SRV.INFO.im-send", "$JS.API.STREAM.LIST", subjects.StreamInfo(subjects.MessagesStream(0)), "$JS.API.DIRECT.GET.KV_IM_CONFIG.$KV.IM_CONFIG.layout"} {
		if answer, err := look.Request(subject, nil, patience); err != nil || strings.Contains(string(answer.Data), `"error"`) {
			t.Errorf("%s without a key: %v, %v", subject, answer, err)
		}
	}
	for _, subject := range []string{"im.live.g.general", "im.rpc.auth.issue", "$JS.API.STREAM.DELETE.IM_JOBS", "$JS.API.STREAM.MSG.GET.KV_IM_USERS"} {
		if _, err := look.Request(subject, nil, 200*time.Millisecond); err == nil {
			t.Errorf("%s without a key is answered", subject)
		}
	}
	// A program that is taken over does not report itself; the server counts what it tries.
	thief := target.as(key(data, "history")).operator(t)
	if err := thief.Publish("im.msg.p00.g.general", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusals are counted", func() bool {
		text := metrics(t, b.ops)
		return strings.Contains(text, `confab_nats_permission_violations_total{user="history"} 1`) && strings.Contains(text, `confab_nats_permission_violations_total{user="viewer"} 4`)
	})
	p.says(t, `permission violation: .*nats-user"?[=:]"?(history)`)
}

func TestCommandsFindTheServerAndTheOperatorsKey(t *testing.T) {
	data := t.TempDir()
	_, target, _ := up(t, data, "--registration", "invite", "--nats-look=false")
	if nc, err := nats.Connect(target.NATS); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("somebody without a key is let in: %v, %v", nc, err)
	}
	token := run(t, "confab", "token", "--data", data, "--user", "ada", "--create")
	if _, err := post[json.RawMessage](target, token, "history.heads", object{}); err != nil {
		t.Errorf("the token does not work: %v", err)
	}
	if link := run(t, "confab", "invite", "--data", data, "--nats-url", target.NATS, "--url", target.URL); !strings.HasPrefix(link, target.URL+"/#invite=") {
		t.Errorf("the invite is %q", link)
	}
	run(t, "confab", "declare", "--data", data)
	if text := run(t, "confab", "functions", "--data", data); !strings.Contains(text, "history") || strings.Contains(text, "violation") {
		t.Errorf("the functions are %s", text)
	}
	if text := run(t, "confab", "functions", "unregister", "presence", "--data", data); !strings.Contains(text, "not registered any more") {
		t.Errorf("the command says %s", text)
	}
	run(t, "confab", "token", "--nats-url", target.NATS, "--nats-nkey", key(data, "operator"), "--user", "ada")
	// The keys of one server are shown to no other.
	other := start(t, "confab", "token", "--data", data, "--nats-url", "nats://127.0.0.2:1", "--user", "ada", "--wait", "100ms")
	if code := exitCode(t, other); code == 0 {
		t.Error("a server that is not there gave a token")
	}
}

func TestTheBannersCommandsNameTheKeyWhereOneIsNeeded(t *testing.T) {
	data := filepath.Join(t.TempDir(), "it's here")
	p := start(t, "confab", "up", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", "", "--data", data, "--nats-look=false")
	word := p.says(t, `Look +nats -s \S+ --nkey (.*) micro ls`)
	if file := strings.ReplaceAll(strings.Trim(word, "'"), `'\''`, "'"); file != key(data, "viewer") {
		t.Errorf("the key is %s", word)
	} else if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestAFunctionSaysInItsStatisticsWhatItWasRefused(t *testing.T) {
	data := t.TempDir()
	_, target, _ := up(t, data)
	wrong := start(t, "receipts", "--nats-url", target.NATS, "--nats-nkey", key(data, "history"))
	wrong.says(t, `(permission violation)`)
	nc := target.operator(t)
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the wrong one answers with a count", func() bool {
		if err := nc.PublishRequest("$SRV.STATS", inbox.Subject, nil); err != nil {
			t.Fatal(err)
		}
		for {
			msg, err := inbox.NextMsg(100 * time.Millisecond)
			if err != nil {
				return false
			}
			var stats micro.Stats
			if err := json.Unmarshal(msg.Data, &stats); err != nil {
				t.Fatal(err)
			}
			for _, endpoint := range stats.Endpoints {
				var counted struct{ Violations int }
				if stats.Name == "im-receipts" && json.Unmarshal(endpoint.Data, &counted) == nil && counted.Violations > 0 {
					return true
				}
			}
		}
	})
}

// TestAnswersThatGoAstrayDisturbNobody has JetStream publish acknowledgements and copies where entries belong, as a program that was taken over could.
func TestAnswersThatGoAstrayDisturbNobody(t *testing.T) {
	data := t.TempDir()
	_, target, _ := up(t, data)
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	first := ada.say(conversation, "before")
	bob.entry(conversation, first.Seq)
	thief := target.as(key(data, "edge")).operator(t)
	for _, reply := range []string{subjects.Live(conversation), subjects.Message(conversation)} {
		if err := thief.PublishRequest("$KV.IM_PRESENCE.e.thief", reply, nil); err != nil {
			t.Fatal(err)
		}
	}
	reader := target.as(key(data, "history")).operator(t)
	copied := `{"last_by_subj":"` + subjects.Message(conversation) + `"}`
	if err := reader.PublishRequest(subjects.DirectRead(subjects.StreamOf(conversation)), subjects.Live("g.general"), []byte(copied)); err != nil {
		t.Fatal(err)
	}
	watch := target.operator(t)
	eventually(t, "the acknowledgement is stored", func() bool {
		answer, err := watch.Request(subjects.DirectReadLast(subjects.StreamOf(conversation), subjects.Message(conversation)), nil, patience)
		return err == nil && strings.Contains(string(answer.Data), `"stream"`)
	})
	second := ada.say(conversation, "after")
	if second.Seq != first.Seq+1 {
		t.Errorf("the next entry is %d, want %d", second.Seq, first.Seq+1)
	}
	bob.entry(conversation, second.Seq)
	general := ada.say("g.general", "and here")
	for _, e := range bob.entries("g.general") {
		if e.Seq < general.Seq && strings.Contains(string(e.Body), "before") {
			t.Errorf("an entry of a direct conversation was delivered in a group: %+v", e)
		}
	}
}
