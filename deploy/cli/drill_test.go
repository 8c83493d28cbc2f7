package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/check"
	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const drillPassword = "correct horse battery staple"

// drill is a confab of one process whose store is lost and restored while people write.
type drill struct {
	t       *testing.T
	data    string
	url     string
	process *exec.Cmd
	history *history.Writer
	rooms   []subjects.Conversation
	people  []*speaker
	acked   atomic.Int64
}

// speaker is one person on one device, who writes and reads.
type speaker struct {
	user   subjects.User
	client *client.Client
	count  int
}

// up starts the program and waits for its banner.
func (d *drill) up() {
	d.t.Helper()
	d.process = exec.Command(itself(d.t), "up", "--data", d.data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", "", "--cache-mib", "0",
		"--limits", "none", "--registration", "open")
	out, err := d.process.StdoutPipe()
	if err == nil {
		d.process.Stderr = os.Stderr
		err = d.process.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.kill)
	lines := bufio.NewScanner(out)
	for banner := regexp.MustCompile(`Open +(https?://[^/\s]+)/`); lines.Scan(); {
		if found := banner.FindStringSubmatch(lines.Text()); found != nil {
			d.url = found[1]
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
			return
		}
	}
	d.t.Fatal("confab does not serve")
}

// kill ends the process as kill -9 does.
func (d *drill) kill() {
	_ = d.process.Process.Kill()
	_ = d.process.Wait()
}

