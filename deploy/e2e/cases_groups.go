package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func group(t *testing.T, target Target) {
	ada, bob, eve := register(t, target, "ada"), register(t, target, "bob"), register(t, target, "eve")
	id := string(name("team"))
	made := call[wire.ConversationInfo](ada, "conversations.create", wire.Create{
		Kind: subjects.KindGroup, ID: id, Title: "Team", Members: []subjects.User{bob.user},
	})
	conversation := made.Conversation
	if string(conversation) != "g."+id || made.Role != wire.RoleOwner || made.Members != 2 {
		t.Fatalf("created %+v", made)
	}
	refused(eve, wire.Conflict, "conversations.create", wire.Create{Kind: subjects.KindGroup, ID: id, Title: "Mine"})
	until(bob, "the new group", wire.EventConversation, func(c wire.ConversationChange) bool {
		return c.Conversation == conversation && c.Change == wire.ChangeConversationAdded
	})
	first := ada.say(conversation, "welcome")
	bob.entry(conversation, first.Seq)

	refused(eve, wire.NotFound, "send.post", wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("hi")})
	refused(bob, wire.Forbidden, "conversations.add", wire.MemberUpdate{Conversation: conversation, User: eve.user})
	refused(bob, wire.Forbidden, "conversations.update", wire.Update{Conversation: conversation, Policy: &wire.Policy{History: wire.HistoryStart}})
	added := call[wire.Changed](ada, "conversations.add", wire.MemberUpdate{Conversation: conversation, User: eve.user})
	if again := call[wire.Changed](ada, "conversations.add", wire.MemberUpdate{Conversation: conversation, User: eve.user}); again.Seq != added.Seq {
		t.Errorf("adding twice answers %d, then %d", added.Seq, again.Seq)
	}
	until(eve, "the group", wire.EventConversation, func(c wire.ConversationChange) bool { return c.Conversation == conversation })
	second := ada.say(conversation, "hello eve")
	eve.entry(conversation, second.Seq)
	page := call[wire.Page](eve, "history.page", wire.PageQuery{Conversation: conversation})
	if page.First != added.Seq || page.MoreBefore {
		t.Errorf("eve, added at %d, sees from %d (more before: %v)", added.Seq, page.First, page.MoreBefore)
	}
	members := call[wire.Members](bob, "conversations.members", wire.MembersQuery{Conversation: conversation})
	if len(members.Members) != 3 {
		t.Errorf("members are %+v", members)
	}
	title := "Our team"
	call[wire.Changed](ada, "conversations.update", wire.Update{Conversation: conversation, Title: &title})
	if info := call[wire.ConversationInfo](bob, "conversations.get", wire.ConversationQuery{Conversation: conversation}); info.Title != title || info.Members != 3 {
		t.Errorf("the group is %+v", info)
	}
	call[wire.Changed](ada, "conversations.role", wire.MemberUpdate{Conversation: conversation, User: bob.user, Role: wire.RoleModerator})
	call[wire.Changed](bob, "conversations.remove", wire.MemberUpdate{Conversation: conversation, User: eve.user})
	call[wire.Changed](bob, "conversations.leave", wire.ConversationQuery{Conversation: conversation})
	refused(bob, wire.NotFound, "conversations.get", wire.ConversationQuery{Conversation: conversation})

	heads := call[wire.Heads](ada, "history.heads", wire.HeadsQuery{})
	found := map[subjects.Conversation]bool{}
	for _, head := range heads.Conversations {
		found[head.Conversation] = true
	}
	if !found[subjects.General] || !found[conversation] {
		t.Errorf("ada's conversations are %v, want %s and %s among them", found, subjects.General, conversation)
	}
}

