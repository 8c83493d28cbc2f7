package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// sleepy are the flags with which every function is a process of its own that leaves when nobody has called it for a second.
var sleepy = []string{"--functions", "processes", "--idle-timeout", "1s", "--sleep-all"}

func TestFunctionsAsChildProcessesThatSleep(t *testing.T) {
	p, target, _ := up(t, t.TempDir(), append(sleepy, "--log", "info")...)
	Run(t, target)
	asleep(t, p)
	// Clients that are connected and silent keep nobody awake.
	quiet := register(t, target, "quiet")
	asleep(t, p)
	quiet.say("g.general", "who was that?")
	if code := p.stop(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if left := p.children(); len(left) > 0 {
		t.Errorf("processes %v outlive confab", left)
	}
	for _, line := range p.lines {
		if strings.Contains(line, "crashed") || strings.Contains(line, "is killed") {
			t.Errorf("somebody did not leave in peace: %s", line)
		}
	}
}

func TestChildrenEndWithConfab(t *testing.T) {
	p, target, _ := up(t, t.TempDir(), "--functions", "processes")
	register(t, target, "ada").say("g.general", "awake")
	children := p.children()
	if len(children) < 3 {
		t.Fatalf("only %v run", children)
	}
	p.kill()
	eventually(t, "every child is gone", func() bool {
		for _, pid := range children {
			if state, _ := processState(pid); state != "" && state != "Z" {
				return false
			}
		}
		return true
	})
}

func TestChildrenOutliveARestartOfTheServer(t *testing.T) {
	server := jetstreamtest.Start(t, jetstreamtest.Synced())
	p, target, _ := up(t, t.TempDir(), "--nats-url", server.URL, "--functions", "processes", "--log", "info")
	ada := register(t, target, "ada")
	ada.say("g.general", "before")
	children := p.children()
	server.Restart(t)
	eventually(t, "ada is heard again", func() bool {
		_, err := post[wire.Posted](target, ada.tokens.Token, "send.post", wire.Post{Conversation: "g.general", ClientID: client.NewClientID(), Body: text("after")})
		return err == nil
	})
	if after := p.children(); !slices.Equal(slices.Sorted(slices.Values(children)), slices.Sorted(slices.Values(after))) {
		t.Errorf("the processes %v are now %v", children, after)
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

// TestAFunctionThatDoesNotStartFailsFast takes away what auth reads when it starts.
func TestAFunctionThatDoesNotStartFailsFast(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	write := func() {
		if err := os.WriteFile(secret, []byte(strings.Repeat("s", 40)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	issuers := fmt.Sprintf("[{issuer: elsewhere, audience: confab, secret_file: %q}]", secret)
	p, target, _ := up(t, t.TempDir(), append(sleepy, "--issuers", issuers)...)
	ada := register(t, target, "ada")
	asleep(t, p)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one finds the function broken already, or tries again
		began := time.Now()
		_, err := post[wire.Tokens](target, "", "auth.login", wire.Login{User: ada.user, Password: password})
		fails(t, err, wire.Unavailable)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the call failed after %s", took)
		}
		if !strings.Contains(err.Error(), "does not start") {
			t.Errorf("the error reads %v", err)
		}
	}
	p.says(t, `function does not start.*(secret)`)
	write()
	eventually(t, "auth answers again", func() bool {
		_, err := post[wire.Tokens](target, "", "auth.login", wire.Login{User: ada.user, Password: password})
		return err == nil
	})
}

// TestKilledInstancesLoseNothing kills children at random, also while they start, under people who send until they have an answer.
func TestKilledInstancesLoseNothing(t *testing.T) {
	p, target, _ := up(t, t.TempDir(), append(sleepy, "--idle-timeout", "300ms")...)
	const senders, kills, least, most = 6, 15, 20, 90
	pause := 20 * time.Millisecond // which leaves a child the time to start more often than not
	if raceEnabled {
		pause = 60 * time.Millisecond
	}
	peers := make([]*peer, senders)
	for i := range peers {
		peers[i] = register(t, target, fmt.Sprintf("sender-%d", i))
	}
	peace, over := make(chan struct{}), make(chan struct{})
	killed := 0
	go func() {
		defer close(peace)
		last := time.Now()
		for killed < kills {
			select {
			case <-over:
				return
			case <-time.After(pause + rand.N(10*pause)):
				if children := p.children(); len(children) > 0 && syscall.Kill(children[rand.N(len(children))], syscall.SIGKILL) == nil {
					killed++
					last = time.Now()
				}
			}
			// The supervisor pauses longer and longer before it starts what dies so young. Nobody would have an answer in time if each such start were met by a kill.
			if killed >= kills/2 && time.Since(last) > time.Second {
				return
			}
		}
	}()
	stored := make([][]wire.Posted, senders)
	var sending sync.WaitGroup
	for i, sender := range peers {
		sending.Go(func() {
			for n := range most {
				select {
				case <-peace:
					if n >= least {
						return
					}
				case <-time.After(rand.N(4 * pause)):
				}
				posted, ok := persist(t, sender, wire.Post{To: peers[i^1].user, ClientID: client.NewClientID(), Body: text("%d of %d", n, i)})
				if !ok {
					return
				}
				stored[i] = append(stored[i], posted)
			}
		})
	}
	sending.Wait()
	close(over)
	<-peace
	t.Logf("%d processes were killed", killed)
	if killed < kills/2 {
		t.Fatal("that was not enough to show anything")
	}
	for i := 0; i < senders; i += 2 {
		complete(t, peers[i], peers[i^1], [2][]wire.Posted{stored[i], stored[i^1]})
	}
}

// persist sends a post until it is answered, as whoever gets an unknown answer must.
func persist(t *testing.T, p *peer, in wire.Post) (wire.Posted, bool) {
	for deadline := time.Now().Add(3 * patience); ; {
		posted, err := try[wire.Posted](p, "send.post", in)
		if err == nil {
			return posted, true
		}
		if !wire.CodeOf(err).Info().Unknown || time.Now().After(deadline) {
			t.Errorf("a post of %s ends with %v", p.user, err)
			return wire.Posted{}, false
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// complete looks that a conversation holds what was answered, each once, and each sender's in its order.
func complete(t *testing.T, a, b *peer, stored [2][]wire.Posted) {
	t.Helper()
	conversation, _ := subjects.Direct(a.user, b.user)
	zero := wire.Seq(0)
	entries := decodeEntries(t, call[wire.Page](a, "history.page", wire.PageQuery{Conversation: conversation, After: &zero, Limit: 200}))
	if want := len(stored[0]) + len(stored[1]); len(entries) != want {
		t.Errorf("%s holds %d entries, want %d", conversation, len(entries), want)
	}
	last := map[subjects.User]int{a.user: -1, b.user: -1}
	for _, e := range entries {
		_, number, _ := strings.Cut(string(e.Body), `"text":"`)
		number, _, _ = strings.Cut(number, " ")
		if n, err := strconv.Atoi(number); err != nil || n != last[e.From]+1 {
			t.Errorf("entry %d of %s reads %s after number %d", e.Seq, e.From, e.Body, last[e.From])
		}
		last[e.From]++
	}
	for _, all := range stored {
		for _, posted := range all {
			if int(posted.Seq) > len(entries) || entries[posted.Seq-1].At != posted.At {
				t.Errorf("what was acknowledged as %+v is not there", posted)
			}
		}
	}
}

// asleep waits until no child of an all-in-one runs.
func asleep(t testing.TB, p *process) {
	t.Helper()
	eventually(t, "everything sleeps", func() bool { return len(p.children()) == 0 })
}

// children returns the processes that a process has started and that run.
func (p *process) children() (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if state, parent := processState(pid); state != "Z" && parent == p.cmd.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processState returns the state of a process, "" where there is none, and its parent.
func processState(pid int) (state string, parent int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name in parentheses may hold anything
	if fields := strings.Fields(rest); len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1])
		return fields[0], parent
	}
	return "", 0
}
