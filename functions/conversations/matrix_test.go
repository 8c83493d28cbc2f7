package conversations_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// cell is one call of the matrix: what it asks for, of a conversation.
type cell struct {
	name     string
	function subjects.Function
	method   subjects.Method
	in       func(c subjects.Conversation) any
}

// matrix returns the calls on a conversation. The target of those that need one is bob, a member; the message at seq 2 is bob's.
func matrix() []cell {
	body := json.RawMessage(`{"text":"hi"}`)
	query := func(c subjects.Conversation) any { return wire.ConversationQuery{Conversation: c} }
	title := "New"
	member := func(u subjects.User, r wire.Role) func(subjects.Conversation) any {
		return func(c subjects.Conversation) any { return wire.MemberUpdate{Conversation: c, User: u, Role: r} }
	}
	return []cell{
		{"get", "conversations", conversations.MethodGet, query},
		{"members", "conversations", conversations.MethodMembers, func(c subjects.Conversation) any { return wire.MembersQuery{Conversation: c} }},
		{"page", "history", "page", func(c subjects.Conversation) any { return wire.PageQuery{Conversation: c} }},
		{"post", "send", "post", func(c subjects.Conversation) any {
			return wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: body}
		}},
		{"edit another's", "send", "edit", func(c subjects.Conversation) any {
			return wire.Edit{Conversation: c, Seq: 2, ClientID: functionstest.ClientID(), Body: body}
		}},
		{"react", "send", "react", func(c subjects.Conversation) any {
			return wire.React{Conversation: c, Seq: 2, ClientID: functionstest.ClientID(), Emoji: "👍"}
		}},
		{"update", "conversations", conversations.MethodUpdate, func(c subjects.Conversation) any { return wire.Update{Conversation: c, Title: &title} }},
		{"add a member", "conversations", conversations.MethodAdd, member("new", "")},
		{"add a moderator", "conversations", conversations.MethodAdd, member("new2", wire.RoleModerator)},
		{"add nobody", "conversations", conversations.MethodAdd, member("nobody", "")},
		{"role", "conversations", conversations.MethodRole, member("bob", wire.RoleMember)},
		{"role of a stranger", "conversations", conversations.MethodRole, member("stranger", wire.RoleMember)},
		{"remove a stranger", "conversations", conversations.MethodRemove, member("stranger", "")},
		{"remove an owner", "conversations", conversations.MethodRemove, member("own2", "")},
		{"remove a member", "conversations", conversations.MethodRemove, member("bob", "")},
		{"recall another's", "send", "recall", func(c subjects.Conversation) any {
			return wire.Recall{Conversation: c, Seq: 2, ClientID: functionstest.ClientID()}
		}},
		{"leave", "conversations", conversations.MethodLeave, query},
		{"join", "conversations", conversations.MethodJoin, query},
	}
}

// wants is the code that each role gets for each call, in the order of matrix; "-" is forbidden, "0" not_found, "." ok. Rows of those who are not in the
// conversation are all not_found: what exists and what does not look the same to them. A channel alone can be joined by everybody.
var wants = map[wire.Role]string{
	//                    g m p p e r u a a a r r r r r r l j
	wire.RoleOwner:     ". . . . - . . . . 0 . 0 0 . . . . 0",
	wire.RoleModerator: ". . . . - . . . - 0 - - 0 - . . . 0",
	wire.RoleMember:    ". . . . - . - - - - - - - - - - . 0",
	wire.RoleReader:    ". . . - - . - - - - - - - - - - . 0",
	"":                 "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
}

