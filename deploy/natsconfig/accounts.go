package natsconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/subjects"
)

// The accounts. Viewers are apart because of what JetStream does with answers: it publishes them on whatever subject a request names, also where the requester
// may not publish. In an account of their own that leads nowhere, so looking really changes nothing.
const (
	Account = "CONFAB"         // the store and all programs
	Viewers = "CONFAB_VIEWERS" // sees of Account what the viewer may see
	system  = "CONFAB_SYSTEM"  // the server's own
)

const (
	everything = ">"
	anyInbox   = "_INBOX.>" // where clients want answers that were not told otherwise

	// answersToViewers is where the server wants the answers to requests from another account. A user cannot ask for answers there.
	answersToViewers = replyPrefix + "*.*"
	replyPrefix      = "_R_."

	viewersAPI = "look.api."
	gate       = replyPrefix + "api." // with more tokens behind it than answersToViewers has
	gateSystem = "_api."
)

// changing is the requests, behind subjects.JetStreamAPI, that change streams or consumers.
//
// JetStream publishes answers on whatever subject a request names, and takes requests from there. So who may read one message could have the answer "not found", which
// is empty as a request to delete a stream is, published on that very subject. Therefore such requests count only where a client publishes them itself:
// a mapping, which applies to clients alone, moves them behind a prefix that the server refuses as the place of an answer, and from there they are
// imported from the system account, where the usual subjects lead nowhere.
var changing = []string{
	"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.RESTORE", "STREAM.SNAPSHOT", "STREAM.MSG.DELETE", "STREAM.PEER", "STREAM.LEADER",
	"CONSUMER.CREATE", "CONSUMER.DURABLE", "CONSUMER.DELETE", "CONSUMER.PAUSE", "CONSUMER.RESET", "CONSUMER.UNPIN", "CONSUMER.PEER", "CONSUMER.LEADER",
}

// seen returns the subject that a server sees where a client of an account publishes: permissions are compared with that one.
func seen(account, subject string) string {
	request, ok := strings.CutPrefix(subject, subjects.JetStreamAPI)
	switch {
	case !ok:
		return subject
	case account == Viewers:
		return viewersAPI + request
	case slices.ContainsFunc(changing, func(c string) bool { return strings.HasPrefix(request, c+".") }):
		return gate + request
	}
	return subject
}

// writeSystem writes the account in which the server answers requests to JetStream.
func writeSystem(b *strings.Builder) {
	fmt.Fprintf(b, "  %s {\n    exports: [{service: %q, accounts: [%s]}]\n    mappings: {\n", system, gateSystem+">", Account)
	for _, request := range changing {
		fmt.Fprintf(b, "      %q: %q\n      %q: %q\n", subjects.JetStreamAPI+request+".>", "refused."+request+".>", gateSystem+request+".>", subjects.JetStreamAPI+request+".>")
	}
	b.WriteString("    }\n  }\n")
}

// writeGate writes how the requests of clients that change something reach the system account.
func writeGate(b *strings.Builder) {
	fmt.Fprintf(b, "    imports: [{service: {account: %s, subject: %q}, to: %q}]\n    mappings: {\n", system, gateSystem+">", gate+">")
	for _, request := range changing {
		fmt.Fprintf(b, "      %q: %q\n", subjects.JetStreamAPI+request+".>", gate+request+".>")
	}
	b.WriteString("    }\n")
}

// writeExports writes what the accounts of viewers may see of this one.
func writeExports(b *strings.Builder, users []User) {
	asks, hears := views(users)
	b.WriteString("    exports: [\n")
	for _, subject := range asks {
		many := ""
		if strings.HasPrefix(subject, micro.APIPrefix) || strings.HasPrefix(subject, subjects.DirectRead("")) {
			many = ", response: stream"
		}
		fmt.Fprintf(b, "      {service: %q%s, accounts: [%s]}\n", subject, many, Viewers)
	}
	for _, subject := range hears {
		fmt.Fprintf(b, "      {stream: %q, accounts: [%s]}\n", subject, Viewers)
	}
	b.WriteString("    ]\n")
}

// writeImports writes the same from the viewers' side. Their requests to JetStream go elsewhere first, since the server answers for their own account otherwise, which has no store.
func writeImports(b *strings.Builder, users []User) {
	asks, hears := views(users)
	fmt.Fprintf(b, "    mappings: {%q: %q}\n    imports: [\n", subjects.JetStreamAPI+">", viewersAPI+">")
	for _, subject := range asks {
		fmt.Fprintf(b, "      {service: {account: %s, subject: %q}, to: %q}\n", Account, subject, seen(Viewers, subject))
	}
	for _, subject := range hears {
		fmt.Fprintf(b, "      {stream: {account: %s, subject: %q}}\n", Account, subject)
	}
	b.WriteString("    ]\n")
}

// views returns what the users in the viewers' account ask for and hear.
func views(users []User) (asks, hears []string) {
	for _, u := range users {
		if u.Account != Viewers {
			continue
		}
		asks = append(asks, u.Publish...)
		for _, subject := range u.Subscribe {
			if subject != anyInbox && !slices.Contains(inboxes(u.Name), subject) {
				hears = append(hears, subject)
			}
		}
	}
	return asks, hears
}