func removal(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	made := call[wire.ConversationInfo](ada, "conversations.create", wire.Create{Kind: subjects.KindGroup, Title: "Small", Members: []subjects.User{bob.user}})
	conversation := made.Conversation
	last := ada.say(conversation, "still here")
	bob.entry(conversation, last.Seq)
	removed := call[wire.Changed](ada, "conversations.remove", wire.MemberUpdate{Conversation: conversation, User: bob.user})
	if e := bob.entry(conversation, removed.Seq); e.Kind != wire.KindMember {
		t.Errorf("the removal came as %+v", e)
	}
	refused(bob, wire.NotFound, "send.post", wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("one more")})
	refused(bob, wire.NotFound, "history.page", wire.PageQuery{Conversation: conversation})
	secret := ada.say(conversation, "he is gone")
	ada.entry(conversation, secret.Seq)
	// What comes to bob later proves that the secret did not overtake it.
	call[wire.Posted](ada, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("sorry")})
	pair, _ := subjects.Direct(ada.user, bob.user)
	bob.entry(pair, 1)
	for _, e := range bob.entries(conversation) {
		if e.Seq > removed.Seq {
			t.Errorf("bob got entry %d after his removal at %d", e.Seq, removed.Seq)
		}
	}
}

func channel(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	made := call[wire.ConversationInfo](ada, "conversations.create", wire.Create{Kind: subjects.KindChannel, Title: "News"})
	conversation := made.Conversation
	joined := call[wire.Changed](bob, "conversations.join", wire.ConversationQuery{Conversation: conversation})
	refused(bob, wire.Forbidden, "send.post", wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("me too")})
	posted := ada.say(conversation, "today")
	bob.entry(conversation, posted.Seq)
	if page := call[wire.Page](bob, "history.page", wire.PageQuery{Conversation: conversation}); page.First != joined.Seq {
		t.Errorf("bob, who joined at %d, sees from %d", joined.Seq, page.First)
	}
	refused(bob, wire.NotFound, "conversations.join", wire.ConversationQuery{Conversation: "c.no-such-channel"})
	refused(bob, wire.NotFound, "conversations.join", wire.ConversationQuery{Conversation: "g.no-such-group"})
}

// hostile sends ids that would mean something else as part of a subject. Each holds a mark that a tap of all subjects looks for.
func hostile(t *testing.T, target Target) {
	ada := register(t, target, "ada")
	nc := target.operator(t)
	tap, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const mark = "qqq"
	ids := []string{
		"", "*", ">", " ", mark + ".*", mark + ".>", mark + ".b", mark + " ", mark + "\t", mark + "\r\nb", mark + "\x00b", "$SYS." + mark, "$JS.API.STREAM.DELETE." + mark,
		"_INBOX." + mark, mark + "\u200bb", mark + "\u00a0b", mark + "ü", "Q" + mark, strings.Repeat("q", 65), strings.Repeat("q", 5000),
		"d." + mark + "." + mark, "d." + mark + ".a", "g.", "g." + mark + ".*", "d." + mark,
	}
	for _, id := range ids {
		quoted, _ := json.Marshal(id)
		for _, c := range []struct{ call, data string }{
			{"send.post", `{"conversation":` + string(quoted) + `,"client_id":"` + client.NewClientID() + `","body":{}}`},
			{"send.post", `{"to":` + string(quoted) + `,"client_id":"` + client.NewClientID() + `","body":{}}`},
			{"history.page", `{"conversation":` + string(quoted) + `}`},
			{"conversations.add", `{"conversation":"g.general","user":` + string(quoted) + `}`},
			{"presence.get", `{"users":[` + string(quoted) + `]}`},
			{"presence.watch", `{"users":[` + string(quoted) + `]}`},
			{"signal", `{"conversation":` + string(quoted) + `,"kind":"typing"}`},
		} {
			refused(ada, wire.BadID, c.call, []byte(c.data))
		}
	}
	call[wire.Heads](ada, "history.heads", wire.HeadsQuery{}) // the connection still stands
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := tap.NextMsg(10 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.Contains(strings.ToLower(msg.Subject), mark) {
			t.Errorf("a hostile id became part of the subject %q", msg.Subject)
		}
	}
}
