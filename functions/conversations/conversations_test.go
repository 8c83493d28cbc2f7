package conversations_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestALifeOfAGroup(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	bobs, eves := w.events("bob"), w.events("eve")
	made := ask[wire.ConversationInfo](w, "ada", conversations.MethodCreate,
		wire.Create{Kind: subjects.KindGroup, ID: "team", Title: "Team", Members: []subjects.User{"bob", "ada", "bob"}})
	want := wire.ConversationInfo{Conversation: "g.team", Kind: subjects.KindGroup, Title: "Team", Role: wire.RoleOwner, Members: 2, Head: wire.Mark{Seq: 1}}
	if made != want {
		t.Fatalf("created %+v, want %+v", made, want)
	}
	if got := w.about("ada", "g.team"); got != want {
		t.Errorf("get says %+v, want %+v", got, want)
	}
	if event := w.event(bobs); event != (wire.UserEvent{Change: "added", Conversation: "g.team", From: 1, Small: true}) {
		t.Errorf("bob's edges are told %+v", event)
	}
	for _, again := range []subjects.User{"ada", "bob", "eve"} {
		if _, err := invoke[wire.ConversationInfo](w, again, "conversations", conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, ID: "team", Title: "Team"}); wire.CodeOf(err) != wire.Conflict {
			t.Errorf("creating g.team again as %s: %v", again, err)
		}
	}
	w.post("", "bob", "g.team")
	w.post(wire.NotFound, "eve", "g.team")

	added := w.change("", "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: "g.team", User: "eve"})
	if again := w.change("", "ada", conversations.MethodAdd, wire.MemberUpdate{Conversation: "g.team", User: "eve", Role: wire.RoleOwner}); again != added {
		t.Errorf("adding twice answers %d, then %d", added, again)
	}
	if event := w.event(eves); event != (wire.UserEvent{Change: "added", Conversation: "g.team", From: added, Small: true}) {
		t.Errorf("eve's edges are told %+v", event)
	}
	page, err := invoke[wire.Page](w, "eve", "history", "page", wire.PageQuery{Conversation: "g.team"})
	if err != nil || page.First != added || page.MoreBefore {
		t.Errorf("eve, added at %d, sees %+v, %v", added, page, err)
	}
	heads, err := invoke[wire.Heads](w, "eve", "history", "heads", wire.HeadsQuery{})
	if err != nil || len(heads.Conversations) != 1 || heads.Conversations[0].Read != (wire.Mark{Seq: added, Count: 1}) || heads.Conversations[0].Unread != 0 {
		t.Errorf("eve's heads are %+v, %v", heads, err)
	}
	title, start := "Our team", wire.Policy{History: wire.HistoryStart}
	updated := w.change("", "ada", conversations.MethodUpdate, wire.Update{Conversation: "g.team", Title: &title, Policy: &start})
	if again := w.change("", "ada", conversations.MethodUpdate, wire.Update{Conversation: "g.team", Title: &title, Policy: &start}); again != updated {
		t.Errorf("the same update answers %d, then %d", updated, again)
	}
	if event := w.event(eves); event != (wire.UserEvent{Change: "updated", Conversation: "g.team"}) {
		t.Errorf("eve's edges are told %+v", event)
	}
	if got := w.about("eve", "g.team"); got.Title != title || got.Policy != start || got.Role != wire.RoleMember || got.Members != 3 || got.Head.Seq != updated {
		t.Errorf("after the update get says %+v", got)
	}
	if page, err := invoke[wire.Page](w, "eve", "history", "page", wire.PageQuery{Conversation: "g.team"}); err != nil || page.First != 1 {
		t.Errorf("with the history from the start eve sees %+v, %v", page, err)
	}
	members := ask[wire.Members](w, "bob", conversations.MethodMembers, wire.MembersQuery{Conversation: "g.team"})
	if !reflect.DeepEqual(members, wire.Members{Members: []wire.Member{{User: "ada", Role: wire.RoleOwner, JoinedSeq: 1}, {User: "bob", Role: wire.RoleMember, JoinedSeq: 1}, {User: "eve", Role: wire.RoleMember, JoinedSeq: added}}}) {
		t.Errorf("the members are %+v", members)
	}
}

