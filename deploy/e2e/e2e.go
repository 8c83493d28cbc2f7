// Package e2e holds one behaviour suite that speaks only the public protocol, and the topologies that it runs against: all in one process, and edge and
// functions as processes of their own on one NATS server.
//
// What a function decides in detail is tested beside the function; here stands what a user of the whole would notice.
package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// patience bounds every wait of the suite. It is long because a loaded machine is slow, and no test waits that long when all is well.
const patience = 20 * time.Second

// Target is a running system. Registration must be open, and rate limits lifted.
type Target struct {
	URL  string // of an edge, such as http://127.0.0.1:8080
	NATS string // of the NATS server, for what operators look at
	NKey string // the file with the seed of a NATS user who may do everything; empty = none is needed
}

// operator returns a connection of somebody who may do everything on the NATS server, until the test ends.
func (target Target) operator(t testing.TB) *nats.Conn {
	t.Helper()
	var options []nats.Option
	if target.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(target.NKey)
		if err != nil {
			t.Fatal(err)
		}
		options = append(options, option)
	}
	nc, err := nats.Connect(target.NATS, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Run runs the suite against a target. Each case registers users of its own, so that a target may be used for more than one run.
func Run(t *testing.T, target Target) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Target)
	}{
		{"people register, sign in, refresh and sign out", accounts},
		{"a token counts for one user until it is revoked", revocation},
		{"two people talk directly", direct},
		{"a repeated send is stored once", repeats},
		{"messages are edited, recalled and reacted to", amends},
		{"a group lives", group},
		{"a removed member sees its removal and nothing after", removal},
		{"readers of a channel read", channel},
		{"history pages in every direction", paging},
		{"unread counts are exact", unread},
		{"receipts reach the others", receipts},
		{"presence follows connections and settings", presence},
		{"typing is signalled and not stored", typing},
		{"the same calls work over HTTP", overHTTP},
		{"answers and events have the fields that the protocol names", shapes},
		{"entries are folded for those who may see them", visibility},
		{"a token that runs out is announced, and then closes", expiry},
		{"hostile ids go nowhere", hostile},
		{"bad frames are answered", badFrames},
		{"order holds for one sender", order},
		{"operators can look inside", inspection},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}

// name returns a user's handle that nobody has.
func name(prefix string) subjects.User {
	return subjects.User(prefix + "-" + strings.ToLower(rand.Text()[:8]))
}

// password is what every user of the suite signs in with.
const password = "correct horse battery"

// text returns the body of a message.
func text(format string, args ...any) []byte {
	return []byte(fmt.Sprintf(`{"text":%q}`, fmt.Sprintf(format, args...)))
}

// fails stops the test unless err carries the code.
func fails(t *testing.T, err error, want wire.Code) {
	t.Helper()
	if got := wire.CodeOf(err); got != want {
		t.Fatalf("the error is %v, want the code %s", err, want)
	}
}
