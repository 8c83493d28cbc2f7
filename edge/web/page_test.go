package web_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/confab-im/confab/edge/web/webtest"
)

// TestPage is about what a person sees and does.
func TestPage(t *testing.T) {
	if testing.Short() {
		return // It needs a browser.
	}
	browser := webtest.Start(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, browser context.Context, p *peer)
	}{
		{"a person signs in by the form and out again", testSignIn},
		{"an invite link leads to an account", testInvite},
		{"a link with a token signs in and leaves no trace of it", testTokenLink},
		{"scrolling up shows older messages and holds still", testHistory},
		{"messages count as read when they are seen", testRead},
		{"own messages show how far they have come", testProgress},
		{"typing and presence are shown", testTyping},
		{"a new conversation begins with its first message", testNewConversation},
		{"members are listed and added, and a reader cannot write", testMembers},
		{"everything is labelled, reachable, and has contrast", testAccessible},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, browser, newPeer(t))
		})
	}
}

func testSignIn(t *testing.T, browser context.Context, p *peer) {
	p.say("g.general", "bob", "one")
	b := open(t, browser, p.URL)
	b.Fill("[data-test=user]", "ada")
	b.Fill("[data-test=password]", "wrong horse")
	b.Click("[data-test=login]")
	b.Until(`document.querySelector("[role=alert]").textContent.includes("wrong")`)
	webtest.Eval[bool](b.Tab, `(document.querySelector("[data-test=password]").select(), true)`)
	b.Fill("[data-test=password]", "correct horse\r")
	b.Until(`document.querySelector("[data-conversation='g.general']") !== null`)
	b.Do(chromedp.Reload())
	b.Click("[data-test=sign-out]")
	b.Until(`document.querySelector("[data-test=login]") !== null && Object.keys(localStorage).length === 0`)
	p.until("auth.logout", 1)
}

func testInvite(t *testing.T, browser context.Context, p *peer) {
	b := open(t, browser, p.URL+"/#invite=c0de")
	b.Until(`document.querySelector("[data-test=invite]")?.value === "c0de" && location.hash === ""`)
	b.Fill("[data-test=user]", "Ada")
	b.Fill("[data-test=password]", "correct horse")
	b.Fill("[data-test=name]", "Ada L")
	b.Click("[data-test=register]")
	b.Until(`document.querySelector("[data-test=conversations]") !== null`)
	data := p.until("auth.register", 1)[0].Data
	if data["user"] != "ada" || data["name"] != "Ada L" || data["invite"] != "c0de" {
		t.Errorf("registered with %v", data)
	}
}

func testTokenLink(t *testing.T, browser context.Context, p *peer) {
	p.say("g.general", "bob", "one")
	b := open(t, browser, p.URL+"/#token=old&refresh=r1")
	b.Until(`document.querySelector("[data-conversation='g.general']") !== null`)
	if address := webtest.Eval[string](b.Tab, "location.href"); address != p.URL+"/" {
		t.Errorf("the address is %s", address)
	}
	webtest.Eval[bool](b.Tab, `(localStorage.clear(), location.hash = "#refresh=r0", true)`) // A link opened in a page that runs already.
	if again := p.until("auth.refresh", 2)[1].Data["refresh_token"]; again != "r0" {
		t.Errorf("refreshed with %v", again)
	}
	b.Until(`document.querySelector("[data-conversation='g.general']") !== null && location.hash === ""`)
	if refresh := p.until("auth.refresh", 1)[0].Data["refresh_token"]; refresh != "r1" {
		t.Errorf("refreshed with %v", refresh)
	}
}

