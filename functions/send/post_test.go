package send_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestPostIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob", "eve")
	told, err := w.nc.SubscribeSync(subjects.UserEvents("bob"))
	if err != nil {
		t.Fatal(err)
	}
	once := wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("once")}
	first := ok(w, "ada", send.MethodPost, once)
	if first.Conversation != "d.ada.bob" || first.Seq != 1 || first.Count != 1 || first.Duplicate || time.Since(first.At.Time).Abs() > time.Minute {
		t.Fatalf("the first message is %+v", first)
	}
	if m, err := told.NextMsg(10 * time.Second); err != nil || string(m.Data) != `{"change":"added","conversation":"d.ada.bob","from":1,"small":true}` {
		t.Errorf("bob's edges are told %+v, %v", m, err)
	}
	repeat := first
	repeat.Duplicate = true
	if again := ok(w, "ada", send.MethodPost, once); again != repeat {
		t.Errorf("the repeat answers %+v, want %+v", again, repeat)
	}
	byConversation := once
	byConversation.To, byConversation.Conversation = "", first.Conversation
	if again := ok(w, "ada", send.MethodPost, byConversation); again != repeat {
		t.Errorf("the repeat by conversation answers %+v, want %+v", again, repeat)
	}
	otherBody, otherReply := once, once
	otherBody.Body = functionstest.Text("twice")
	otherReply.ReplyTo = 1
	refused(w, "ada", wire.IDConflict, send.MethodPost, otherBody)
	refused(w, "ada", wire.IDConflict, send.MethodPost, otherReply)
	// The id of another user, and the same id in another conversation, are other ids.
	if got := ok(w, "bob", send.MethodPost, byConversation); got.Duplicate || got.Seq != 2 {
		t.Errorf("bob's message under ada's client id: %+v", got)
	}
	elsewhere := once
	elsewhere.To = "eve"
	if got := ok(w, "ada", send.MethodPost, elsewhere); got.Duplicate || got.Seq != 1 {
		t.Errorf("the same client id in another conversation: %+v", got)
	}
	if all := w.entries(first.Conversation); len(all) != 2 || all[0].From != "ada" || all[1].From != "bob" || all[0].ClientID != once.ClientID {
		t.Errorf("the log is %+v", all)
	}
	for _, u := range []subjects.User{"ada", "bob"} {
		listed, err := w.store.Memberships(t.Context(), u)
		if err != nil || len(listed) == 0 || listed[0].Conversation != first.Conversation {
			t.Errorf("%s's conversations are %+v, %v", u, listed, err)
		}
	}
}

func TestOldClientIDsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	minted := func(age time.Duration) string {
		v7 := uuid.Must(uuid.NewV7())
		ms := time.Now().Add(-age).UnixMilli()
		for i := range 6 {
			v7[i] = byte(ms >> (8 * (5 - i)))
		}
		return v7.String()
	}
	window := w.store.Dedupe()
	for name, c := range map[string]struct {
		clientID string
		code     wire.Code
	}{
		"older than the window":       {minted(window + time.Second), wire.RetryWindowExpired},
		"within the margin":           {minted(window - 5*time.Second), wire.RetryWindowExpired},
		"younger than that":           {minted(window - 30*time.Second), ""},
		"from the future":             {minted(-24 * time.Hour), ""},
		"of another form":             {"message-1", ""},
		"of the year 1970, version 4": {"00000000-0000-4000-8000-000000000000", ""},
	} {
		t.Run(name, func(t *testing.T) {
			refused(w, "ada", c.code, send.MethodPost, wire.Post{To: "bob", ClientID: c.clientID, Body: functionstest.Text("hi")})
		})
	}
	posted := ok(w, "ada", send.MethodPost, wire.Post{To: "bob", ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
	old := minted(time.Hour)
	refused(w, "ada", wire.RetryWindowExpired, send.MethodEdit, wire.Edit{Conversation: posted.Conversation, Seq: posted.Seq, ClientID: old, Body: functionstest.Text("ho")})
	refused(w, "ada", wire.RetryWindowExpired, send.MethodRecall, wire.Recall{Conversation: posted.Conversation, Seq: posted.Seq, ClientID: old})
	refused(w, "ada", wire.RetryWindowExpired, send.MethodReact, wire.React{Conversation: posted.Conversation, Seq: posted.Seq, ClientID: old, Emoji: "👍"})
}

func TestWhoMayPostWhere(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob", "eve", "mod", "zoe")
	w.conversation("g.team", map[subjects.User]wire.Role{"ada": wire.RoleOwner, "mod": wire.RoleModerator, "bob": wire.RoleMember, "zoe": wire.RoleReader})
	w.conversation("c.news", map[subjects.User]wire.Role{"ada": wire.RoleOwner, "mod": wire.RoleModerator, "bob": wire.RoleMember, "zoe": wire.RoleReader})
	w.add("g.team", "gone", wire.RoleMember)
	w.remove("g.team", "gone")
	for _, c := range []struct {
		user subjects.User
		to   subjects.Conversation
		code wire.Code
	}{
		{"ada", "g.team", ""}, {"mod", "g.team", ""}, {"bob", "g.team", ""}, {"zoe", "g.team", wire.Forbidden}, {"eve", "g.team", wire.NotFound}, {"gone", "g.team", wire.NotFound},
		{"ada", "c.news", ""}, {"mod", "c.news", ""}, {"bob", "c.news", ""}, {"zoe", "c.news", wire.Forbidden}, {"eve", "c.news", wire.NotFound},
		{"ada", "g.no-such", wire.NotFound}, {"ada", "c.no-such", wire.NotFound},
		{"ada", "d.ada.bob", ""}, {"eve", "d.ada.bob", wire.NotFound}, {"ada", "d.ada.nobody", wire.NotFound},
	} {
		before := w.head(c.to)
		refused(w, c.user, c.code, send.MethodPost, wire.Post{Conversation: c.to, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
		if after := w.head(c.to); (after.Seq > before.Seq) != (c.code == "") {
			t.Errorf("%s to %s: the log went from %d to %d", c.user, c.to, before.Seq, after.Seq)
		}
	}
	refused(w, "ada", wire.NotFound, send.MethodPost, wire.Post{To: "nobody", ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
	refused(w, "ada", wire.BadData, send.MethodPost, wire.Post{To: "ada", ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
	refused(w, "", wire.Unauthenticated, send.MethodPost, wire.Post{To: "ada", ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
	same := func(a, b subjects.Conversation, user subjects.User) {
		t.Helper()
		_, err1 := call(w, user, send.MethodPost, wire.Post{Conversation: a, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
		_, err2 := call(w, user, send.MethodPost, wire.Post{Conversation: b, ClientID: functionstest.ClientID(), Body: functionstest.Text("hi")})
		if err1 == nil || err2 == nil || err1.Error() != err2.Error() {
			t.Errorf("%s and %s answer %s differently: %v, %v", a, b, user, err1, err2)
		}
	}
	same("g.team", "g.no-such", "eve")
	same("g.team", "g.no-such", "gone")
	same("d.ada.bob", "d.ada.nobody", "eve")
	same("g.team", "d.ada.bob", "eve")
}

func TestReplyNeedsAVisibleEntry(t *testing.T) {
	w := newWorld(t)
	w.users("ada", "bob")
	w.conversation("g.team", map[subjects.User]wire.Role{"ada": wire.RoleOwner})
	early := ok(w, "ada", send.MethodPost, wire.Post{Conversation: "g.team", ClientID: functionstest.ClientID(), Body: functionstest.Text("early")})
	joined := w.add("g.team", "bob", wire.RoleMember)
	late := ok(w, "ada", send.MethodPost, wire.Post{Conversation: "g.team", ClientID: functionstest.ClientID(), Body: functionstest.Text("late"), ReplyTo: early.Seq})
	for _, c := range []struct {
		user subjects.User
		to   wire.Seq
		code wire.Code
	}{
		{"ada", early.Seq, ""}, {"ada", 99, wire.NotFound}, {"ada", wire.MaxSeq, wire.NotFound},
		{"bob", late.Seq, ""}, {"bob", joined, ""}, {"bob", early.Seq, wire.NotFound},
	} {
		refused(w, c.user, c.code, send.MethodPost, wire.Post{Conversation: "g.team", ClientID: functionstest.ClientID(), Body: functionstest.Text("re"), ReplyTo: c.to})
	}
	// An id that is refused was not stored: it is free for a correct try.
	free := functionstest.ClientID()
	refused(w, "ada", wire.NotFound, send.MethodPost, wire.Post{Conversation: "g.team", ClientID: free, Body: functionstest.Text("re"), ReplyTo: 99})
	if got := ok(w, "ada", send.MethodPost, wire.Post{Conversation: "g.team", ClientID: free, Body: functionstest.Text("re")}); got.Duplicate {
		t.Errorf("a refused try was stored: %+v", got)
	}
}
