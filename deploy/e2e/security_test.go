package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestTwoEdgesKeepStrangersOut runs with the limits that hold by default. Only the second edge has a proxy to trust, and a narrow limit on sends.
func TestTwoEdgesKeepStrangersOut(t *testing.T) {
	server := jetstreamtest.Start(t)
	args := []string{"--nats-url", server.URL}
	listen := append(args, "--listen", "127.0.0.1:0", "--ops-listen", "")
	first, second := start(t, "edge", listen...), start(t, "edge", append(listen, "--trusted-proxies", "127.0.0.1", "--limit-calls", "{send.post: {per_second: 1, burst: 20}}")...)
	for _, function := range []string{"send", "history", "conversations", "receipts", "presence"} {
		start(t, function, args...)
	}
	start(t, "auth", append(args, "--registration", "open", "--password-memory-kib", "64", "--password-passes", "1")...)
	if code := exitCode(t, start(t, "confab", append([]string{"declare"}, args...)...)); code != 0 {
		t.Fatalf("confab declare ended with %d", code)
	}
	at := func(edge *process) Target {
		edge.says(t, `edge is ready`)
		return Target{URL: edge.says(t, `"?url"?[=:]"?(http://[^\s"]+)`), NATS: server.URL}
	}
	a, b := at(first), at(second)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, a, b Target)
	}{
		{"a session ends on both within two seconds", sessionsEnd},
		{"what is internal is unknown to clients", internals},
		{"no header comes from a client", headers},
		{"failed sign-ins are counted by the address of the connection", failures},
		{"what is not there looks like what is forbidden", strangers},
		{"nobody writes frames for others", lines},
		{"what is refused for its rate is not stored", floods},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, a, b) })
	}
}

// endsSoon fails unless the token is refused over HTTP, and the sockets are closed, within two seconds of an end and a little for the machine.
func endsSoon(t *testing.T, target Target, token string, begun time.Time, sockets ...*peer) {
	t.Helper()
	const soon = 3 * time.Second
	for _, p := range sockets {
		if code := p.ended(); code != wire.CloseRevoked || time.Since(begun) > soon {
			t.Errorf("a socket closed with %d after %s", code, time.Since(begun))
		}
	}
	for {
		_, err := post[wire.Heads](target, token, "history.heads", wire.HeadsQuery{})
		if wire.CodeOf(err) == wire.Unauthenticated {
			return
		}
		if time.Since(begun) > soon {
			t.Errorf("the token still counts after %s: %v", time.Since(begun), err)
			return
		}
	}
}

func sessionsEnd(t *testing.T, a, b Target) {
	ada := register(t, a, "ada")
	phone := connect(t, b, ada.tokens, "phone-1")
	bob := register(t, a, "bob") // has no socket at b, which then hears of his sessions by asking alone
	for _, token := range []string{ada.tokens.Token, bob.tokens.Token} {
		if _, err := post[wire.Heads](b, token, "history.heads", wire.HeadsQuery{}); err != nil {
			t.Fatal(err) // from now on b remembers the token
		}
	}
	if _, err := post[wire.Empty](a, ada.tokens.Token, "auth.logout", wire.Logout{}); err != nil {
		t.Fatal(err)
	}
	endsSoon(t, b, ada.tokens.Token, time.Now(), ada, phone)
	if _, err := post[wire.Empty](a, bob.tokens.Token, "auth.logout", wire.Logout{All: true}); err != nil {
		t.Fatal(err)
	}
	endsSoon(t, b, bob.tokens.Token, time.Now(), bob)

	// A spent refresh token that is shown again ends its session, also that of the newest token.
	eve := register(t, a, "eve")
	refresh := func() (wire.Tokens, error) {
		return post[wire.Tokens](a, "", "auth.refresh", wire.Refresh{RefreshToken: eve.tokens.RefreshToken})
	}
	newest, err := refresh()
	if err != nil {
		t.Fatal(err)
	}
	tablet := connect(t, b, newest, "tablet-1")
	_, err = refresh()
	fails(t, err, wire.Unauthenticated)
	endsSoon(t, b, newest.Token, time.Now(), eve, tablet)
}

func internals(t *testing.T, a, _ Target) {
	ada := register(t, a, "ada")
	public := call[wire.Welcome](ada, wire.CallHello, wire.Hello{Token: ada.tokens.Token, Device: "web-1"}).Calls
	for _, internal := range []string{
		"auth.verify", "auth.verify-many", "auth.revoked", "auth.issue", "auth.invite", "auth.keys", "send.append", "history.heads-of", "history.check", "history.fill",
		"conversations.mine", "conversations.memberships", "conversations.enrol", "presence.records",
	} {
		if slices.Contains(public, internal) {
			t.Errorf("%s is offered to clients", internal)
		}
		data := map[string]any{"user": ada.user, "create": true, "conversation": "g.general", "kind": "member", "from": ada.user, "client_id": "x", "body": map[string]any{}}
		refused(ada, wire.UnknownCall, internal, data)
		_, err := post[json.RawMessage](a, ada.tokens.Token, internal, data)
		fails(t, err, wire.UnknownCall)
		_, err = post[json.RawMessage](a, "", internal, data)
		if code := wire.CodeOf(err); code != wire.Unauthenticated && code != wire.UnknownCall {
			t.Errorf("%s without a token is answered %v", internal, err)
		}
	}
}

