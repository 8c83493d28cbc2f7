package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// pollFolder is the folder of a function in JavaScript, which shows what a function in any language must do.
const pollFolder = "../../functions/examples/poll"

// The bodies of function poll.
type (
	openPoll struct {
		Conversation subjects.Conversation `json:"conversation"`
		ClientID     string                `json:"client_id"`
		Question     string                `json:"question"`
		Options      []string              `json:"options"`
	}
	pollQuery struct {
		Conversation subjects.Conversation `json:"conversation"`
		Seq          wire.Seq              `json:"seq"`
	}
	pollResults struct {
		Question string `json:"question"`
		Options  []struct {
			Sign   string          `json:"sign"`
			Text   string          `json:"text"`
			Voters []subjects.User `json:"voters"`
		} `json:"options"`
	}
)

// needNode fails the test where node or the packages of the example are missing.
func needNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("this test runs a function in JavaScript: install Node.js 20 or newer (apt-get install nodejs npm), or test with -short")
	}
	if _, err := os.Stat(filepath.Join(pollFolder, "node_modules", "@nats-io", "transport-node")); err != nil {
		t.Fatal("this test runs a function in JavaScript that uses the NATS client of npm: run npm ci in functions/examples/poll, or test with -short")
	}
	// Node reads these files where the test cache does not see it.
	for _, pattern := range []string{"*", "confab/*"} {
		files, err := filepath.Glob(filepath.Join(pollFolder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if _, err := os.Stat(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// poll starts an instance of the example and waits until it is up.
func poll(t *testing.T, url string, env ...string) *process {
	t.Helper()
	cmd := exec.Command("node", "main.js")
	cmd.Dir = pollFolder
	cmd.Env = append(os.Environ(), append(env, "CONFAB_NATS_URL="+url)...)
	p := launch(t, "node", cmd)
	p.says(t, "instance is up")
	return p
}

func TestAFunctionInAnotherLanguage(t *testing.T) {
	if testing.Short() {
		return // it needs node
	}
	needNode(t)
	data := t.TempDir()
	_, target, _ := up(t, data, "--manifests", filepath.Join(pollFolder, "function.yaml"))
	t.Setenv("CONFAB_NATS_NKEY", key(data, "poll"))
	nc := target.operator(t)
	if err := jetstream.DeclareConsumers(t.Context(), nc, []jetstream.ConsumerSpec{{Function: "poll", Entries: true, HandTime: 2 * time.Second}}); err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 100)
	if _, err := nc.ChanSubscribe(subjects.Scale("poll", subjects.Up), heard); err != nil {
		t.Fatal(err)
	}
	instance := poll(t, target.NATS)
	ada, bob, eve := register(t, target, "ada"), register(t, target, "bob"), register(t, target, "eve")
	w := pollWorld{ada, bob, eve, nc, target, ""}
	w.group = call[wire.ConversationInfo](ada, "conversations.create", wire.Create{Kind: subjects.KindGroup, Title: "Lunch", Members: []subjects.User{bob.user}}).Conversation

	t.Run("it says what its manifest says", func(t *testing.T) { saysItsManifest(t, <-heard) })
	t.Run("clients call it", w.calls)
	t.Run("operators see it", w.micro)
	t.Run("a message is an event", w.event)
	t.Run("what cannot be handled is left as a dead letter", w.dead)
	t.Run("an instance that dies or leaves loses nothing", func(t *testing.T) { w.replaced(t, instance) })
	t.Run("an instance that nobody needs leaves", w.idle)
}

// TestConfabStartsAFunctionInAnotherLanguage runs the example as its author would: by its folder, in a process that is there while it is needed.
func TestConfabStartsAFunctionInAnotherLanguage(t *testing.T) {
	if testing.Short() {
		return // it needs node
	}
	needNode(t)
	p, target, _ := up(t, t.TempDir(), "--function", pollFolder, "--idle-timeout", "500ms", "--log", "info")
	ada := register(t, target, "ada")
	for _, question := range []string{"Lunch?", "Dinner?"} {
		opened := call[wire.Posted](ada, "poll.open", openPoll{"g.general", client.NewClientID(), question, []string{"yes", "no"}})
		if results := call[pollResults](ada, "poll.results", pollQuery{"g.general", opened.Seq}); results.Question != question {
			t.Errorf("the results are %+v", results)
		}
		p.says(t, "instance left")
	}
	seq := ada.say("g.general", "/poll Tea? | yes | no").Seq
	until(ada, "the poll", wire.EventEntry, func(e wire.Entry) bool { return e.ReplyTo == seq })
	if code := p.stop(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for _, line := range p.lines { // its NATS user has the rights of its manifest
		if strings.Contains(line, "ermission") {
			t.Error(line)
		}
	}
}

// pollWorld is a group of ada and bob, and eve, who is not in it.
type pollWorld struct {
	ada, bob, eve *peer
	nc            *nats.Conn
	target        Target
	group         subjects.Conversation
}

func saysItsManifest(t *testing.T, msg *nats.Msg) {
	data, err := os.ReadFile(filepath.Join(pollFolder, "function.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var up wire.InstanceUp
	if err := json.Unmarshal(msg.Data, &up); err != nil {
		t.Fatal(err)
	}
	methods := map[subjects.Method]manifest.Method{}
	for _, method := range up.Methods {
		methods[method.Name] = manifest.Method{
			Public: method.Public, Anonymous: method.Anonymous, Idempotent: method.Idempotent, Timeout: time.Duration(method.TimeoutMS) * time.Millisecond,
		}
	}
	if up.Function != m.Function || up.Concurrency != m.Concurrency || !reflect.DeepEqual(methods, m.Methods) {
		t.Errorf("it says %+v, and its manifest %+v", up, m)
	}
}

func (w pollWorld) calls(t *testing.T) {
	ask := openPoll{w.group, client.NewClientID(), "Lunch?", []string{"noodles", "soup"}}
	opened := call[wire.Posted](w.ada, "poll.open", ask)
	if again := call[wire.Posted](w.ada, "poll.open", ask); again.Seq != opened.Seq || !again.Duplicate {
		t.Errorf("opened twice: %+v", again)
	}
	seen := w.bob.entry(w.group, opened.Seq)
	if seen.From != w.ada.user || !strings.Contains(string(seen.Body), "noodles") {
		t.Errorf("bob sees %+v", seen)
	}
	query := pollQuery{w.group, opened.Seq}
	sign := call[pollResults](w.bob, "poll.results", query).Options[1].Sign
	call[wire.Posted](w.bob, "send.react", wire.React{Conversation: w.group, Seq: opened.Seq, ClientID: client.NewClientID(), Emoji: sign})
	results := call[pollResults](w.ada, "poll.results", query)
	if results.Question != "Lunch?" || len(results.Options) != 2 || len(results.Options[0].Voters) != 0 || !reflect.DeepEqual(results.Options[1].Voters, []subjects.User{w.bob.user}) {
		t.Errorf("the results are %+v", results)
	}

	// What the functions that it asks refuse, it refuses with the same code.
	refused(w.eve, wire.NotFound, "poll.results", query)
	ask.ClientID = client.NewClientID()
	refused(w.eve, wire.NotFound, "poll.open", ask)
	ask.Options = nil
	refused(w.ada, wire.BadData, "poll.open", ask)
	_, err := post[wire.Posted](w.target, "", "poll.open", ask)
	fails(t, err, wire.Unauthenticated)
}

func (w pollWorld) micro(t *testing.T) {
	for verb, want := range map[string]string{"PING": `"name":"im-poll"`, "INFO": `"subject":"im.rpc.poll.open"`, "STATS": `"num_requests":`} {
		answer, err := w.nc.Request("$SRV."+verb+".im-poll", nil, patience)
		if err != nil || !strings.Contains(string(answer.Data), want) {
			t.Errorf("%s is answered %v, %v", verb, answer, err)
		}
	}
}

// command says a command as ada and returns its seq.
func (w pollWorld) command(format string, args ...any) wire.Seq {
	return w.ada.say(w.group, format, args...).Seq
}

func (w pollWorld) event(t *testing.T) {
	w.ada.say(w.group, "/poll is only a word here")
	seq := w.command("/poll Tea? | yes | no")
	opened := until(w.bob, "the poll", wire.EventEntry, func(e wire.Entry) bool { return e.Conversation == w.group && e.ReplyTo == seq })
	if results := call[pollResults](w.bob, "poll.results", pollQuery{w.group, opened.Seq}); results.Question != "Tea?" || opened.From != w.ada.user {
		t.Errorf("the poll is %+v with %+v", opened, results)
	}
}

func (w pollWorld) dead(t *testing.T) {
	letters, err := w.nc.SubscribeSync(subjects.Dead("poll"))
	if err != nil {
		t.Fatal(err)
	}
	// The poll holds its options twice, which is more than a message may.
	seq := w.command("/poll Which? | %s | %s", strings.Repeat("a", 7000), strings.Repeat("b", 7000))
	msg, err := letters.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var letter wire.DeadLetter
	if err := json.Unmarshal(msg.Data, &letter); err != nil {
		t.Fatal(err)
	}
	if letter.Function != "poll" || letter.Code != wire.TooLarge || letter.Attempts != 1 || letter.Stream != subjects.MessagesStream(w.group.Partition()) || letter.Sequence == 0 ||
		letter.Entry == nil || letter.Entry.Seq != seq || letter.Entry.Body != nil {
		t.Errorf("the dead letter is %+v", letter)
	}

	// An operator hands it over again, in vain; and one that is gone.
	for _, sequence := range []uint64{1 << 40, letter.Sequence} {
		ref, err := json.Marshal(wire.EntryRef{Conversation: w.group, Seq: seq, Sequence: sequence})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.nc.Request(subjects.Job("poll", wire.MethodEntry), ref, patience); err != nil {
			t.Fatal(err)
		}
	}
	if msg, err = letters.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	again := wire.DeadLetter{}
	if err := json.Unmarshal(msg.Data, &again); err != nil || again.Stream != subjects.StreamJobs || again.Entry == nil || again.Entry.Seq != seq {
		t.Errorf("the second dead letter is %s, %v", msg.Data, err)
	}
}

// replaced kills an instance, and asks another one to leave, while commands and calls come.
func (w pollWorld) replaced(t *testing.T, first *process) {
	seqs := map[wire.Seq]bool{}
	say := func(n int) {
		for i := range n {
			seqs[w.command("/poll Number %d? | yes | no", i)] = true
		}
	}
	opened := call[wire.Posted](w.ada, "poll.open", openPoll{w.group, client.NewClientID(), "Still here?", []string{"yes", "no"}})
	asking, stop := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		var err error
		for asking.Err() == nil && err == nil {
			_, err = try[pollResults](w.bob, "poll.results", pollQuery{w.group, opened.Seq})
		}
		failed <- err
	}()
	say(10)
	second := poll(t, w.target.NATS)
	first.kill()
	say(10)
	poll(t, w.target.NATS)
	say(5)
	if code := second.stop(t); code != 0 {
		t.Errorf("it left with %d", code)
	}
	say(5)
	for seq := range seqs {
		until(w.bob, fmt.Sprintf("the poll of %d", seq), wire.EventEntry, func(e wire.Entry) bool { return e.Conversation == w.group && e.ReplyTo == seq })
	}
	stop()
	if err := <-failed; err != nil {
		t.Errorf("a call failed: %v", err)
	}
	answers := map[wire.Seq]int{}
	for _, e := range w.bob.entries(w.group) {
		if seqs[e.ReplyTo] {
			answers[e.ReplyTo]++
		}
	}
	for seq, n := range answers {
		if n != 1 {
			t.Errorf("the command %d was answered %d times", seq, n)
		}
	}
}

func (w pollWorld) idle(t *testing.T) {
	p := poll(t, w.target.NATS, "CONFAB_IDLE_TIMEOUT=300ms")
	if code := exitCode(t, p); code != 0 {
		t.Errorf("it left with %d", code)
	}
	cmd := exec.Command("node", "main.js")
	cmd.Dir = pollFolder
	cmd.Env = append(os.Environ(), "CONFAB_IDLE_TIMEOUT=soon")
	if code := exitCode(t, launch(t, "node", cmd)); code != 2 {
		t.Errorf("with a setting that is wrong it ended with %d", code)
	}
}