func testHistory(t *testing.T, browser context.Context, p *peer) {
	for i := range 300 {
		p.say("g.general", []string{"bob", "cy"}[i/3%2], fmt.Sprintf("message %d\nwith a second line", i+1))
	}
	b := signedIn(t, browser, p, "g.general")
	b.Until(`document.querySelector("[data-seq='300']") !== null`)
	atEnd := `(() => { const log = document.querySelector("[data-test=messages]"); return log.scrollHeight - log.scrollTop - log.clientHeight < 4; })()`
	b.Until(atEnd)
	// One row in sight must stay where it is while a page comes in above it.
	moved := webtest.Eval[float64](b.Tab, `(async () => {
		const log = document.querySelector("[data-test=messages]");
		const first = () => Number(document.querySelector("[data-seq]").dataset.seq);
		const before = first();
		log.scrollTop = 200;
		const row = [...document.querySelectorAll("[data-seq]")].find((r) => r.getBoundingClientRect().top > 120);
		const top = row.getBoundingClientRect().top;
		while (first() === before) await new Promise((done) => requestAnimationFrame(done));
		await new Promise((done) => setTimeout(done, 50));
		return Math.abs(row.getBoundingClientRect().top - top);
	})()`)
	if moved > 1 {
		t.Errorf("the row in sight moved by %v px", moved)
	}
	p.event("entry", p.say("g.general", "bob", "below"))
	b.Until(`document.querySelector("[data-seq='301']") !== null`)
	if webtest.Eval[bool](b.Tab, atEnd) {
		t.Error("a new message pulled the view away from what was read")
	}
	b.Until(`(document.querySelector("[data-test=messages]").scrollTop = 0, document.querySelector("[data-seq='1']") !== null)`)
	b.Until(rowsExpression + `.split(" ").every((seq, i) => Number(seq) === i + 1)`)
	b.Click("[data-test=to-end]")
	b.Until(atEnd)
}

func testRead(t *testing.T, browser context.Context, p *peer) {
	for i := range 60 {
		p.say("g.general", "bob", fmt.Sprintf("message %d\nwith a second line", i+1))
	}
	b := signedIn(t, browser, p, "")
	unread := `document.querySelector("[data-conversation='g.general'] [data-test=unread]")`
	b.Until(unread + `?.textContent.startsWith("60")`)
	b.Until(`document.title === "(60) confab"`)
	if n := len(p.made("receipts.mark")); n != 0 {
		t.Errorf("%d marks before anything was seen", n)
	}
	b.Click(`[data-conversation="g.general"] button`)
	b.Until(unread + ` === null && document.title === "confab"`)
	marks := p.made("receipts.mark")
	if marks[len(marks)-1].Data["read"] != 60.0 {
		t.Errorf("marked %v, want read 60", marks)
	}
	b.Until(`document.querySelector(".separator.new") !== null`)
	webtest.Eval[bool](b.Tab, `(document.querySelector("[data-test=messages]").scrollTop = 0, new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true)))))`)
	p.event("entry", p.say("g.general", "bob", "unseen"))
	b.Until(unread + `?.textContent.startsWith("1")`)
	webtest.Eval[bool](b.Tab, `new Promise((done) => setTimeout(() => done(true), 400))`) // Longer than a mark is put off.
	if marks := p.made("receipts.mark"); marks[len(marks)-1].Data["read"] != 60.0 {
		t.Errorf("marked %v, though the newest message was out of sight", marks[len(marks)-1].Data)
	}
	b.Click("[data-test=to-end]")
	b.Until(unread + ` === null`)
	p.event("receipt", object{"conversation": "g.general", "user": "ada", "read": 1, "delivered": 1})
	p.event("entry", p.say("g.general", "bob", "seen"))
	b.Until(`document.querySelector("[data-seq='62']") !== null && ` + unread + ` === null`)
}

func testProgress(t *testing.T, browser context.Context, p *peer) {
	p.say("d.ada.bob", "ada", "hello")
	b := signedIn(t, browser, p, "d.ada.bob")
	state := `document.querySelector("[data-seq='1'] [data-test=progress]")?.dataset.state`
	b.Until(state + ` === "sent"`)
	p.event("receipt", object{"conversation": "d.ada.bob", "user": "bob", "read": 0, "delivered": 1})
	b.Until(state + ` === "delivered"`)
	p.event("receipt", object{"conversation": "d.ada.bob", "user": "bob", "read": 1, "delivered": 1})
	b.Until(state + ` === "read"`)
}