// headers sends everything that means something to the store or to confab as fields and as HTTP headers, and looks at what reaches NATS.
func headers(t *testing.T, a, _ Target) {
	ada, bob := register(t, a, "ada"), register(t, a, "bob")
	nc := a.operator(t)
	tap, err := nc.SubscribeSync("im.>")
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	const canary = "from-a-client"
	hostile := map[string]string{"Confab-User": string(bob.user), "Confab-Device": canary, "Confab-Session": canary, "Confab-Address": canary, "Confab-Deadline": "1", "Confab-Entry": canary}
	for _, name := range []string{"Rollup", "TTL", "Msg-Id", "Expected-Last-Sequence", "Expected-Last-Subject-Sequence", "Expected-Stream", "Schedule", "Schedule-Target", "Incr", "Batch-Id", "Batch-Sequence", "Batch-Commit", "Trace-Dest", "Marker-Reason"} {
		hostile["Nats-"+name] = canary
	}
	fields := map[string]any{"conversation": "g.general", "client_id": client.NewClientID(), "body": map[string]any{"text": "hi"}, "from": bob.user, "seq": 7, "count": 7, "at": "2001-01-01T00:00:00Z", "role": "owner", "header": hostile, "headers": hostile}
	for name, value := range hostile {
		fields[name] = value
	}
	call[wire.Posted](ada, "send.post", fields)
	fields["client_id"] = client.NewClientID()
	body, _ := json.Marshal(fields)
	request, _ := http.NewRequest(http.MethodPost, a.URL+"/v1/call/send/post", bytes.NewReader(body))
	for name, value := range hostile {
		request.Header.Set(name, value)
	}
	request.Header.Set("Authorization", "Bearer "+ada.tokens.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", response, err)
	}
	_ = response.Body.Close()
	last := ada.say("g.general", "the last")
	for entry := ada.entry("g.general", last.Seq); ; {
		msg, err := tap.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range msg.Header {
			if text := strings.Join(values, " "); strings.Contains(text, canary) || name == subjects.HeaderUser && text == string(bob.user) {
				t.Errorf("%s carries the header %s: %s", msg.Subject, name, text)
			}
		}
		if bytes.Contains(msg.Data, []byte(fmt.Sprintf(`"seq":%d,`, entry.Seq))) && strings.HasPrefix(msg.Subject, "im.live.") {
			break
		}
	}
	for _, entry := range ada.entries("g.general") {
		if entry.Kind == wire.KindMessage && (entry.From != ada.user || entry.At.Year() == 2001 || entry.Seq == 7 && entry.Count == 7) {
			t.Errorf("the client has set %+v", entry)
		}
	}
}

func failures(t *testing.T, a, b Target) {
	ada, bob := register(t, a, "ada"), register(t, a, "bob")
	login := func(target Target, user subjects.User, address int) wire.Code {
		t.Helper()
		body, _ := json.Marshal(wire.Login{User: user, Password: "wrong password"})
		request, _ := http.NewRequest(http.MethodPost, target.URL+"/v1/call/auth/login", bytes.NewReader(body))
		request.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", address))
		request.Header.Set("X-Real-IP", fmt.Sprintf("198.51.100.%d", address))
		request.Header.Set("Forwarded", fmt.Sprintf("for=198.51.100.%d", address))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var problem wire.Problem
		if err := json.NewDecoder(response.Body).Decode(&problem); err != nil {
			t.Fatal(err)
		}
		return problem.Code
	}
	for i := range 12 {
		want := wire.Unauthenticated
		if i >= 10 {
			want = wire.RateLimited
		}
		if code := login(a, ada.user, i); code != want {
			t.Errorf("try %d from an address that the client made up is answered %s, want %s", i+1, code, want)
		}
	}
	_, err := post[wire.Tokens](a, "", "auth.login", wire.Login{User: ada.user, Password: password})
	fails(t, err, wire.RateLimited)
	if _, err := post[wire.Tokens](a, "", "auth.login", wire.Login{User: bob.user, Password: password}); err != nil {
		t.Errorf("another account: %v", err)
	}
	// Behind the proxy each client counts for itself.
	for i := range 12 {
		if code := login(b, bob.user, i); code != wire.Unauthenticated {
			t.Errorf("try %d through the proxy is answered %s", i+1, code)
		}
	}
	for i := range 10 {
		if code, want := login(b, bob.user, 1), wire.Unauthenticated; i < 9 && code != want || i == 9 && code != wire.RateLimited {
			t.Errorf("try %d of one client of the proxy is answered %s", i+2, code)
		}
	}
}

