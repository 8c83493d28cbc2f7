package edge

import (
	"testing"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// posting is a client whose socket has a post to bob at work, of which the answer does not come by itself.
type posting struct {
	*client
	w    *world
	s    *socket
	call *call
}

// newPosting returns a client who posts. What waits for the answer waits for ever, unless rescue lets it be written as a laggard.
func newPosting(t *testing.T, rescue bool, id string) *posting {
	w := newWorld(t)
	r := w.edge()
	p := &posting{client: r.connect(t, w, "ada", "web"), w: w, call: &call{id: []byte(id), lane: "d.ada.bob"}}
	p.s = r.users.find("ada").list()[0]
	p.s.posts(p.call)
	p.s.alter(func(o *outbox) bool { o.late = !rescue; return false })
	return p
}

// waits says something as ada to bob, whose event then waits.
func (p *posting) waits(n int) {
	p.t.Helper()
	p.w.say("d.ada.bob", "ada", "hello")
	eventually(p.t, "its event waits", func() bool {
		p.s.out.mu.Lock()
		defer p.s.out.mu.Unlock()
		return len(p.s.out.frames) == n && !p.s.out.writing
	})
}

func TestTheEventOfAPostIsWrittenWithItsAnswer(t *testing.T) {
	p := newPosting(t, false, "7")
	p.waits(1)
	p.waits(2)
	p.s.posted(p.call)
	p.s.say(okFrame(p.call.id, nil))
	p.expect("d.ada.bob", 1, 2)
	eventually(t, "the answer has come behind it", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.frames) > 0 && string(p.frames[len(p.frames)-1].ID) == "7"
	})
}

func TestNothingElseWaitsForAnAnswer(t *testing.T) {
	for name, say := range map[string]func(w *world) (subjects.Conversation, []wire.Seq){
		"an entry of somebody else": func(w *world) (subjects.Conversation, []wire.Seq) {
			w.say("d.ada.bob", "bob", "hi")
			return "d.ada.bob", []wire.Seq{1}
		},
		"an entry of another conversation": func(w *world) (subjects.Conversation, []wire.Seq) {
			w.say("d.ada.eve", "ada", "hi")
			return "d.ada.eve", []wire.Seq{1}
		},
		"an event behind which something comes": func(w *world) (subjects.Conversation, []wire.Seq) {
			w.say("d.ada.bob", "ada", "hi")
			w.say("d.ada.bob", "bob", "hi")
			return "d.ada.bob", []wire.Seq{1, 2}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPosting(t, false, "7")
			c, seqs := say(p.w)
			p.expect(string(c), seqs...)
		})
	}
}

func TestTheEventOfAPostComesWithoutAnAnswerToo(t *testing.T) {
	t.Run("where the answer takes long", func(t *testing.T) {
		p := newPosting(t, true, "7")
		for seq := range wire.Seq(3) {
			p.w.say("d.ada.bob", "ada", "hello")
			p.expect("d.ada.bob", seq+1)
		}
	})
	t.Run("where none is wanted", func(t *testing.T) {
		p := newPosting(t, false, "")
		p.waits(1)
		p.s.posted(p.call)
		p.expect("d.ada.bob", 1)
	})
	t.Run("where the socket closes", func(t *testing.T) {
		p := newPosting(t, false, "7")
		p.waits(1)
		p.s.close(wire.CloseDraining)
		p.expect("d.ada.bob", 1)
		if code := p.closed(); code != int(wire.CloseDraining) {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("where a post fails", func(t *testing.T) {
		p := newPosting(t, false, "7")
		p.waits(1)
		if _, err := p.client.call("send.post", map[string]any{"conversation": 7}); err == nil || err.Code != wire.BadData {
			t.Errorf("a bad post answers %v", err)
		}
		p.expect("d.ada.bob", 1)
	})
}

func TestPostsAndTheirEventsComeInOrder(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	ada, bob := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web")
	const posts = 50
	for i := range posts {
		post := map[string]any{"conversation": "d.ada.bob", "client_id": "x", "body": text{"hello"}}
		if i%2 == 0 {
			ada.raw(`{"call":"send.post","data":{"conversation":"d.ada.bob","client_id":"x","body":{}}}`)
		} else if _, err := ada.call("send.post", post); err != nil {
			t.Fatal(err)
		}
	}
	for seq := range wire.Seq(posts) {
		ada.expect("d.ada.bob", seq+1)
		bob.expect("d.ada.bob", seq+1)
	}
}