func TestASecondMembershipBeginsAtItsOwnEntry(t *testing.T) {
	w := newWorld(t, "ada", "eve")
	team := w.group("ada")
	eve := wire.MemberUpdate{Conversation: team, User: "eve"}
	added := w.change("", "ada", conversations.MethodAdd, eve)
	removed := w.change("", "ada", conversations.MethodRemove, eve)
	w.change(wire.NotFound, "ada", conversations.MethodRemove, eve)
	w.post(wire.NotFound, "eve", team)
	w.change(wire.NotFound, "eve", conversations.MethodGet, wire.ConversationQuery{Conversation: team})
	w.post("", "ada", team)
	anew := w.change("", "ada", conversations.MethodAdd, eve)
	if page, err := invoke[wire.Page](w, "eve", "history", "page", wire.PageQuery{Conversation: team}); err != nil || page.First != anew {
		t.Errorf("eve, added again at %d, sees %+v, %v", anew, page, err)
	}
	left := w.change("", "eve", conversations.MethodLeave, wire.ConversationQuery{Conversation: team})
	w.change(wire.NotFound, "eve", conversations.MethodLeave, wire.ConversationQuery{Conversation: team})
	if got := w.memberEntries(team, "eve"); !reflect.DeepEqual(got, map[wire.Seq]wire.MemberBody{
		added:   {User: "eve", Change: wire.ChangeAdded, Role: wire.RoleMember, By: "ada"},
		removed: {User: "eve", Change: wire.ChangeRemoved, By: "ada"},
		anew:    {User: "eve", Change: wire.ChangeAdded, Role: wire.RoleMember, By: "ada"},
		left:    {User: "eve", Change: wire.ChangeLeft, By: "eve"},
	}) {
		t.Errorf("the log says of eve: %+v", got)
	}
	for i, e := range w.entries(team) {
		if e.Seq != wire.Seq(i+1) {
			t.Fatalf("entry %d is at place %d", e.Seq, i+1)
		}
	}
}

