package e2e

import (
	"testing"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func accounts(t *testing.T, target Target) {
	user := name("ada")
	first, err := post[wire.Tokens](target, "", "auth.register", wire.Register{User: user, Password: password})
	if err != nil || first.User != user || first.Token == "" || first.RefreshToken == "" {
		t.Fatalf("register answers %+v, %v", first, err)
	}
	_, err = post[wire.Tokens](target, "", "auth.register", wire.Register{User: user, Password: password})
	fails(t, err, wire.Conflict)
	_, err = post[wire.Tokens](target, "", "auth.login", wire.Login{User: user, Password: "wrong password"})
	fails(t, err, wire.Unauthenticated)
	_, err = post[wire.Tokens](target, "", "auth.login", wire.Login{User: name("nobody"), Password: password})
	fails(t, err, wire.Unauthenticated)

	p := dial(t, target)
	refused(p, wire.Unauthenticated, "history.heads", wire.HeadsQuery{})
	again := call[wire.Tokens](p, "auth.login", wire.Login{User: user, Password: password})
	refused(p, wire.Unauthenticated, "history.heads", wire.HeadsQuery{})
	call[wire.Welcome](p, wire.CallHello, wire.Hello{Token: again.Token, Device: "web-1"})
	call[wire.Heads](p, "history.heads", wire.HeadsQuery{})

	second, err := post[wire.Tokens](target, "", "auth.refresh", wire.Refresh{RefreshToken: first.RefreshToken})
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	_, err = post[wire.Tokens](target, "", "auth.refresh", wire.Refresh{RefreshToken: first.RefreshToken})
	fails(t, err, wire.Unauthenticated)
	_, err = post[wire.Tokens](target, "", "auth.refresh", wire.Refresh{RefreshToken: second.RefreshToken})
	fails(t, err, wire.Unauthenticated) // the reuse above revoked the family
}

func revocation(t *testing.T, target Target) {
	ada := register(t, target, "ada")
	bob := register(t, target, "bob")
	other := connect(t, target, ada.tokens, "phone-1")
	login, err := post[wire.Tokens](target, "", "auth.login", wire.Login{User: ada.user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	separate := connect(t, target, login, "tablet-1")
	if _, err := post[wire.Empty](target, ada.tokens.Token, "auth.logout", wire.Logout{}); err != nil {
		t.Fatalf("logout: %v", err)
	}
	for _, p := range []*peer{ada, other} {
		if code := p.ended(); code != wire.CloseRevoked {
			t.Errorf("a socket of the session closed with %d, want %d", code, wire.CloseRevoked)
		}
	}
	_, err = post[wire.Heads](target, ada.tokens.Token, "history.heads", wire.HeadsQuery{})
	fails(t, err, wire.Unauthenticated)
	call[wire.Heads](separate, "history.heads", wire.HeadsQuery{})
	if _, err := try[wire.Welcome](separate, wire.CallHello, wire.Hello{Token: bob.tokens.Token, Device: "tablet-1"}); err == nil {
		t.Error("a second hello changed the user")
	}
	if code := separate.ended(); code != wire.CloseForbidden {
		t.Errorf("the second hello closed with %d, want %d", code, wire.CloseForbidden)
	}
	newer := connect(t, target, bob.tokens, "web-1")
	if code := bob.ended(); code != wire.CloseReplaced {
		t.Errorf("the older socket of a device closed with %d, want %d", code, wire.CloseReplaced)
	}
	call[wire.Empty](newer, wire.CallPing, wire.Empty{})
}

func presence(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	users := wire.UsersQuery{Users: []subjects.User{bob.user}}
	if got := call[wire.Presences](ada, wire.CallWatch, users).Users[bob.user]; got.State != wire.StateOnline || got.Devices != 1 {
		t.Fatalf("bob is %+v, want online with one device", got)
	}
	state := func(p *peer, want wire.State) {
		t.Helper()
		until(p, "bob "+string(want), wire.EventPresence, func(c wire.PresenceChange) bool {
			return c.User == bob.user && c.State == want
		})
	}
	call[wire.Empty](bob, "presence.set", wire.PresenceSetting{State: wire.StateAway})
	state(ada, wire.StateAway)
	call[wire.Empty](bob, "presence.set", wire.PresenceSetting{State: wire.StateInvisible})
	state(ada, wire.StateOffline)
	if got := call[wire.Presences](ada, "presence.get", users).Users[bob.user]; got.State != wire.StateOffline || got.Devices != 0 {
		t.Errorf("an invisible user shows as %+v", got)
	}
	call[wire.Empty](bob, "presence.set", wire.PresenceSetting{State: wire.StateOnline})
	state(ada, wire.StateOnline)
	_ = bob.socket.Close()
	until(ada, "bob offline after the end", wire.EventPresence, func(c wire.PresenceChange) bool {
		return c.User == bob.user && c.State == wire.StateOffline && c.LastSeen != nil
	})
}

func overHTTP(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	posted, err := post[wire.Posted](target, ada.tokens.Token, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("by post")})
	if err != nil {
		t.Fatal(err)
	}
	bob.entry(posted.Conversation, posted.Seq)
	_, err = post[wire.Posted](target, "", "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("who?")})
	fails(t, err, wire.Unauthenticated)
	_, err = post[wire.Posted](target, ada.tokens.Token, "send.append", wire.Append{Conversation: posted.Conversation})
	fails(t, err, wire.UnknownCall)
	_, err = post[wire.Posted](target, ada.tokens.Token, "nothing.here", wire.Empty{})
	fails(t, err, wire.UnknownCall)
	_, err = post[wire.Posted](target, ada.tokens.Token, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("%032768d", 1)})
	fails(t, err, wire.TooLarge)
}
