package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestAcknowledgedMessagesSurviveKill9(t *testing.T) {
	data := t.TempDir()
	first, target, _ := up(t, data)
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	const acknowledged, inFlight = 50, 50
	var stored []wire.Posted
	for i := range acknowledged {
		stored = append(stored, ada.say(conversation, "%d", i))
	}
	// The kill comes while these are on their way: each is acknowledged or not, and what is acknowledged must be there.
	answers := make([]<-chan wire.ServerFrame, inFlight)
	posts := make([]wire.Post, inFlight)
	for i := range answers {
		posts[i] = wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("%d", acknowledged+i)}
		answers[i] = ada.start("send.post", posts[i])
	}
	if posted, err := wait[wire.Posted](ada, "send.post", answers[0]); err == nil {
		stored = append(stored, posted)
	}
	first.kill()
	for _, answer := range answers[1:] {
		if posted, err := wait[wire.Posted](ada, "send.post", answer); err == nil {
			stored = append(stored, posted)
		}
	}

	again, restarted, _ := up(t, data)
	login, err := post[wire.Tokens](restarted, "", "auth.login", wire.Login{User: ada.user, Password: password})
	if err != nil {
		t.Fatalf("login after the restart: %v", err)
	}
	back := connect(t, restarted, login, "web-1")
	connect(t, restarted, bob.tokens, "web-1") // a token from before: the signing key is still there
	for i, p := range posts {                  // whoever got no answer sends again
		answer := call[wire.Posted](back, "send.post", p)
		if answer.Seq != wire.Seq(acknowledged+i+1) {
			t.Errorf("message %d is entry %d, want %d", acknowledged+i, answer.Seq, acknowledged+i+1)
		}
	}
	zero := wire.Seq(0)
	page := call[wire.Page](back, "history.page", wire.PageQuery{Conversation: conversation, After: &zero, Limit: 200})
	entries := decodeEntries(t, page)
	if len(entries) != acknowledged+inFlight {
		t.Fatalf("history has %d entries, want %d", len(entries), acknowledged+inFlight)
	}
	for i, e := range entries {
		if string(e.Body) != string(text("%d", i)) || e.Seq != wire.Seq(i+1) {
			t.Errorf("entry %d reads %s", e.Seq, e.Body)
		}
	}
	for _, posted := range stored {
		if e := entries[posted.Seq-1]; e.At != posted.At || e.Count != posted.Count {
			t.Errorf("entry %+v was acknowledged as %+v", e, posted)
		}
	}
	if code := again.stop(t); code != 0 {
		t.Errorf("SIGTERM ended with %d", code)
	}
}

func TestTheBannersLinksWork(t *testing.T) {
	_, target, b := up(t, t.TempDir(), "--registration", "invite")
	link, err := url.Parse(b.owner)
	if err != nil {
		t.Fatal(err)
	}
	refresh := wire.Refresh{RefreshToken: strings.TrimPrefix(link.Fragment, "refresh=")}
	owner, err := post[wire.Tokens](target, "", "auth.refresh", refresh)
	if err != nil || owner.User != "owner" {
		t.Fatalf("the owner's link gives %+v, %v", owner, err)
	}
	connect(t, target, owner, "web-1")

	_, err = post[wire.Tokens](target, "", "auth.register", wire.Register{User: name("eve"), Password: password})
	fails(t, err, wire.Forbidden)
	link, err = url.Parse(b.invite)
	if err != nil {
		t.Fatal(err)
	}
	invited := wire.Register{User: name("bob"), Password: password, Invite: strings.TrimPrefix(link.Fragment, "invite=")}
	if _, err := post[wire.Tokens](target, "", "auth.register", invited); err != nil {
		t.Errorf("register with the invite: %v", err)
	}

	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusOK} {
		if got := status(t, b.ops+path); got != want {
			t.Errorf("operators get %d for %s", got, path)
		}
		if got := status(t, target.URL+path); got != http.StatusNotFound {
			t.Errorf("clients get %d for %s", got, path)
		}
	}
}

func status(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestATakenPortOrDirectoryGivesASentenceWithTheRemedy(t *testing.T) {
	data := t.TempDir()
	_, target, b := up(t, data)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"the clients' port":      {[]string{"--listen", strings.TrimPrefix(target.URL, "http://")}, `taken by another program.*--listen`},
		"the port of NATS":       {[]string{"--nats-listen", strings.TrimPrefix(target.NATS, "nats://")}, `taken by another program.*--nats-listen`},
		"the operators' port":    {[]string{"--ops-listen", strings.TrimPrefix(b.ops, "http://")}, `taken by another program.*--ops-listen`},
		"the directory":          {[]string{"--data", data}, `in use by process \d+.*--data`},
		"a network address":      {[]string{"--listen", "0.0.0.0:0"}, `TLS`},
		"an unknown flag":        {[]string{"--lisen", "x"}, `did you mean "listen"`},
		"no limits, no loopback": {[]string{"--listen", "0.0.0.0:0", "--insecure-plaintext", "--limits", "none"}, `limits.*loopback`},
	} {
		t.Run(name, func(t *testing.T) {
			preset := []string{"up", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", t.TempDir()}
			p := start(t, "confab", append(preset, c.args...)...)
			p.says(t, "("+c.want+")")
			if code := exitCode(t, p); code == 0 {
				t.Error("it ended with 0")
			}
		})
	}
}