func TestChannelsAreFreeToJoin(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	news := ask[wire.ConversationInfo](w, "ada", conversations.MethodCreate, wire.Create{Kind: subjects.KindChannel, ID: "news", Title: "News", Members: []subjects.User{"bob"}})
	joined := w.change("", "eve", conversations.MethodJoin, wire.ConversationQuery{Conversation: news.Conversation})
	if again := w.change("", "eve", conversations.MethodJoin, wire.ConversationQuery{Conversation: news.Conversation}); again != joined {
		t.Errorf("joining twice answers %d, then %d", joined, again)
	}
	if got := w.about("eve", news.Conversation); got.Role != wire.RoleReader || got.Members != 3 {
		t.Errorf("eve sees %+v", got)
	}
	w.post("", "bob", news.Conversation)
	w.post(wire.Forbidden, "eve", news.Conversation)
	w.change("", "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: news.Conversation, User: "eve", Role: wire.RoleMember})
	w.post("", "eve", news.Conversation)
	w.change("", "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: news.Conversation, User: "eve", Role: wire.RoleReader})
	w.post(wire.Forbidden, "eve", news.Conversation)
	team := w.group("ada", "bob")
	w.change(wire.NotFound, "eve", conversations.MethodJoin, wire.ConversationQuery{Conversation: team})
	w.change(wire.NotFound, "eve", conversations.MethodJoin, wire.ConversationQuery{Conversation: "c.no-such"})
	if seq := w.change("", "bob", conversations.MethodJoin, wire.ConversationQuery{Conversation: team}); seq != 1 {
		t.Errorf("a founder who joins is answered %d", seq)
	}
}

func TestAConversationKeepsAnOwner(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	team := w.group("ada", "bob", "eve")
	w.change(wire.Conflict, "ada", conversations.MethodLeave, wire.ConversationQuery{Conversation: team})
	w.change(wire.Conflict, "ada", conversations.MethodRemove, wire.MemberUpdate{Conversation: team, User: "ada"})
	w.change(wire.Conflict, "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: team, User: "ada", Role: wire.RoleMember})
	w.change("", "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: team, User: "bob", Role: wire.RoleOwner})
	w.change("", "ada", conversations.MethodRole, wire.MemberUpdate{Conversation: team, User: "ada", Role: wire.RoleMember})
	w.change("", "ada", conversations.MethodLeave, wire.ConversationQuery{Conversation: team})
	w.change("", "bob", conversations.MethodRemove, wire.MemberUpdate{Conversation: team, User: "eve"})
	w.change(wire.Conflict, "bob", conversations.MethodRole, wire.MemberUpdate{Conversation: team, User: "bob", Role: wire.RoleReader})
	w.change("", "bob", conversations.MethodLeave, wire.ConversationQuery{Conversation: team})
	w.change(wire.NotFound, "bob", conversations.MethodGet, wire.ConversationQuery{Conversation: team})
}

func TestWhatIsMissingOrWrongIsRefused(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	team := w.group("ada", "bob")
	for data, c := range map[string]struct {
		m    subjects.Method
		code wire.Code
	}{
		`{"kind":"group"}`:                                              {conversations.MethodCreate, wire.BadData},
		`{"kind":"direct","title":"T"}`:                                 {conversations.MethodCreate, wire.BadData},
		`{"kind":"group","title":"T","id":"a.b"}`:                       {conversations.MethodCreate, wire.BadID},
		`{"kind":"group","title":"T","members":["*"]}`:                  {conversations.MethodCreate, wire.BadID},
		`{"kind":"group","title":"T","policy":{"history":"all"}}`:       {conversations.MethodCreate, wire.BadData},
		`{"conversation":"g.>"}`:                                        {conversations.MethodGet, wire.BadID},
		`{}`:                                                            {conversations.MethodGet, wire.BadData},
		`{"conversation":"` + string(team) + `"}`:                       {conversations.MethodUpdate, wire.BadData},
		`{"conversation":"` + string(team) + `","title":""}`:            {conversations.MethodUpdate, wire.BadData},
		`{"conversation":"` + string(team) + `","user":"bob"}`:          {conversations.MethodRole, wire.BadData},
		`{"conversation":"` + string(team) + `","user":"x","role":"k"}`: {conversations.MethodAdd, wire.BadData},
		`{"conversation":"` + string(team) + `","user":">"}`:            {conversations.MethodRemove, wire.BadID},
	} {
		if _, err := w.caller.Call(t.Context(), "conversations", c.m, functionstest.As("ada").Header(), []byte(data)); wire.CodeOf(err) != c.code {
			t.Errorf("%s %s: %v, want %s", c.m, data, err, c.code)
		}
	}
}

func TestUnknownFoundersLeaveNoTrace(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	for _, id := range []string{"", "lost"} {
		_, err := invoke[wire.ConversationInfo](w, "ada", "conversations", conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, ID: id, Title: "T", Members: []subjects.User{"bob", "nobody"}})
		if wire.CodeOf(err) != wire.NotFound {
			t.Errorf("create with an unknown founder: %v", err)
		}
	}
	made := ask[wire.ConversationInfo](w, "bob", conversations.MethodCreate, wire.Create{Kind: subjects.KindGroup, ID: "lost", Title: "T"})
	if made.Members != 1 {
		t.Errorf("the id that was not taken makes %+v", made)
	}
}

func TestEverybodyIsInGeneral(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	w.run(conversations.Function(conversations.Config{}))
	done := make(chan error)
	users := []subjects.User{"ada", "bob", "eve", "ada", "bob", "eve"}
	for _, u := range users {
		go func() {
			_, err := invoke[wire.Empty](w, "", "conversations", conversations.MethodEnrol, wire.UserQuery{User: u})
			done <- err
		}()
	}
	for range users {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	var owners []subjects.User
	members := ask[wire.Members](w, "ada", conversations.MethodMembers, wire.MembersQuery{Conversation: subjects.General})
	for _, m := range members.Members {
		if m.Role == wire.RoleOwner {
			owners = append(owners, m.User)
		}
	}
	if len(members.Members) != 3 || len(owners) != 1 {
		t.Errorf("the members are %+v", members)
	}
	if got := w.about("eve", subjects.General); got.Title != "General" || got.Members != 3 {
		t.Errorf("g.general is %+v", got)
	}
	for _, u := range []subjects.User{"ada", "bob", "eve"} {
		if entries := w.memberEntries(subjects.General, u); len(entries) > 1 || (len(entries) == 1) == slices.Contains(owners, u) {
			t.Errorf("the log says of %s: %+v", u, entries)
		}
	}
	mine := w.mine("eve")
	if len(mine) != 1 || mine[0].Conversation != subjects.General || mine[0].From == 0 || !mine[0].Small {
		t.Errorf("eve's memberships are %+v", mine)
	}
	w.change(wire.NotFound, "", conversations.MethodEnrol, wire.UserQuery{User: "nobody"})
}