func TestMatrixOfRolesAndCalls(t *testing.T) {
	w := newWorld(t, "ada", "own2", "bob", "new", "new2", "stranger", "me")
	codes := map[byte]wire.Code{'.': "", '-': wire.Forbidden, '0': wire.NotFound}
	for role, row := range wants {
		for _, kind := range []subjects.Kind{subjects.KindGroup, subjects.KindChannel} {
			name := string(kind) + " as " + string(role)
			if role == "" {
				name = string(kind) + " of others"
			}
			t.Run(name, func(t *testing.T) {
				w := &world{t: t, server: w.server, nc: w.nc, store: w.store, caller: w.caller}
				c := ask[wire.ConversationInfo](w, "ada", conversations.MethodCreate, wire.Create{Kind: kind, Title: "T", Members: []subjects.User{"bob"}}).Conversation
				w.post("", "bob", c)
				w.change("", "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: c, User: "own2", Role: wire.RoleOwner})
				if role != "" {
					w.change("", "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: c, User: "me", Role: role})
					// Those who are added later see from their own entry on, and the message is before it.
					w.change("", "ada", conversations.MethodUpdate, wire.Update{Conversation: c, Policy: &wire.Policy{History: wire.HistoryStart}})
				}
				for i, cell := range matrix() {
					want := codes[row[2*i]]
					if cell.name == "join" && kind == subjects.KindChannel {
						want = ""
					}
					_, err := invoke[json.RawMessage](w, "me", cell.function, cell.method, cell.in(c))
					if wire.CodeOf(err) != want {
						t.Errorf("%s: %v, want code %q", cell.name, err, want)
					}
				}
			})
		}
	}
}

// TestWhatIsForbiddenLooksLikeWhatIsNotThere compares the whole error for a conversation of others, one that the caller was removed from, and
// one that does not exist.
func TestWhatIsForbiddenLooksLikeWhatIsNotThere(t *testing.T) {
	w := newWorld(t, "ada", "bob", "new", "new2", "stranger", "me")
	others := w.group("ada", "bob")
	left := w.group("ada", "bob", "me")
	w.post("", "bob", others)
	w.post("", "bob", left)
	w.change("", "ada", conversations.MethodRemove, wire.MemberUpdate{Conversation: left, User: "me"})
	took := map[subjects.Conversation]time.Duration{}
	for _, cell := range matrix() {
		answers := map[string]bool{}
		for _, c := range []subjects.Conversation{others, left, "g.no-such", "c.no-such"} {
			began := time.Now()
			_, err := invoke[json.RawMessage](w, "me", cell.function, cell.method, cell.in(c))
			took[c] += time.Since(began)
			if wire.CodeOf(err) != wire.NotFound {
				t.Errorf("%s of %s: %v", cell.name, c, err)
				continue
			}
			answers[err.Error()] = true
		}
		if len(answers) > 1 {
			t.Errorf("%s tells the conversations apart: %v", cell.name, answers)
		}
	}
	t.Logf("all calls took %v", took)
}

// TestDirectConversationsAreFixed calls everything on a direct conversation, as one of its users and as somebody else.
func TestDirectConversationsAreFixed(t *testing.T) {
	w := newWorld(t, "me", "you", "eve")
	const c = subjects.Conversation("d.me.you")
	w.post("", "me", c)
	w.post("", "you", c)
	open := map[string]bool{"get": true, "members": true, "page": true, "post": true, "react": true}
	for _, cell := range matrix() {
		want := wire.Forbidden
		if open[cell.name] {
			want = ""
		}
		if _, err := invoke[json.RawMessage](w, "me", cell.function, cell.method, cell.in(c)); wire.CodeOf(err) != want {
			t.Errorf("%s: %v, want code %q", cell.name, err, want)
		}
		for _, no := range []struct {
			user subjects.User
			c    subjects.Conversation
		}{{"eve", c}, {"eve", "d.me.nobody"}} {
			if _, err := invoke[json.RawMessage](w, no.user, cell.function, cell.method, cell.in(no.c)); wire.CodeOf(err) != wire.NotFound {
				t.Errorf("%s of %s as %s: %v", cell.name, no.c, no.user, err)
			}
		}
	}
	info := w.about("you", c)
	if info.Members != 2 || info.Role != wire.RoleMember || info.Kind != subjects.KindDirect || info.Head.Seq < 2 {
		t.Errorf("the conversation is %+v", info)
	}
	if page := ask[wire.Members](w, "you", conversations.MethodMembers, wire.MembersQuery{Conversation: c, Limit: 1}); len(page.Members) != 1 || page.Members[0].User != "me" || page.Next != "me" {
		t.Errorf("the first page of members is %+v", page)
	}
	if page := ask[wire.Members](w, "you", conversations.MethodMembers, wire.MembersQuery{Conversation: c, After: "me"}); len(page.Members) != 1 || page.Members[0].User != "you" || page.Next != "" {
		t.Errorf("the second page of members is %+v", page)
	}
	w.change(wire.NotFound, "me", conversations.MethodGet, wire.ConversationQuery{Conversation: "d.me.nobody"})
}

// TestInternalMethodsAreNotPublic asks what an instance tells the edges.
func TestInternalMethodsAreNotPublic(t *testing.T) {
	w := newWorld(t)
	if _, err := w.caller.Call(t.Context(), "conversations", "get", nil, []byte(`{"conversation":"g.a"}`)); wire.CodeOf(err) != wire.Unauthenticated {
		t.Errorf("get without a user: %v", err)
	}
	for call, public := range map[subjects.Method]bool{conversations.MethodMine: false, conversations.MethodMemberships: false, conversations.MethodEnrol: false, conversations.MethodCreate: true} {
		if m, known := w.caller.Method("conversations", call); !known || m.Public != public || m.Anonymous {
			t.Errorf("%s is %+v, %v", call, m, known)
		}
	}
}
