package web_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/confab-im/confab/edge/web/webtest"
)

// tab is one page with a storage of its own.
type tab struct{ *webtest.Tab }

// open shows address in a new tab.
func open(t *testing.T, browser context.Context, address string) *tab {
	t.Helper()
	return &tab{webtest.Open(t, browser, address)}
}

// signedIn opens the page as ada, by a link with a token, with a conversation open if one is given.
func signedIn(t *testing.T, browser context.Context, p *peer, conversation string) *tab {
	t.Helper()
	b := open(t, browser, p.URL+"/#token=t1&refresh=r1")
	b.Until(`document.querySelector("[data-test=conversations]") !== null`)
	if conversation != "" {
		b.Click(fmt.Sprintf(`[data-conversation="%s"] button`, conversation))
		b.Until(`document.querySelector("[data-test=compose]") !== null`)
	}
	return b
}

// rowsExpression is what the message view shows: seqs of messages, or - for one that is not confirmed.
const rowsExpression = `[...document.querySelectorAll("[data-test=messages] .message")].map((e) => e.dataset.seq ?? "-").join(" ")`

// untilRows waits for exactly these rows.
func (b *tab) untilRows(rows string) {
	b.Until(fmt.Sprintf("%s === %q", rowsExpression, rows))
}
