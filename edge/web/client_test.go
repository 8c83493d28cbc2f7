package web_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/confab-im/confab/edge/web/webtest"
)

// TestClient runs the page in a real browser against the scripted peer.
func TestClient(t *testing.T) {
	if testing.Short() {
		return // It needs a browser.
	}
	browser := webtest.Start(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, p *peer, open func(conversation string) *tab)
	}{
		{"a jump in seq is filled and a repeat is dropped", testHole},
		{"an unconfirmed message is sent again under its id after a reconnect", testReconnect},
		{"an unconfirmed message is sent again under its id after a reload", testReload},
		{"a refused message stays in view and can be tried again", testRefused},
		{"a message beyond a frame is refused without closing the socket", testTooLarge},
		{"hostile text is shown and does nothing", testInert},
		{"edits, recalls and reactions change the message they speak of", testAmend},
		{"head and resync events fetch what was missed", testMissed},
		{"what was missed while away is fetched after a reconnect", testAway},
		{"a replaced socket stays away until asked", testReplaced},
		{"draining is obeyed", testDraining},
		{"an expired token is refreshed and not asked for again", testRefresh},
		{"a revoked session signs out and forgets", testRevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
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
	b.Write("hello there")
	b.untilRows("1 2 3 4")
	sameClientID(t, p.until("send.post", 2))
	if n := webtest.Eval[int](b.Tab, `document.querySelectorAll("[data-client-id]").length`); n != 0 {
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
	b.Write("keep me")
	b.untilRows("1 2 3 -")
	p.until("send.post", 1)
	p.setScript(nil)
	b.Do(chromedp.Reload())
	b.untilRows("1 2 3 4")
	sameClientID(t, p.made("send.post"))
	b.Until(`Object.keys(localStorage).filter((k) => k.includes("outbox")).length === 0`)
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

func testRefused(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	p.setScript(func(c call) *reply {
		if c.Name == "send.post" {
			return &reply{code: "too_large"}
		}
		return nil
	})
	b.Write("much too long")
	b.Until(`document.querySelector(".failure")?.textContent.includes("too long")`)
	if n := len(p.made("send.post")); n != 1 {
		t.Errorf("a definite no was tried %d times", n)
	}
	p.setScript(nil)
	b.Click("[data-test=retry]")
	b.untilRows("1 2 3 4")
	sameClientID(t, p.made("send.post"))
}

func testTooLarge(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	webtest.Eval[bool](b.Tab, `(document.querySelector("[data-test=compose]").value = "ä".repeat(40000), true)`)
	b.Click("[data-test=send]")
	b.Until(`document.querySelector(".failure")?.textContent.includes("too long")`)
	b.Click("[data-test=discard]")
	b.Write("short")
	b.untilRows("1 2 3 4")
	if len(p.made("hello")) != 2 || len(p.made("send.post")) != 1 {
		t.Errorf("%d hellos and %d posts, want 2 (one to adopt the link's token) and 1", len(p.made("hello")), len(p.made("send.post")))
	}
}

func testInert(t *testing.T, p *peer, open func(string) *tab) {
	p.titles["g.general"] = "<img src=x onerror=pwned=1>\u202eevil"
	for _, text := range []string{
		`<img src=x onerror="window.pwned=1"><svg onload="window.pwned=1"></svg>`,
		`<script>window.pwned=1</script>`,
		`javascript:window.pwned=1 data:text/html,<script>pwned=1</script>`,
		"\u202egnp.exe\u202c https://good.example/\u202egnp.exe",
		`see https://good.example/a?b=c#d. And HTTP://good.example`,
		strings.Repeat("ẑ̈̃", 400) + "\u2066\u2067\u200f",
	} {
		p.say("g.general", "mallory", text)
	}
	b := open("g.general")
	b.untilRows("1 2 3 4 5 6 7 8 9")
	shown := webtest.Eval[string](b.Tab, `[...document.querySelectorAll(".text")].slice(3, 5).map((e) => e.textContent).join(" ")`)
	if !strings.Contains(shown, "<img src=x") || !strings.Contains(shown, "<script>window.pwned=1</script>") {
		t.Errorf("the text was altered: %q", shown)
	}
	if webtest.Eval[bool](b.Tab, `"pwned" in window || document.querySelector("img, .text svg, .text script, [onerror]") !== null`) {
		t.Error("markup of a message became part of the page")
	}
	links := webtest.Eval[string](b.Tab, `[...document.querySelectorAll("[data-test=messages] a")].map((a) => a.href + " " + a.rel).join("\n")`)
	want := "https://good.example/ noopener noreferrer nofollow\nhttps://good.example/a?b=c#d noopener noreferrer nofollow\nhttp://good.example/ noopener noreferrer nofollow"
	if links != want {
		t.Errorf("links:\n%s\nwant:\n%s", links, want)
	}
	isolated := webtest.Eval[bool](b.Tab, `[...document.querySelectorAll(".text, .title, .author, .preview")].every((e) => getComputedStyle(e).unicodeBidi === "isolate")`)
	if !isolated {
		t.Error("a foreign text can turn the text around it")
	}
	blocked := webtest.Eval[[]string](b.Tab, `(new Image().src = "https://elsewhere.example/", new Promise((done) => setTimeout(() => done(window.violations.splice(0)), 100)))`)
	if len(blocked) == 0 {
		t.Error("the policy did not stop a foreign image, so nothing above proves anything")
	}
}

func testAmend(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	b.Write("frist")
	b.untilRows("1 2 3 4")
	choose := func(seq int, test string) {
		b.Do(chromedp.Focus(chromedp.CSS(fmt.Sprintf(`[data-seq="%d"] .more`, seq))))
		b.Click(fmt.Sprintf(`[data-seq="%d"] .more`, seq))
		b.Click(fmt.Sprintf(`[data-test=%s]`, test))
	}
	choose(4, "edit")
	webtest.Eval[bool](b.Tab, `(document.querySelector("[data-test=compose]").select(), true)`)
	b.Write("first")
	b.Until(`document.querySelector("[data-seq='4'] .text").textContent === "first" && document.querySelector("[data-seq='4'] .meta").textContent.includes("edited")`)
	choose(1, "react")
	b.Until(`document.querySelector("[data-seq='1'] .reaction[aria-pressed=true]")?.textContent === "👍1"`)
	p.event("entry", p.store(entry{Conversation: "g.general", Kind: "reaction", From: "cy", Target: 1, Body: object{"emoji": "👍"}}))
	b.Until(`document.querySelector("[data-seq='1'] .reaction").textContent === "👍2"`)
	p.event("entry", p.store(entry{Conversation: "g.general", Kind: "edit", From: "cy", Target: 2, Body: object{"text": "zwei"}}))
	b.Until(`document.querySelector("[data-seq='2'] .text").textContent === "zwei"`)
	choose(4, "recall")
	b.Until(`document.querySelector("[data-seq='4'] .recalled") !== null`)
	b.untilRows("1 2 3 4")
	b.Do(chromedp.Reload()) // The same from a page, where it comes folded.
	b.Until(`document.querySelector("[data-seq='4'] .recalled") !== null && document.querySelector("[data-seq='2'] .text").textContent === "zwei"
		&& document.querySelector("[data-seq='1'] .reaction").textContent === "👍2"`)
}

func testMissed(t *testing.T, p *peer, open func(string) *tab) {
	p.say("g.other", "bob", "quiet")
	b := open("g.general")
	b.untilRows("1 2 3")
	p.event("head", object{"conversation": "g.general", "seq": p.say("g.general", "bob", "four").Seq})
	b.untilRows("1 2 3 4")
	b.Until(`document.querySelector("[data-conversation='g.other'] [data-test=unread]").textContent.startsWith("1")`)
	p.event("head", object{"conversation": "g.other", "seq": p.say("g.other", "bob", "psst").Seq})
	b.Until(`document.querySelector("[data-conversation='g.other'] [data-test=unread]").textContent.startsWith("2")`)
	p.say("g.general", "bob", "five")
	p.event("resync", object{"reason": "test"})
	b.untilRows("1 2 3 4 5")
}

func testAway(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	for i := range 450 {
		p.say("g.general", "bob", fmt.Sprint("missed ", i))
	}
	p.close(4001)
	b.Until(rowsExpression + `.split(" ").length === 453`)
	b.Until(rowsExpression + `.split(" ").every((seq, i) => Number(seq) === i + 1)`)
}

func testReplaced(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	hellos := len(p.made("hello"))
	p.close(4503)
	b.Until(`document.querySelector("[data-test=banner][data-state=stopped]")?.hidden === false`)
	p.say("g.general", "bob", "four")
	if n := len(p.made("hello")); n != hellos {
		t.Errorf("a replaced socket came back by itself: %d hellos, want %d", n, hellos)
	}
	b.Click("[data-test=banner] button")
	b.untilRows("1 2 3 4")
}

func testDraining(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	hellos := len(p.made("hello"))
	p.event("draining", object{"reconnect_after_ms": 1500})
	closed := time.Now()
	p.close(4000)
	made := p.until("hello", hellos+1)
	if waited := made[hellos].At.Sub(closed); waited < 1400*time.Millisecond || waited > 10*time.Second {
		t.Errorf("came back after %v, told 1.5s", waited)
	}
	b.Until(`document.querySelector("[data-test=banner]").hidden`)
}

func testRefresh(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	p.setScript(func(c call) *reply {
		if c.Name == "hello" && c.Data["token"] == "t1" {
			return &reply{code: "token_expired"}
		}
		return nil
	})
	p.close(4003)
	p.say("g.general", "bob", "four")
	b.untilRows("1 2 3 4")
	if n := len(p.made("auth.refresh")); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	b.Do(chromedp.Reload())
	b.untilRows("1 2 3 4")
	hellos := p.made("hello")
	if token := hellos[len(hellos)-1].Data["token"]; token != "fresh" || len(p.made("auth.refresh")) != 1 {
		t.Errorf("after a reload hello came with %q and %d refreshes", token, len(p.made("auth.refresh")))
	}
}

func testRevoked(t *testing.T, p *peer, open func(string) *tab) {
	b := open("g.general")
	b.untilRows("1 2 3")
	p.close(4506)
	b.Until(`document.querySelector("[data-test=login]") !== null`)
	if left := webtest.Eval[string](b.Tab, `Object.keys(localStorage).join()`); left != "" {
		t.Errorf("signed out, yet the storage keeps %s", left)
	}
}
