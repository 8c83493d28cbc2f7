package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func text(n int) json.RawMessage { return json.RawMessage(fmt.Sprintf(`{"text":"%d"}`, n)) }

func TestAPostReturnsWhenItIsStored(t *testing.T) {
	p := newPeer(t)
	c := p.dial()
	posted, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: text(1)})
	if err != nil || posted.Seq != 1 || posted.Conversation != "g.a" || c.User() != "ada" {
		t.Fatalf("%+v, %v as %s", posted, err, c.User())
	}
	posted, err = c.Post(within(t), wire.Post{To: "bob", ClientID: "mine", Body: text(1)})
	if err != nil || posted.Conversation != "d.ada.bob" || p.tries["mine"] != 1 {
		t.Fatalf("%+v, %v", posted, err)
	}
	if _, err := c.Post(within(t), wire.Post{To: "ada", Body: text(1)}); wire.CodeOf(err) != wire.BadData {
		t.Errorf("to oneself: %v", err)
	}
	if _, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: json.RawMessage(`"x"`)}); wire.CodeOf(err) != wire.BadData {
		t.Errorf("a body that is no object: %v", err)
	}
}

// TestSendsSurviveEveryFault loses answers, connections and tries, and expects every post once, in order.
func TestSendsSurviveEveryFault(t *testing.T) {
	p := newPeer(t)
	var n atomic.Int64
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call != "send.post" {
			return false
		}
		switch n.Add(1) % 7 {
		case 1: // never stored, and no answer
			p.cut()
		case 2: // stored, and the answer is lost with the connection
			p.store(f)
			p.cut()
		case 3:
			s.fail(f, wire.StorageUnavailable)
		case 4:
			p.store(f)
			s.fail(f, wire.Timeout)
		case 5:
			s.write(wire.AppendError(nil, f.ID, &wire.Error{Code: wire.RateLimited, Message: "Slow down.", RetryAfterMS: 3}))
		case 6:
			s.fail(f, "a_code_of_a_later_release")
		default:
			return false
		}
		return true
	}
	c := p.dial()
	var group sync.WaitGroup
	for lane := range 3 {
		id := subjects.Conversation(fmt.Sprintf("g.%d", lane))
		group.Go(func() {
			for i := range 15 {
				if _, err := c.Post(within(t), wire.Post{Conversation: id, Body: text(i)}); err != nil {
					t.Errorf("post %d to %s: %v", i, id, err)
				}
			}
		})
	}
	group.Wait()
	for id, entries := range p.log {
		if len(entries) != 15 {
			t.Errorf("%s has %d entries", id, len(entries))
		}
		for i, e := range entries {
			if string(e.Body) != string(text(i)) {
				t.Errorf("%s: entry %d is %s", id, i, e.Body)
			}
		}
	}
	if p.dials < 5 {
		t.Errorf("only %d connections: the faults did not hit", p.dials)
	}
}

func TestARefusedPostIsNotRepeated(t *testing.T) {
	p := newPeer(t)
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call == "send.post" {
			s.fail(f, wire.Forbidden)
		}
		return f.Call == "send.post"
	}
	c := p.dial()
	_, err := c.Post(within(t), wire.Post{Conversation: "c.news", Body: text(1)})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Forbidden || p.count("send.post") != 1 {
		t.Errorf("%v after %d tries", err, p.count("send.post"))
	}
}

// counted is an outbox that counts what was ever saved in it, also what is sent and gone.
type counted struct {
	MemoryOutbox
	saved atomic.Int64
}

func (o *counted) Save(d Draft) error {
	defer o.saved.Add(1)
	return o.MemoryOutbox.Save(d)
}

func TestPostsOfOneConversationKeepTheirOrder(t *testing.T) {
	p := newPeer(t)
	var outbox counted
	c := p.dial(WithOutbox(&outbox))
	p.cut()
	var group sync.WaitGroup
	for i := range 30 { // queued while there is no connection, one after another
		group.Go(func() {
			if _, err := c.Post(within(t), wire.Post{Conversation: "g.a", Body: text(i)}); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "saved", func() bool { return outbox.saved.Load() == int64(i+1) })
	}
	group.Wait()
	for i, e := range p.log["g.a"] {
		if string(e.Body) != string(text(i)) {
			t.Errorf("entry %d is %s", i, e.Body)
		}
	}
}

func (c *Client) waiting() int {
	c.order.Lock()
	defer c.order.Unlock()
	return len(c.drafts.drafts)
}

func (p *peer) stored(id subjects.Conversation) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log[id])
}

