package web_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take for what it is expected to do.
const patience = 30 * time.Second

// watcher notes what a page must never do: break its content security policy.
const watcher = `window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.blockedURI));`

// startBrowser starts the machine's Chromium, headless, with an empty profile.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("no browser found: install Chromium (apt-get install chromium), or run go test -short to leave out what needs one")
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1200, 800))
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		stop()
		cancel()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return browser
}

// tab is one page with a storage of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

// open shows address in a new tab; the test fails if the page throws or breaks its policy.
func open(t *testing.T, browser context.Context, address string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		violations := eval[[]string](b, "window.violations")
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(violations) > 0 || len(b.errors) > 0 {
			t.Errorf("violations of the policy: %v; exceptions: %v", violations, b.errors)
		}
	})
	err := chromedp.Listen(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.errors = append(b.errors, fmt.Sprintf("%+v", *thrown.ExceptionDetails))
		}
	})
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	script := page.AddScriptToEvaluateOnNewDocumentParams{Source: watcher}
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, script); err != nil {
		t.Fatalf("watch the policy: %v", err)
	}
	b.do(chromedp.Navigate(address))
	return b
}

// signedIn opens the page as ada, by a link with a token, with a conversation open if one is given.
func signedIn(t *testing.T, browser context.Context, p *peer, conversation string) *tab {
	t.Helper()
	b := open(t, browser, p.URL+"/#token=t1&refresh=r1")
	b.until(`document.querySelector("[data-test=conversations]") !== null`)
	if conversation != "" {
		b.click(fmt.Sprintf(`[data-conversation="%s"] button`, conversation))
		b.until(`document.querySelector("[data-test=compose]") !== null`)
	}
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\npage: %.2000s", err, b.text())
	}
}

// until waits for a JavaScript expression to become true. It asks again and again, so that it survives a reload.
func (b *tab) until(expression string) {
	b.t.Helper()
	var last error
	ok := eventually(func() bool {
		value, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		last = err
		return err == nil && value
	})
	if !ok {
		b.t.Fatalf("never true: %s (%v)\npage: %.4000s", expression, last, b.text())
	}
}

// eval returns the value of a JavaScript expression, awaited if it is a promise.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("evaluate %.300s: %v", expression, err)
	}
	return value
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// write types into the compose box and sends.
func (b *tab) write(text string) {
	b.t.Helper()
	b.fill("[data-test=compose]", text+"\r")
}

// rows is what the message view shows: seqs of messages, or - for one that is not confirmed.
func (b *tab) rows() string {
	b.t.Helper()
	return eval[string](b, rowsExpression)
}

const rowsExpression = `[...document.querySelectorAll("[data-test=messages] .message")].map((e) => e.dataset.seq ?? "-").join(" ")`

// untilRows waits for exactly these rows.
func (b *tab) untilRows(rows string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%s === %q", rowsExpression, rows))
}

// text is what a person would read on the page.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("app")?.innerText ?? ""`))
	return strings.TrimSpace(text)
}

// eventually asks until ok says yes or patience is over.
func eventually(ok func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