// run runs a command in a process of its own and returns what it prints.
func (d *drill) run(args ...string) string {
	d.t.Helper()
	out, err := exec.CommandContext(d.t.Context(), itself(d.t), args...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("confab %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// connect signs everybody in.
func (d *drill) connect() {
	d.t.Helper()
	for _, p := range d.people {
		var err error
		if p.client, err = client.Dial(d.t.Context(), d.url, client.WithPassword(p.user, drillPassword), client.WithDevice("desk")); err != nil {
			d.t.Fatalf("%s signs in: %v", p.user, err)
		}
		d.record(p, history.Record{Kind: history.Connect})
	}
}

func (d *drill) record(p *speaker, r history.Record) {
	r.User, r.Device = p.user, "desk"
	d.history.Add(r)
}

// chat has everybody write, recall and read until stop is called.
func (d *drill) chat() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, p := range d.people {
		all.Go(func() {
			for ctx.Err() == nil {
				d.say(ctx, p, d.rooms[p.count%len(d.rooms)])
			}
		})
		for _, c := range d.rooms {
			all.Go(func() { d.read(ctx, p, c) })
		}
	}
	return func() {
		cancel()
		all.Wait()
		for _, p := range d.people {
			_ = p.client.Close()
			d.record(p, history.Record{Kind: history.Close})
		}
	}
}

// say posts once, and takes back every eighth message.
func (d *drill) say(ctx context.Context, p *speaker, c subjects.Conversation) {
	p.count++
	words := fmt.Sprintf("%s/desk/%d", p.user, p.count)
	post := wire.Post{Conversation: c, ClientID: client.NewClientID(), Body: []byte(`{"text":"` + words + `"}`)}
	d.record(p, history.Record{Kind: history.Invoke, Conversation: c, ClientID: post.ClientID, Body: words})
	posted, err := client.Call[wire.Post, wire.Posted](ctx, p.client, "send.post", post)
	outcome := history.Record{Kind: history.OK, Conversation: c, ClientID: post.ClientID, Seq: posted.Seq}
	if refusal, refused := errors.AsType[*wire.Error](err); refused && !refusal.Code.Info().Unknown {
		outcome.Kind, outcome.Code = history.Reject, refusal.Code
	} else if err != nil {
		outcome.Kind = history.Unknown
	}
	d.record(p, outcome)
	if outcome.Kind != history.OK {
		return
	}
	if d.acked.Add(1); p.count%8 == 0 {
		_, _ = client.Call[wire.Recall, wire.Posted](ctx, p.client, "send.recall", wire.Recall{Conversation: c, Seq: posted.Seq, ClientID: client.NewClientID()}) // it may end with the process
	}
}

// read shows a conversation from its beginning until ctx ends and, where nothing comes that was not known, all of it was shown.
func (d *drill) read(ctx context.Context, p *speaker, c subjects.Conversation) {
	d.record(p, history.Record{Kind: history.Restart, Conversation: c})
	view, err := p.client.Follow(c, 0)
	if err != nil {
		d.t.Errorf("%s reads %s: %v", p.user, c, err)
		return
	}
	defer view.Close()
	for {
		e, err := view.Next(ctx)
		if err != nil {
			return
		}
		r := drillRecord(e)
		r.Kind, r.Conversation = history.Receive, c
		d.record(p, r)
	}
}

func drillRecord(e wire.Entry) history.Record {
	r := history.Record{Seq: e.Seq, From: e.From, Entry: e.Kind, ClientID: e.ClientID, Target: e.Target}
	if e.Kind == wire.KindMessage {
		text, _ := strings.CutPrefix(string(e.Body), `{"text":"`)
		r.Body, _ = strings.CutSuffix(text, `"}`)
	}
	return r
}

// truth reads every conversation in four ways, the last of them in the store itself.
func (d *drill) truth() {
	d.t.Helper()
	p := d.people[0]
	config, found := standalone.Local(d.data, natsconfig.Backup)
	if !found {
		d.t.Fatal("the data directory does not say how to reach its server")
	}
	nc, _, err := config.Connect("drill", call{note: d.t.Output()}.errors())
	if err != nil {
		d.t.Fatal(err)
	}
	defer nc.Close()
	store, err := jetstream.Open(d.t.Context(), nc)
	if err != nil {
		d.t.Fatal(err)
	}
	defer store.Close()
	for _, c := range d.rooms {
		forward := d.pages(p, c)
		head := forward[len(forward)-1].Seq
		backward := d.back(p, c)
		for source, entries := range map[history.Source][]wire.Entry{
			history.Forward: forward, history.Backward: backward, history.Fresh: d.fresh(p, c, head), history.Stream: d.stored(store, c),
		} {
			for _, e := range entries {
				r := drillRecord(e)
				r.Kind, r.Conversation, r.Source = history.Truth, c, source
				d.history.Add(r)
			}
		}
	}
}

func (d *drill) page(p *speaker, q wire.PageQuery) []wire.Entry {
	d.t.Helper()
	page, err := p.client.Page(d.t.Context(), q)
	if err != nil {
		d.t.Fatal(err)
	}
	entries, err := client.Entries(page)
	if err != nil {
		d.t.Fatal(err)
	}
	return entries
}

func (d *drill) pages(p *speaker, c subjects.Conversation) (all []wire.Entry) {
	for after := wire.Seq(0); ; {
		entries := d.page(p, wire.PageQuery{Conversation: c, After: &after, Limit: wire.MaxPage})
		if len(entries) == 0 {
			return all
		}
		all = append(all, entries...)
		after = entries[len(entries)-1].Seq
	}
}

func (d *drill) back(p *speaker, c subjects.Conversation) (all []wire.Entry) {
	query := wire.PageQuery{Conversation: c, Limit: 50}
	for {
		entries := d.page(p, query)
		if len(entries) == 0 {
			return all
		}
		before := entries[0].Seq
		slices.Reverse(entries)
		all, query.Before = append(all, entries...), &before
	}
}

func (d *drill) fresh(p *speaker, c subjects.Conversation, head wire.Seq) (all []wire.Entry) {
	device, err := client.Dial(d.t.Context(), d.url, client.WithPassword(p.user, drillPassword), client.WithDevice("fresh"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = device.Close() }()
	view, err := device.Follow(c, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer view.Close()
	for len(all) == 0 || all[len(all)-1].Seq < head {
		e, err := view.Next(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (d *drill) stored(store *jetstream.Store, c subjects.Conversation) (all []wire.Entry) {
	_, err := store.Scan(d.t.Context(), subjects.StreamOf(c), 0, func(m jetstream.Stored) error {
		if m.Subject != subjects.Message(c) {
			return nil
		}
		var e wire.Entry
		err := json.Unmarshal(m.Data, &e)
		all = append(all, e)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// gather registers everybody, makes the conversations, and returns a refresh token.
func (d *drill) gather() (refresh string) {
	d.t.Helper()
	var members []subjects.User
	for _, u := range []subjects.User{"ada", "bob", "cyd"} {
		tokens, err := client.Register(d.t.Context(), d.url, wire.Register{User: u, Password: drillPassword})
		if err != nil {
			d.t.Fatal(err)
		}
		refresh = tokens.RefreshToken
		members, d.people = append(members, u), append(d.people, &speaker{user: u})
	}
	d.connect()
	for _, c := range d.rooms {
		_, id, _ := strings.Cut(string(c), ".")
		if _, err := d.people[0].client.Create(d.t.Context(), wire.Create{Kind: subjects.KindGroup, ID: id, Title: id, Members: members[1:]}); err != nil {
			d.t.Fatal(err)
		}
		for _, u := range members {
			d.history.Add(history.Record{Kind: history.Founder, User: u, Conversation: c})
		}
	}
	return refresh
}

// until waits until so many more messages are acknowledged.
func (d *drill) until(more int64) {
	d.t.Helper()
	for want, deadline := d.acked.Load()+more, time.Now().Add(patience); d.acked.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatal("nobody can write")
		}
	}
}

// TestTheDrill takes a backup while people write, kills the process, throws its data away, restores, and lets people go on: nothing is missing that was
// acknowledged before the backup, and nothing contradicts itself.
func TestTheDrill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var written bytes.Buffer
	d := &drill{t: t, data: filepath.Join(dir, "data"), history: history.NewWriter(&written), rooms: []subjects.Conversation{"g.drill", "g.other"}}
	d.up()
	refresh := d.gather()
	stop := d.chat()
	d.until(150)
	file := filepath.Join(dir, "confab.backup")
	d.history.Add(history.Record{Kind: history.Backup})
	before := d.acked.Load()
	d.run("backup", file, "--data", d.data)
	during := d.acked.Load() - before
	d.until(100)
	d.history.Add(history.Record{Kind: history.Fault, Fault: "lose the store"})
	d.kill()
	stop()
	if err := os.RemoveAll(d.data); err != nil {
		t.Fatal(err)
	}
	out := d.run("restore", file, "--data", d.data)
	if !strings.Contains(out, ": 0 defects, 0 unfinished") || !strings.Contains(out, "Everybody signs in again") {
		t.Errorf("restore prints %q", out)
	}
	d.up()
	d.history.Add(history.Record{Kind: history.Restored})
	if answer, err := http.Post(d.url+"/v1/call/auth/refresh", "application/json", strings.NewReader(`{"refresh_token":"`+refresh+`"}`)); err != nil || answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a refresh token of before: %v, %v", answer, err)
	}
	d.connect()
	stop = d.chat()
	d.until(100)
	stop()
	d.connect()
	d.history.Add(history.Record{Kind: history.Heal, Fault: "lose the store"})
	d.finish()
	if out := d.run("verify", "--data", d.data); !strings.Contains(out, ": 0 defects, 0 unfinished") {
		t.Errorf("verify prints %q", out)
	}
	if err := d.history.Flush(); err != nil {
		t.Fatal(err)
	}
	records, err := history.Read(&written)
	if err != nil {
		t.Fatal(err)
	}
	verdict := check.History(records, check.Bounds{AllowCalm: true})
	t.Logf("%s: %d acknowledged, %d of them during the backup, %d without a known outcome", verdict.Result, verdict.Figures.Acknowledged, during, verdict.Figures.Unknown)
	for _, f := range verdict.Findings[:min(20, len(verdict.Findings))] {
		t.Errorf("%s %s %s entry %d at %v: %s", f.Defect, f.Conversation, f.Who, f.Seq, f.At, f.Text)
	}
	if verdict.Result != check.Pass {
		t.Errorf("the verdict is %s", verdict.Result)
	}
}

// finish has everybody show everything there is, and reads what that is.
func (d *drill) finish() {
	d.t.Helper()
	for _, p := range d.people {
		for _, c := range d.rooms {
			entries := d.pages(p, c)
			d.record(p, history.Record{Kind: history.Restart, Conversation: c})
			for _, e := range entries {
				r := drillRecord(e)
				r.Kind, r.Conversation = history.Receive, c
				d.record(p, r)
			}
		}
	}
	d.history.Add(history.Record{Kind: history.Quiet})
	d.truth()
	for _, p := range d.people {
		_ = p.client.Close()
	}
}
