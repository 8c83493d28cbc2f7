package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// object is a JSON object as a program reads it that knows nothing but the protocol's text.
type object = map[string]any

// fields returns the names in a JSON object, in ascending order.
func fields(v any) string {
	o, _ := v.(object)
	return strings.Join(slices.Sorted(maps.Keys(o)), " ")
}

// at walks into nested objects and lists, such as at(v, "conversations", 0, "head").
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			o, _ := v.(object)
			v = o[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

func shapes(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	pair, _ := subjects.Direct(ada.user, bob.user)
	has := func(what string, v any, want string, path ...any) {
		t.Helper()
		if got := fields(at(v, path...)); got != want {
			t.Errorf("%s %v has the fields %q, want %q", what, path, got, want)
		}
	}
	id := client.NewClientID()
	post := object{"to": bob.user, "client_id": id, "body": object{"text": "hi"}}
	has("the first post", call[any](ada, "send.post", post), "at conversation count seq")
	has("its repeat", call[any](ada, "send.post", post), "at conversation count duplicate seq")
	call[any](bob, "send.post", object{"conversation": pair, "client_id": client.NewClientID(), "body": object{}, "reply_to": 1})
	call[any](ada, "send.react", object{"conversation": pair, "seq": 2, "client_id": client.NewClientID(), "emoji": "👍"})
	page := call[any](bob, "history.page", object{"conversation": pair})
	has("a page", page, "entries first last more_after more_before")
	has("a message", page, "at body client_id conversation count from kind seq", "entries", 0)
	has("an answer with a reaction", page, "at body client_id conversation count from kind reactions reply_to seq", "entries", 1)
	has("a reaction", page, "at body client_id conversation count from kind seq target", "entries", 2)
	if when, _ := at(page, "entries", 0, "at").(string); len(when) != len("2026-11-20T15:04:05.123Z") || !strings.HasSuffix(when, "Z") {
		t.Errorf("a time is %q, want UTC with milliseconds", when)
	}
	heads := call[any](bob, "history.heads", object{"limit": 1})
	has("heads with more", heads, "conversations next")
	has("a direct head", heads, "conversation head kind read role title unread", "conversations", 0)
	has("a head", heads, "count entry seq", "conversations", 0, "head")
	has("a mark", heads, "count seq", "conversations", 0, "read")
	has("the last heads", call[any](bob, "history.heads", object{"after": at(heads, "next")}), "conversations")
	made := call[any](ada, "conversations.create", object{"kind": "group", "title": "T", "members": []any{bob.user}})
	has("a new group", made, "conversation head kind members policy role title")
	has("a direct conversation", call[any](ada, "conversations.get", object{"conversation": pair}), "conversation head kind members policy role title")
	members := call[any](ada, "conversations.members", object{"conversation": at(made, "conversation"), "limit": 1})
	has("members with more", members, "members next")
	has("a member", members, "joined_seq role user", "members", 0)
	marked := call[any](bob, "receipts.mark", object{"conversation": pair, "read": 3})
	has("marks", marked, "delivered read")
	has("the read mark", marked, "count seq", "read")
	has("readers", call[any](bob, "receipts.who", object{"conversation": pair, "seq": 1}), "delivered read")
	has("an online user", call[any](bob, "presence.get", object{"users": []any{ada.user}}), "devices state", "users", string(ada.user))
	has("a receipt", until(ada, "bob's receipt", wire.EventReceipt, func(r any) bool { return at(r, "user") == string(bob.user) }), "conversation delivered read user")
	shapesOfErrors(t, target, ada, has)
}

// shapesOfErrors looks at calls that fail, over both transports.
func shapesOfErrors(t *testing.T, target Target, ada *peer, has func(string, any, string, ...any)) {
	frame := <-ada.start("no.such", object{})
	if frame.Error == nil || frame.Error.Code != wire.UnknownCall {
		t.Errorf("an unknown call is answered %+v", frame)
	}
	socket, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(target.URL, "http")+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	_ = socket.SetReadDeadline(time.Now().Add(patience))
	var refusal any
	if err := socket.WriteMessage(websocket.TextMessage, []byte("{\"id\":\"\u00e9\\u0041\",\"call\":\"history.heads\"}\n")); err != nil {
		t.Fatal(err)
	}
	if err := socket.ReadJSON(&refusal); err != nil {
		t.Fatal(err)
	}
	has("a refusal", refusal, "error id")
	has("its error", refusal, "code message retry_after_ms", "error")
	if at(refusal, "id") != "éA" {
		t.Errorf("the id came back as %v", at(refusal, "id"))
	}
	for _, name := range []string{"no.such", "ping", "presence.watch", "send.append", "send"} {
		_, err := post[any](target, ada.tokens.Token, name, object{})
		fails(t, err, wire.UnknownCall)
	}
}

// foldedLines returns the newest page of a conversation, a line for each entry, with what later entries made of it.
func foldedLines(t *testing.T, p *peer, c subjects.Conversation) (all []string) {
	t.Helper()
	for _, e := range decodeEntries(t, call[wire.Page](p, "history.page", object{"conversation": c})) {
		line := fmt.Sprint(e.Seq, " ", e.Count, " ", e.Kind)
		for _, emoji := range slices.Sorted(maps.Keys(e.Reactions)) {
			line += fmt.Sprint(" ", emoji, len(e.Reactions[emoji]))
		}
		if e.EditedAt != nil {
			line += " edited"
		}
		if e.Recalled {
			line += " recalled"
		}
		all = append(all, line)
	}
	return all
}

func visibility(t *testing.T, target Target) {
	ada, bob, eve := register(t, target, "ada"), register(t, target, "bob"), register(t, target, "eve")
	made := call[wire.ConversationInfo](ada, "conversations.create", object{"kind": "group", "title": "T", "members": []any{bob.user}})
	c := made.Conversation
	first := ada.say(c, "for founders")
	added := call[wire.Changed](ada, "conversations.add", object{"conversation": c, "user": eve.user})
	expect := func(p *peer, want ...string) {
		t.Helper()
		if got := foldedLines(t, p, c); !slices.Equal(got, want) {
			t.Errorf("%s reads %q, want %q", p.user, got, want)
		}
	}
	unread := func(p *peer, want uint64) {
		t.Helper()
		heads := call[wire.Heads](p, "history.heads", object{"after": c[:len(c)-1], "limit": 1})
		if len(heads.Conversations) != 1 || heads.Conversations[0].Unread != want {
			t.Errorf("%s has not the %d unread that are due: %+v", p.user, want, heads)
		}
	}
	expect(bob, "1 0 policy", "2 1 message", "3 1 member")
	expect(eve, "3 1 member")
	unread(bob, 1)
	unread(eve, 0)
	refused(eve, wire.NotFound, "send.react", object{"conversation": c, "seq": first.Seq, "client_id": client.NewClientID(), "emoji": "x"})
	refused(eve, wire.NotFound, "send.post", object{"conversation": c, "client_id": client.NewClientID(), "body": object{}, "reply_to": first.Seq})
	call[any](ada, "send.edit", object{"conversation": c, "seq": first.Seq, "client_id": client.NewClientID(), "body": object{"text": "newer"}})
	for _, p := range []*peer{ada, bob} {
		call[any](p, "send.react", object{"conversation": c, "seq": first.Seq, "client_id": client.NewClientID(), "emoji": "x"})
	}
	call[any](bob, "send.react", object{"conversation": c, "seq": first.Seq, "client_id": client.NewClientID(), "emoji": "x", "remove": true})
	second := ada.say(c, "soon gone")
	call[any](ada, "send.recall", object{"conversation": c, "seq": second.Seq, "client_id": client.NewClientID()})
	later := []string{"4 1 edit", "5 1 reaction", "6 1 reaction", "7 1 reaction", "8 2 message recalled", "9 2 recall"}
	expect(bob, append([]string{"1 0 policy", "2 1 message x1 edited", "3 1 member"}, later...)...)
	expect(eve, append([]string{"3 1 member"}, later...)...)
	unread(eve, 1) // a recall does not lower the count
	call[any](ada, "conversations.update", object{"conversation": c, "policy": object{"history": "start"}})
	expect(eve, append(append([]string{"1 0 policy", "2 1 message x1 edited", "3 1 member"}, later...), "10 2 policy")...)
	if members := call[wire.Members](eve, "conversations.members", object{"conversation": c}); len(members.Members) != 3 || !slices.ContainsFunc(members.Members, func(m wire.Member) bool {
		return m.User == eve.user && m.JoinedSeq == added.Seq && m.Role == wire.RoleMember
	}) {
		t.Errorf("the members are %+v", members)
	}
}

func expiry(t *testing.T, target Target) {
	ada := register(t, target, "ada")
	short := issue(t, target, wire.Issue{User: ada.user, TTLMS: 3000})
	left, extended := connect(t, target, short, "left-1"), connect(t, target, short, "kept-1")
	until(left, "the warning", wire.EventSession, func(s wire.SessionChange) bool { return !s.Revoked && s.ExpiresAt != nil })
	if welcome := call[wire.Welcome](extended, wire.CallHello, object{"token": ada.tokens.Token}); !welcome.ExpiresAt.After(short.ExpiresAt.Time) {
		t.Errorf("a second hello extends to %s", welcome.ExpiresAt)
	}
	if code := left.ended(); code != wire.CloseTokenExpired {
		t.Errorf("an expired token closed with %d, want %d", code, wire.CloseTokenExpired)
	}
	call[any](extended, "history.heads", object{})
	_, err := post[any](target, short.Token, "history.heads", object{})
	fails(t, err, wire.TokenExpired)
}
