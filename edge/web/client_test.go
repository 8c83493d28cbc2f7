package web_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestClient runs the page in a real browser against the scripted peer.
func TestClient(t *testing.T) {
	if testing.Short() {
		return // It needs a browser.
	}
	browser := startBrowser(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, p *peer, open func(conversation string) *tab)
	}{
		{"a jump in seq is filled and a repeat is dropped", testHole},
		{"an unconfirmed message is sent again under its id after a reconnect", testReconnect},
		{"an unconfirmed message is sent again under its id after a reload", testReload},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t)
			p.say("g.general", "bob", "one")
			p.say("g.general", "cy", "two")
			p.say("g.general", "bob", "three")
			c.run(t, p, func(conversation string) *tab { return signedIn(t, browser, p, conversation) })
		})
	}
}

func testHole(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	p.say("g.general", "bob", "four")
	five := p.say("g.general", "cy", "five")
	six := p.say("g.general", "bob", "six")
	p.event("entry", six)
	b.untilRows("1 2 3 4 5 6")
	p.event("entry", five)
	p.event("entry", six)
	seven := p.say("g.general", "cy", "seven")
	p.event("entry", seven)
	b.untilRows("1 2 3 4 5 6 7")
	pages := p.made("history.page")
	last := pages[len(pages)-1]
	if last.Data["after"] != 3.0 || last.Data["at_least"] != 6.0 {
		t.Errorf("the hole was asked for with %v, want after 3, at_least 6", last.Data)
	}
}

func testReconnect(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	tries := 0
	p.setScript(func(c call) *reply {
		if c.Name != "send.post" {
			return nil
		}
		if tries++; tries == 1 {
			return &reply{store: true, drop: true} // Stored, but the client cannot know.
		}
		if tries == 2 {
			return &reply{code: "unavailable"}
		}
		return nil
	})
	b.write("hello there")
	b.untilRows("1 2 3 4")
	sameClientID(t, p.until("send.post", 2))
	if n := eval[int](b, `document.querySelectorAll("[data-client-id]").length`); n != 0 {
		t.Errorf("%d messages are still pending", n)
	}
}

func testReload(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	p.setScript(func(c call) *reply {
		if c.Name == "send.post" {
			return &reply{code: "storage_unavailable"}
		}
		return nil
	})
	b.write("keep me")
	b.untilRows("1 2 3 -")
	p.until("send.post", 1)
	p.setScript(nil)
	b.do(chromedp.Reload())
	b.untilRows("1 2 3 4")
	sameClientID(t, p.made("send.post"))
	b.until(`Object.keys(localStorage).filter((k) => k.includes("outbox")).length === 0`)
}

func sameClientID(t *testing.T, posts []call) {
	t.Helper()
	ids := map[string]int{}
	for _, post := range posts {
		ids[fmt.Sprint(post.Data["client_id"])]++
	}
	if len(ids) != 1 || len(posts) < 2 {
		t.Errorf("%d tries under the ids %v, want several under one", len(posts), ids)
	}
}
