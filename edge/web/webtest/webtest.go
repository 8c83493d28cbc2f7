// Package webtest drives the web client in a real browser, for the tests of the client itself and for those of the whole system. A test fails when a page throws
// or breaks its content security policy. Only tests import it.
package webtest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience is how long a page may take for what it is expected to do.
const Patience = 30 * time.Second

// watcher notes what a page must never do: break its content security policy.
const watcher = `window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.blockedURI));`

// Start starts the machine's Chromium, headless, with an empty profile.
func Start(t testing.TB) context.Context {
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

// Tab is one page with a storage of its own.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

// Open shows address in a new tab; the test fails if the page throws or breaks its policy.
func Open(t testing.TB, browser context.Context, address string) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &Tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		violations := Eval[[]string](b, "window.violations")
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
	b.Do(chromedp.Navigate(address))
	return b
}

// Do performs steps within the time that a page is given.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\npage: %.2000s", err, b.Text())
	}
}

// Until waits for a JavaScript expression to become true. It asks again and again, so that it survives a reload.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	var last error
	ok := Eventually(func() bool {
		value, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		last = err
		return err == nil && value
	})
	if !ok {
		b.t.Fatalf("never true: %s (%v)\npage: %.4000s", expression, last, b.Text())
	}
}

// Eval returns the value of a JavaScript expression, awaited if it is a promise.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("evaluate %.300s: %v", expression, err)
	}
	return value
}

// Prefer shows the page as to somebody who prefers a colour scheme, light or dark.
func (b *Tab) Prefer(scheme string) {
	b.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.t.Fatalf("prefer %s: %v", scheme, err)
	}
}

// Click clicks the element that matches the selector, as soon as it is visible.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.Do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

// Fill types into the element that matches the selector, as soon as it is visible.
func (b *Tab) Fill(selector, text string) {
	b.t.Helper()
	b.Do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Write types into the compose box and sends.
func (b *Tab) Write(text string) {
	b.t.Helper()
	b.Fill("[data-test=compose]", text+"\r")
}

// Text is what a person would read on the page.
func (b *Tab) Text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("app")?.innerText ?? ""`))
	return strings.TrimSpace(text)
}

// Eventually asks until ok says yes, or for as long as Patience, and reports whether it did.
func Eventually(ok func() bool) bool {
	deadline := time.NewTimer(Patience)
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