func testTyping(t *testing.T, browser context.Context, p *peer) {
	p.say("d.ada.bob", "bob", "hello")
	p.state["bob"] = object{"state": "online", "devices": 1}
	b := signedIn(t, browser, p, "d.ada.bob")
	b.Until(`[...document.querySelectorAll("[data-test=presence]")].map((e) => e.dataset.state).join() === "online,online"`)
	p.event("presence", object{"user": "bob", "state": "away"})
	b.Until(`[...document.querySelectorAll("[data-test=presence]")].map((e) => e.dataset.state).join() === "away,away"`)
	p.event("signal", object{"conversation": "d.ada.bob", "user": "bob", "kind": "typing"})
	b.Until(`document.querySelector("[data-test=typing]").textContent === "bob is typing…"`)
	p.event("entry", p.say("d.ada.bob", "bob", "there"))
	b.Until(`document.querySelector("[data-test=typing]").textContent === ""`)
	b.Fill("[data-test=compose]", "hm")
	if signals := p.until("signal", 1); len(signals) != 1 || signals[0].Data["kind"] != "typing" {
		t.Errorf("signals %v, want one of typing", signals)
	}
}

func testNewConversation(t *testing.T, browser context.Context, p *peer) {
	b := signedIn(t, browser, p, "")
	b.Click("[data-test=new-direct]")
	b.Fill("[data-test=direct-user]", "Not A Name\r")
	b.Until(`document.querySelector("dialog [role=alert]").textContent !== ""`)
	webtest.Eval[bool](b.Tab, `(document.querySelector("[data-test=direct-user]").select(), true)`)
	b.Fill("[data-test=direct-user]", "bob\r")
	b.Until(`document.querySelector("dialog") === null && location.hash === "#/d.ada.bob"`)
	b.Write("hello bob")
	b.untilRows("1")
	if data := p.made("send.post")[0].Data; data["to"] != "bob" || data["conversation"] != nil {
		t.Errorf("the first message went with %v", data)
	}
	b.Write("once more")
	b.untilRows("1 2")
	b.Click("[data-test=new-group]")
	b.Fill("[data-test=group-title]", "Weekend")
	b.Fill("[data-test=group-members]", "bob, cy")
	b.Click("[data-test=confirm]")
	b.Until(`document.querySelector("[data-conversation='g.weekend'] [aria-current]") !== null`)
	if members := fmt.Sprint(p.made("conversations.create")[0].Data["members"]); members != "[bob cy]" {
		t.Errorf("created with %s", members)
	}
}

func testMembers(t *testing.T, browser context.Context, p *peer) {
	p.say("g.general", "bob", "one")
	p.say("c.news", "bob", "read only")
	p.roles["c.news"] = "reader"
	b := signedIn(t, browser, p, "g.general")
	b.Until(`document.querySelector(".pane-header .subtitle").textContent === "Group · 2 members"`)
	b.Click("[data-test=add-member]")
	b.Until(`document.querySelector("[data-test=members]").textContent.includes("owner")`)
	b.Fill("[data-test=member-user]", "cy\r")
	b.Until(`document.querySelector("dialog") === null`)
	if data := p.until("conversations.add", 1)[0].Data; data["user"] != "cy" {
		t.Errorf("added %v", data)
	}
	b.Click(`[data-conversation="c.news"] button`)
	b.Until(`document.querySelector("[data-test=compose]").checkVisibility() === false && document.querySelector(".readonly").checkVisibility()`)
	p.event("conversation", object{"conversation": "g.general", "change": "removed"})
	b.Until(`document.querySelector("[data-conversation='g.general']") === null`)
}

