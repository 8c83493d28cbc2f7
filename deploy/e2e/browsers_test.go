package e2e

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/confab-im/confab/edge/web/webtest"
)

// TestTwoBrowsersChatThroughAKill is the whole of confab as two people meet it: the banner's links, a conversation, a killed server, and the conversation
// going on where it was.
func TestTwoBrowsersChatThroughAKill(t *testing.T) {
	if testing.Short() {
		return // the only test of this package that needs a browser
	}
	data := t.TempDir()
	first, target, b := up(t, data)
	browser := webtest.Start(t)
	owner := webtest.Open(t, browser, b.owner)
	guest := webtest.Open(t, browser, b.invite)

	owner.Until(`document.querySelector("[data-conversation='g.general'] button") !== null`)
	guest.Fill("[data-test=user]", "bob")
	guest.Fill("[data-test=password]", password)
	guest.Click("[data-test=register]")
	for _, tab := range []*webtest.Tab{owner, guest} {
		tab.Click("[data-conversation='g.general'] button")
		tab.Until(`document.querySelector("[data-test=compose]") !== null`)
	}
	owner.Write("hello bob")
	guest.Until(shows("owner", "hello bob", 1))
	guest.Write("hello owner")
	owner.Until(shows("bob", "hello owner", 1))

	// A direct conversation, where the other's typing and reading show.
	owner.Click("[data-test=new-direct]")
	owner.Fill("[data-test=direct-user]", "bob")
	owner.Click("[data-test=confirm]")
	owner.Until(`document.querySelector("[data-test=presence][data-state=online]") !== null`)
	owner.Write("just between us")
	guest.Click("[data-conversation='d.bob.owner'] button")
	guest.Until(shows("owner", "just between us", 1))
	owner.Until(`document.querySelector("[data-test=progress][data-state=read]") !== null`)
	guest.Fill("[data-test=compose]", "soo")
	owner.Until(`document.querySelector("[data-test=typing]").textContent !== ""`)

	first.kill()
	for _, tab := range []*webtest.Tab{owner, guest} {
		tab.Until(`!document.querySelector("[data-test=banner]").hidden`)
	}
	guest.Write("n") // the end of a word that was begun while there was a server
	owner.Write("are you there?")

	address, err := url.Parse(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	up(t, data, "--listen", address.Host)
	for _, tab := range []*webtest.Tab{owner, guest} {
		tab.Until(`document.querySelector("[data-test=banner]").hidden`)
		tab.Until(shows("bob", "soon", 1))
		tab.Until(shows("owner", "are you there?", 1))
		tab.Until(shows("owner", "just between us", 1))
	}
	guest.Click("[data-conversation='g.general'] button")
	guest.Until(shows("owner", "hello bob", 1))
}

// shows is true when the open conversation shows exactly n stored messages of a user with a text.
func shows(user, text string, n int) string {
	return fmt.Sprintf(`[...document.querySelectorAll("[data-test=messages] [data-seq][data-from='%s']")].filter((e) => e.innerText.includes(%q)).length === %d`, user, text, n)
}