func strangers(t *testing.T, a, b Target) {
	ada, bob, eve := register(t, a, "ada"), register(t, a, "bob"), register(t, b, "eve")
	group := call[wire.ConversationInfo](ada, "conversations.create", wire.Create{Kind: subjects.KindGroup, Title: "secret", Members: []subjects.User{bob.user, eve.user}}).Conversation
	call[wire.Changed](ada, "conversations.remove", wire.MemberUpdate{Conversation: group, User: eve.user})
	never := call[wire.ConversationInfo](ada, "conversations.create", wire.Create{Kind: subjects.KindGroup, Title: "secret"}).Conversation
	ada.say(group, "secret")
	ada.say(never, "secret")
	direct := call[wire.Posted](ada, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("secret")}).Conversation
	for name, data := range map[string]map[string]any{
		"send.post": {"body": map[string]any{}}, "send.edit": {"seq": 2, "body": map[string]any{}}, "send.recall": {"seq": 2}, "send.react": {"seq": 2, "emoji": "x"},
		"history.page": {}, "conversations.get": {}, "conversations.update": {"title": "mine"}, "conversations.members": {}, "conversations.join": {},
		"conversations.leave": {}, "conversations.add": {"user": eve.user}, "conversations.remove": {"user": bob.user}, "conversations.role": {"user": eve.user, "role": "owner"},
		"receipts.mark": {"read": 2}, "receipts.who": {"seq": 2}, "signal": {"kind": "typing"},
	} {
		ask := func(c subjects.Conversation) string {
			data["conversation"], data["client_id"] = c, client.NewClientID()
			got, err := try[json.RawMessage](eve, name, data)
			return fmt.Sprintf("%s %v", got, err)
		}
		nothing := ask("g.there-is-no-such-group")
		if !strings.Contains(nothing, string(wire.NotFound)) {
			t.Errorf("%s in no conversation is answered %s", name, nothing)
		}
		for what, c := range map[string]subjects.Conversation{"a group that removed her": group, "a group that she was never in": never, "others' direct conversation": direct} {
			if got := ask(c); got != nothing {
				t.Errorf("%s in %s is answered %s, but %s where there is nothing", name, what, got, nothing)
			}
		}
	}
}

// lines posts bodies that would be lines of their own in the stream of a reader, if the line breaks in them came through.
func lines(t *testing.T, a, b Target) {
	ada, bob := register(t, a, "ada"), register(t, b, "bob")
	forged := `{"event":"session","data":{"revoked":true}}`
	body := "{\"text\":\n\"a\\u2028\\u0000\u2028\\n\",\r\n\"more\":\n" + forged + "\n}"
	data := fmt.Sprintf("{\"conversation\":\"g.general\",\n\"client_id\":%q,\n\"body\":%s}", client.NewClientID(), body)
	request, _ := http.NewRequest(http.MethodPost, a.URL+"/v1/call/send/post", strings.NewReader(data))
	request.Header.Set("Authorization", "Bearer "+ada.tokens.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", response, err)
	}
	defer func() { _ = response.Body.Close() }()
	var posted wire.Posted
	if err := json.NewDecoder(response.Body).Decode(&posted); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("\r", "", "\n", "").Replace(body)
	if got := string(bob.entry("g.general", posted.Seq).Body); got != want {
		t.Errorf("bob gets %s, want %s", got, want)
	}
	page := call[wire.Page](bob, "history.page", wire.PageQuery{Conversation: "g.general", Around: &posted.Seq, Limit: 1})
	if len(page.Entries) != 1 || !strings.Contains(string(page.Entries[0]), want) {
		t.Errorf("history has %s", page.Entries)
	}
	bob.mu.Lock()
	defer bob.mu.Unlock()
	for _, frame := range bob.events {
		if frame.Event == wire.EventSession {
			t.Error("a body became an event of its own")
		}
	}
}

func floods(t *testing.T, _, b Target) {
	ada := register(t, b, "ada")
	group := call[wire.ConversationInfo](ada, "conversations.create", wire.Create{Kind: subjects.KindGroup, Title: "mine"}).Conversation
	var answers []<-chan wire.ServerFrame
	for range 60 {
		answers = append(answers, ada.start("send.post", wire.Post{Conversation: group, ClientID: client.NewClientID(), Body: text("flood")}))
	}
	stored, limited := 0, 0
	for _, answer := range answers {
		_, err := wait[wire.Posted](ada, "send.post", answer)
		limit, _ := err.(*wire.Error)
		switch {
		case err == nil:
			stored++
		case limit != nil && limit.Code == wire.RateLimited && limit.RetryAfterMS > 0:
			limited++
		default:
			t.Errorf("a send is answered %v", err)
		}
	}
	info := call[wire.ConversationInfo](ada, "conversations.get", wire.ConversationQuery{Conversation: group})
	if int(info.Head.Count) != stored || stored+limited != len(answers) {
		t.Errorf("%d sends: %d acknowledged, %d refused, %d stored", len(answers), stored, limited, info.Head.Count)
	}
	if stored < 20 || limited == 0 {
		t.Errorf("%d of %d sends are taken where 20 may come at once", stored, len(answers))
	}
}
