package e2e

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// several is three machines that are one confab, each a process on this one.
type several struct {
	t        *testing.T
	dir      string
	routes   [3]string
	machines [3]*process
	targets  [3]Target
	ops      [3]string // where operators ask; known as soon as the process runs
}

// newSeveral reserves the ports that the machines must know of each other.
func newSeveral(t *testing.T) *several {
	s := &several{t: t, dir: t.TempDir()}
	for i := range s.routes {
		for _, address := range []*string{&s.routes[i], &s.ops[i]} {
			reserved, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = reserved.Close() }()
			*address = reserved.Addr().String()
		}
	}
	return s
}

// start starts a machine.
func (s *several) start(i int, args ...string) {
	s.t.Helper()
	preset := []string{"up", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", s.ops[i], "--data", filepath.Join(s.dir, strconv.Itoa(i)), "--limits", "none",
		"--cluster", strings.Join(s.routes[:], ","), "--cluster-listen", s.routes[i], "--server", "n" + strconv.Itoa(i+1), "--nats-keys", filepath.Join(s.dir, "keys")}
	s.machines[i] = start(s.t, "confab", append(preset, args...)...)
}

// ready waits until a machine serves clients.
func (s *several) ready(i int) {
	s.t.Helper()
	url, _, _ := strings.Cut(s.machines[i].says(s.t, `Open +(http://\S+)`), "/#")
	s.targets[i] = Target{URL: url}
}

// readiness returns what a machine answers on /readyz; "" where it does not answer.
func (s *several) readiness(i int) (status int, text string) {
	response, err := http.Get("http://" + s.ops[i] + "/readyz")
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(body))
}

// waits waits until a machine's /readyz has that status and a matching text, and returns how long that took.
func (s *several) waits(i, status int, pattern string) time.Duration {
	s.t.Helper()
	expression, began := regexp.MustCompile(pattern), time.Now()
	for deadline := began.Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		got, text := s.readiness(i)
		if got == status && expression.MatchString(text) {
			return time.Since(began)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("machine %d is at %d, %q; want %d, %q", i+1, got, text, status, pattern)
		}
	}
}

// stores posts through an edge until that is acknowledged, as clients do.
func (s *several) stores(from *peer, conversation subjects.Conversation, what string) wire.Posted {
	s.t.Helper()
	post := wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("%s", what)}
	for deadline := time.Now().Add(2 * patience); ; {
		posted, err := wait[wire.Posted](from, "send.post", from.start("send.post", post))
		if err == nil {
			return posted
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not stored: %v", what, err)
		}
	}
}

// signsIn connects to an edge until its hello is answered, as clients do: who leads the streams may be about to be elected.
func (s *several) signsIn(i int, tokens wire.Tokens, device subjects.Device) *peer {
	s.t.Helper()
	for deadline := time.Now().Add(2 * patience); ; {
		p := dial(s.t, s.targets[i])
		p.user, p.tokens = tokens.User, tokens
		_, err := wait[wire.Welcome](p, wire.CallHello, p.start(wire.CallHello, wire.Hello{Token: tokens.Token, Device: device}))
		if err == nil {
			return p
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s cannot sign in: %v", tokens.User, err)
		}
	}
}

// TestThreeMachinesAreOneConfab starts three machines one after the other, loses one, goes on, takes it back, and lets another one leave.
func TestThreeMachinesAreOneConfab(t *testing.T) {
	s := newSeveral(t)
	s.start(0)
	s.machines[0].says(t, `confab (waits for 2 of 3 machines: there is only n1)`)
	s.waits(0, http.StatusServiceUnavailable, `confab: waits for 2 of 3 machines: there is only n1$`)
	s.start(1)
	s.start(2)
	for i := range s.machines {
		s.ready(i)
		s.waits(i, http.StatusOK, "ok")
	}
	ada, bob := register(t, s.targets[0], "ada"), register(t, s.targets[1], "bob")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	if posted := s.stores(ada, conversation, "one"); posted.Seq != 1 {
		t.Errorf("the first entry is %+v", posted)
	}
	s.machines[2].kill()
	if posted := s.stores(bob, conversation, "two"); posted.Seq != 2 {
		t.Errorf("the second entry is %+v", posted)
	}
	s.start(2)
	s.ready(2)
	third := s.signsIn(2, ada.tokens, "web-2") // any edge serves any user
	if code := s.machines[0].stop(t); code != 0 {
		t.Errorf("the machine that was told to end exits with %d", code)
	}
	p := start(t, "confab", "up", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", filepath.Join(s.dir, "0"))
	p.says(t, `(is one copy of a cluster's)`)
	if posted := s.stores(third, conversation, "three"); posted.Seq != 3 {
		t.Errorf("the third entry is %+v", posted)
	}
	zero := wire.Seq(0)
	page := call[wire.Page](third, "history.page", wire.PageQuery{Conversation: conversation, After: &zero, Limit: 10})
	if entries := decodeEntries(t, page); len(entries) != 3 {
		t.Errorf("the history has %d entries", len(entries))
	}

	// One machine of three cannot store anything, says so, and does when a second is back.
	s.machines[1].kill()
	t.Logf("not ready after %v", s.waits(2, http.StatusServiceUnavailable, `edge: nothing can be sent: store unavailable`))
	post := wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("four")}
	_, err := wait[wire.Posted](third, "send.post", third.start("send.post", post))
	fails(t, err, wire.StorageUnavailable)
	s.start(1)
	t.Logf("ready again %v after the start of a second one", s.waits(2, http.StatusOK, "ok"))
	if posted := s.stores(third, conversation, "five"); posted.Seq < 4 {
		t.Errorf("the last entry is %+v", posted)
	}
}

// TestMachinesThatDoNotBelongTogetherSaySo is about what an operator may get wrong.
func TestMachinesThatDoNotBelongTogetherSaySo(t *testing.T) {
	s := newSeveral(t)
	s.start(0)
	s.start(1, "--nats-keys", filepath.Join(s.dir, "other"))
	s.waits(0, http.StatusServiceUnavailable, `another one has a different password of the cluster, so copy .*keys of one machine to all`)
	s.machines[0].kill()

	alone, _, _ := up(t, filepath.Join(s.dir, "alone"))
	if code := alone.stop(t); code != 0 {
		t.Errorf("the machine that was alone exits with %d", code)
	}
	s.start(2, "--data", filepath.Join(s.dir, "alone"))
	s.machines[2].says(t, `(is of a machine that stood alone, and a cluster would not keep it)`)
	if code := exitCode(t, s.machines[2]); code != 1 {
		t.Errorf("it exits with %d", code)
	}
}