// contrast lists the texts in sight whose contrast against what they stand on is below 4.5 (WCAG 2, AA).
const contrast = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const paint = (colors) => { canvas.clearRect(0, 0, 1, 1); for (const c of colors) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); } return canvas.getImageData(0, 0, 1, 1).data; };
	const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => { const v = c[i] / 255; return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
	const bad = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node = walk.nextNode(); node; node = walk.nextNode()) {
		const element = node.parentElement;
		if (!node.textContent.trim() || !element.checkVisibility() || element.closest(".only-heard, noscript, .pending")) continue;
		const grounds = [];
		for (let e = element; e; e = e.parentElement) grounds.unshift(getComputedStyle(e).backgroundColor);
		const ground = light(paint(grounds)), text = light(paint([...grounds, getComputedStyle(element).color]));
		const ratio = (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05);
		if (ratio < 4.5) bad.push(element.className + ": " + node.textContent.trim().slice(0, 30) + " " + ratio.toFixed(2));
	}
	return bad;
})()`

// unlabelled lists the controls without a name and the roles that are missing.
const unlabelled = `(() => {
	const name = (e) => e.getAttribute("aria-label") || e.closest("label")?.textContent || e.textContent;
	const bad = [...document.querySelectorAll("button, input, textarea, a, [role=log], nav, dialog")]
		.filter((e) => !(name(e) ?? "").trim() && !e.getAttribute("aria-labelledby")).map((e) => e.outerHTML.slice(0, 80));
	for (const need of ["[role=log][aria-live=polite]", "[role=list]", "[role=status]", "main", "h1", "nav"]) if (!document.querySelector(need)) bad.push("no " + need);
	return bad;
})()`

func testAccessible(t *testing.T, browser context.Context, p *peer) {
	p.state["bob"] = object{"state": "online", "devices": 1}
	p.say("d.ada.bob", "bob", "hello")
	p.say("g.general", "bob", "one")
	p.say("g.general", "ada", "see https://good.example/")
	p.store(entry{Conversation: "g.general", Kind: "reaction", From: "ada", Target: 2, Body: object{"emoji": "ok"}})
	p.store(entry{Conversation: "g.general", From: "ada", Body: object{"text": "quoting"}, ReplyTo: 1})
	p.store(entry{Conversation: "g.general", Kind: "recall", From: "bob", Target: 1})
	b := open(t, browser, p.URL)
	check := func(where string) {
		t.Helper()
		for _, theme := range []string{"light", "dark"} {
			b.Prefer(theme)
			if bad := webtest.Eval[[]string](b.Tab, contrast); len(bad) > 0 {
				t.Errorf("%s, %s: too little contrast:\n%s", where, theme, strings.Join(bad, "\n"))
			}
		}
	}
	b.Until(`document.querySelector("[data-test=user]") !== null`)
	check("sign-in")
	b.Do(chromedp.Navigate(p.URL + "/?#token=t1&refresh=r1"))
	b.Until(`document.querySelector("[data-conversation='g.general']") !== null`)
	p.setScript(func(c call) *reply {
		if c.Name == "send.post" {
			return &reply{code: "too_large"}
		}
		return nil
	})
	// By keyboard alone: into the list, down to the group, and write there.
	b.Do(chromedp.Focus(chromedp.CSS("[data-conversation='d.ada.bob'] button")), chromedp.KeyEvent("\ue015"))
	b.Until(`document.activeElement.closest("[data-conversation='g.general'], [data-conversation='d.ada.bob']") !== null`)
	b.Do(chromedp.Focus(chromedp.CSS("[data-conversation='g.general'] button")), chromedp.KeyEvent("\r"))
	b.Until(`document.activeElement.dataset.test === "compose"`)
	b.Write("refused")
	b.Until(`document.querySelector(".failure") !== null`)
	check("chat")
	if bad := webtest.Eval[[]string](b.Tab, unlabelled); len(bad) > 0 {
		t.Errorf("not labelled:\n%s", strings.Join(bad, "\n"))
	}
	b.Click("[data-seq='2'] .more")
	b.Until(`document.activeElement.getAttribute("role") === "menuitem"`)
	check("menu")
	b.Do(chromedp.KeyEvent("\x1b"))
	b.Until(`document.querySelector("[role=menu]") === null && document.activeElement.matches("[data-seq='2'] .more")`)
	b.Do(chromedp.EmulateViewport(360, 640))
	if wide := webtest.Eval[int](b.Tab, `document.documentElement.scrollWidth`); wide > 360 {
		t.Errorf("the page is %d px wide on a screen of 360", wide)
	}
	b.Click("[data-test=back]")
	b.Until(`document.querySelector(".has-open") === null`)
}
