package send_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestAmendsFold(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	c := ok(w, "ada", send.MethodPost, wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("helo")}).Conversation
	edit := wire.Edit{Conversation: c, Seq: 1, ClientID: functionstest.ClientID(), Body: json.RawMessage(`{"text":"hello <&>"}`)}
	edited := ok(w, "ada", send.MethodEdit, edit)
	reacted := ok(w, "bob", send.MethodReact, wire.React{Conversation: c, Seq: 1, ClientID: functionstest.ClientID(), Emoji: "👍"})
	if edited.Seq != 2 || reacted.Seq != 3 || reacted.Count != 1 {
		t.Errorf("the edit is %+v, the reaction %+v", edited, reacted)
	}
	if again := ok(w, "ada", send.MethodEdit, edit); again.Seq != 2 || !again.Duplicate {
		t.Errorf("the repeated edit is %+v", again)
	}
	other := edit
	other.Body = functionstest.Text("hola")
	refused(w, "ada", wire.IDConflict, send.MethodEdit, other)
	first := w.entries(c)[0]
	if string(first.Body) != string(edit.Body) || first.EditedAt == nil || !reflect.DeepEqual(first.Reactions, map[string][]subjects.User{"👍": {"bob"}}) {
		t.Errorf("the message reads %+v (%s)", first, first.Body)
	}
	ok(w, "bob", send.MethodReact, wire.React{Conversation: c, Seq: 1, ClientID: functionstest.ClientID(), Emoji: "👍", Remove: true})

	recall := wire.Recall{Conversation: c, Seq: 1, ClientID: functionstest.ClientID()}
	recalled := ok(w, "ada", send.MethodRecall, recall)
	repeat := recalled
	repeat.Duplicate = true
	if again := ok(w, "ada", send.MethodRecall, recall); again != repeat {
		t.Errorf("the repeated recall is %+v, want %+v", again, repeat)
	}
	if again := ok(w, "ada", send.MethodEdit, edit); again.Seq != 2 || !again.Duplicate {
		t.Errorf("the edit repeated after the recall is %+v", again)
	}
	recall.ClientID = functionstest.ClientID()
	refused(w, "ada", wire.Conflict, send.MethodRecall, recall)
	refused(w, "ada", wire.Gone, send.MethodEdit, wire.Edit{Conversation: c, Seq: 1, ClientID: functionstest.ClientID(), Body: functionstest.Text("back")})
	refused(w, "bob", wire.Gone, send.MethodReact, wire.React{Conversation: c, Seq: 1, ClientID: functionstest.ClientID(), Emoji: "👍"})
	all := w.entries(c)
	if gone := all[0]; !gone.Recalled || gone.Body != nil || gone.From != "ada" || gone.Count != 1 {
		t.Errorf("the recalled message reads %+v", gone)
	}
	if len(all) != 5 || all[4].Kind != wire.KindRecall || all[4].Target != 1 {
		t.Errorf("the log is %+v", all)
	}
}

func TestARecalledMessageRepeatedIsADuplicate(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	post := wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("oops")}
	first := ok(w, "ada", send.MethodPost, post)
	ok(w, "ada", send.MethodRecall, wire.Recall{Conversation: first.Conversation, Seq: 1, ClientID: functionstest.ClientID()})
	first.Duplicate = true
	if again := ok(w, "ada", send.MethodPost, post); again != first {
		t.Errorf("the repeat answers %+v, want %+v", again, first)
	}
	if head := w.head(first.Conversation); head.Seq != 2 {
		t.Errorf("the log has %d entries", head.Seq)
	}
}