func TestDraftsSurviveARestart(t *testing.T) {
	p := newPeer(t)
	var deaf atomic.Bool
	deaf.Store(true)
	p.script = func(s *socket, f wire.Frame) bool {
		if f.Call == "send.post" && deaf.Load() {
			p.store(f) // stored, and nobody hears of it
			return true
		}
		return false
	}
	path := filepath.Join(t.TempDir(), "outbox")
	box, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	c := p.dial(WithOutbox(box))
	for i := range 3 {
		go func() { _, _ = c.Post(t.Context(), wire.Post{Conversation: "g.a", Body: text(i)}) }()
		eventually(t, "saved", func() bool { return c.waiting() == i+1 })
	}
	eventually(t, "the first is tried", func() bool { return p.stored("g.a") == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_ = box.Close()
	deaf.Store(false)
	if box, err = OpenFileOutbox(path); err != nil {
		t.Fatal(err)
	}
	c = p.dial(WithOutbox(box))
	sent := map[wire.Seq]string{}
	for len(sent) < 3 {
		if e, ok := (<-c.Events()).(*Sent); ok {
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			var post wire.Post
			_ = json.Unmarshal(e.Draft.Data, &post)
			sent[e.Posted.Seq] = string(post.Body)
		}
	}
	for i := range 3 {
		if sent[wire.Seq(i+1)] != string(text(i)) {
			t.Errorf("seq %d is %s", i+1, sent[wire.Seq(i+1)])
		}
	}
	if p.stored("g.a") != 3 {
		t.Errorf("%d entries", p.stored("g.a"))
	}
	if left, _ := box.Load(); len(left) != 0 {
		t.Errorf("%d drafts are left", len(left))
	}
	_ = c.Close()
	_ = box.Close()
}

// TestOldDraftsAreLookedUp: beyond the window in which repeats are recognised, the client looks in history before it sends anew.
func TestOldDraftsAreLookedUp(t *testing.T) {
	p := newPeer(t)
	p.script = func(s *socket, f wire.Frame) bool {
		var post wire.Post
		if f.Call != "send.post" || json.Unmarshal(f.Data, &post) != nil || (post.ClientID != "old-stored" && post.ClientID != "old-lost" && post.ClientID != "own-lost") {
			return false
		}
		s.fail(f, wire.RetryWindowExpired)
		return true
	}
	for i := range 450 {
		p.say("g.a", fmt.Sprint(i))
	}
	p.mu.Lock()
	p.appendLocked("g.a", wire.Entry{From: "ada", ClientID: "old-stored", Body: text(1)})
	p.mu.Unlock()
	box := &MemoryOutbox{}
	for _, id := range []string{"old-stored", "old-lost", "own-lost"} {
		data := json.RawMessage(`{"conversation":"g.a","client_id":"` + id + `","body":{"text":"x"}}`)
		_ = box.Save(Draft{ClientID: id, Minted: id != "own-lost", Call: "send.post", Conversation: "g.a", Data: data, At: wire.At(time.Now().Add(-time.Hour))})
	}
	c := p.dial(WithOutbox(box), WithEventBuffer(1000))
	var got []*Sent
	for len(got) < 3 {
		if e, ok := (<-c.Events()).(*Sent); ok {
			got = append(got, e)
		}
	}
	if got[0].Err != nil || got[0].Posted.Seq != 451 || !got[0].Posted.Duplicate {
		t.Errorf("the stored one: %+v", got[0])
	}
	if got[1].Err != nil || got[1].Posted.Seq != 452 || got[1].Draft.ClientID == "old-lost" {
		t.Errorf("the lost one: %+v", got[1])
	}
	if wire.CodeOf(got[2].Err) != wire.RetryWindowExpired {
		t.Errorf("the lost one whose id the program chose: %+v", got[2])
	}
}