// TestWhoMayAmendWhat is the matrix of roles, calls and targets: one's own message, another's, none, an entry of another kind, and one
// from before the time of the membership.
func TestWhoMayAmendWhat(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "mod", "bob", "zoe", "eve")
	const c = subjects.Conversation("g.team")
	w.conversation(c, map[subjects.User]wire.Role{"ada": wire.RoleOwner, "mod": wire.RoleModerator, "bob": wire.RoleMember, "zoe": wire.RoleMember, "gone": wire.RoleMember})
	post := func(u subjects.User) wire.Seq {
		return ok(w, u, send.MethodPost, wire.Post{Conversation: c, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")}).Seq
	}
	early := post("ada")
	w.add(c, "new", wire.RoleMember)
	zoes, gones := post("zoe"), post("gone")
	w.remove(c, "gone")
	zoe, err := w.store.Member(t.Context(), c, "zoe")
	if err != nil {
		t.Fatal(err)
	}
	zoe.Role = wire.RoleReader
	if _, err := w.store.PutMember(t.Context(), zoe); err != nil {
		t.Fatal(err)
	}
	w.append(memberEntry(c, "zoe", wire.ChangeRole))
	const forbidden, absent = wire.Forbidden, wire.NotFound
	for _, row := range []struct {
		user                               subjects.User
		ownEdit, ownRecall                 wire.Code
		othersEdit, othersRecall, reaction wire.Code
		none                               wire.Code // whatever the call
	}{
		{"ada", "", "", forbidden, "", "", absent},
		{"mod", "", "", forbidden, "", "", absent},
		{"bob", "", "", forbidden, forbidden, "", absent},
		{"zoe", forbidden, "", forbidden, forbidden, "", absent}, // a reader
		{"gone", absent, absent, absent, absent, absent, absent},
		{"eve", absent, absent, absent, absent, absent, absent},
	} {
		t.Run(string(row.user), func(t *testing.T) {
			own := map[subjects.User]wire.Seq{"zoe": zoes, "gone": gones, "eve": early}[row.user]
			if own == 0 {
				own = post(row.user)
			}
			others := post("ada")
			if row.user == "ada" {
				others = post("mod")
			}
			refused(w, row.user, row.ownEdit, send.MethodEdit, wire.Edit{Conversation: c, Seq: own, ClientID: functionstest.ClientID(), Body: functionstest.Text("ho")})
			refused(w, row.user, row.othersEdit, send.MethodEdit, wire.Edit{Conversation: c, Seq: others, ClientID: functionstest.ClientID(), Body: functionstest.Text("ho")})
			refused(w, row.user, row.reaction, send.MethodReact, wire.React{Conversation: c, Seq: others, ClientID: functionstest.ClientID(), Emoji: "🎉"})
			refused(w, row.user, row.ownRecall, send.MethodRecall, wire.Recall{Conversation: c, Seq: own, ClientID: functionstest.ClientID()})
			refused(w, row.user, row.othersRecall, send.MethodRecall, wire.Recall{Conversation: c, Seq: others, ClientID: functionstest.ClientID()})
			for _, seq := range []wire.Seq{0, 1, 1 << 20, wire.MaxSeq} { // 1 is a policy entry
				refused(w, row.user, row.none, send.MethodEdit, wire.Edit{Conversation: c, Seq: seq, ClientID: functionstest.ClientID(), Body: functionstest.Text("ho")})
				refused(w, row.user, row.none, send.MethodRecall, wire.Recall{Conversation: c, Seq: seq, ClientID: functionstest.ClientID()})
				refused(w, row.user, row.none, send.MethodReact, wire.React{Conversation: c, Seq: seq, ClientID: functionstest.ClientID(), Emoji: "🎉"})
			}
		})
	}
	refused(w, "new", absent, send.MethodReact, wire.React{Conversation: c, Seq: early, ClientID: functionstest.ClientID(), Emoji: "🎉"})
	refused(w, "new", absent, send.MethodEdit, wire.Edit{Conversation: c, Seq: early, ClientID: functionstest.ClientID(), Body: functionstest.Text("ho")})
	for _, no := range []subjects.Conversation{"g.no-such", "d.bob.zed"} {
		refused(w, "bob", absent, send.MethodRecall, wire.Recall{Conversation: no, Seq: 1, ClientID: functionstest.ClientID()})
	}
}

// TestTheClientSetsNothingButItsOwnFields sends what a client must not decide, and hostile ids, as raw bodies.
func TestTheClientSetsNothingButItsOwnFields(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	raw := func(data string) (wire.Posted, error) {
		var out wire.Posted
		answer, err := w.caller.Call(t.Context(), send.Name, send.MethodPost, headerOf("ada"), []byte(data))
		if err == nil {
			err = json.Unmarshal(answer, &out)
		}
		return out, err
	}
	posted, err := raw(`{"to":"bob","client_id":"a","body":{},"from":"eve","seq":77,"count":5,"at":"2001-01-01T00:00:00.000Z","epoch":9,"role":"owner","kind":"recall","target":1}`)
	if err != nil || posted.Seq != 1 || posted.Count != 1 || posted.At.Year() < 2020 {
		t.Errorf("answered %+v, %v", posted, err)
	}
	if e := w.entries("d.ada.bob")[0]; e.From != "ada" || e.Kind != wire.KindMessage || e.Target != 0 || e.Seq != 1 {
		t.Errorf("stored %+v", e)
	}
	for _, hostile := range []string{"*", ">", "d.bob.ada", "d.ada.ada", "d.Ada.bob", "d.ada.b.c", "d.ada_.bob.", "g.*", "g.>", "", " ", "g.a b", "$SYS", "x.ada"} {
		quoted, err := json.Marshal(hostile)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw(fmt.Sprintf(`{"conversation":%s,"client_id":"b","body":{}}`, quoted)); wire.CodeOf(err) != wire.BadID {
			t.Errorf("conversation %q: %v", hostile, err)
		}
	}
	for data, code := range map[string]wire.Code{
		`{"to":"bob","body":{}}`:                                                 wire.BadData,
		`{"to":"bob","client_id":"a b","body":{}}`:                               wire.BadID,
		`{"to":"bob","client_id":"a","body":"text"}`:                             wire.BadData,
		`{"to":"bob","client_id":"a"}`:                                           wire.BadData,
		`{"client_id":"a","body":{}}`:                                            wire.BadData,
		`{"to":"bob","conversation":"d.ada.bob","client_id":"a","body":{}}`:      wire.BadData,
		`{"to":"bob","client_id":"a","client_id":"b","body":{}}`:                 wire.BadFrame,
		`{"to":"bob","client_id":"a","body":{"a":1,"a":2}}`:                      wire.BadFrame,
		`{"To":"bob","client_id":"a","body":{}}`:                                 wire.BadFrame,
		`{"to":"bob","client_id":"a","body":{}} x`:                               wire.BadFrame,
		`{"to":"bob","client_id":"c","body":{},"reply_to":-1}`:                   "",
		`{"to":"bob","client_id":"d","body":{},"reply_to":18446744073709551615}`: wire.NotFound,
	} {
		if _, err := raw(data); wire.CodeOf(err) != code {
			t.Errorf("%s: %v, want %q", data, err, code)
		}
	}
}
