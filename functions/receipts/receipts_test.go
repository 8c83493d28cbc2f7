package receipts_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with function receipts on it.
type world struct {
	t      *testing.T
	nc     *nats.Conn
	store  *jetstream.Store
	caller *functions.Caller
}

func newWorld(t *testing.T) *world {
	server := jetstreamtest.Start(t)
	w := &world{t: t, nc: server.Connect(t)}
	w.store = server.StoreOn(t, w.nc)
	functionstest.Run(t, w.nc, receipts.Function(receipts.Config{}))
	w.caller = functionstest.Caller(t, w.nc)
	return w
}

// conversation makes a group whose members have been there from the start.
func (w *world) conversation(c subjects.Conversation, users ...subjects.User) {
	w.t.Helper()
	if _, err := w.store.CreateConversation(w.t.Context(), jetstream.Conversation{Conversation: c, Kind: c.Kind(), Created: wire.At(time.Now())}); err != nil {
		w.t.Fatal(err)
	}
	var members []jetstream.Member
	for _, u := range users {
		members = append(members, jetstream.Member{Conversation: c, User: u, Role: wire.RoleMember, JoinedSeq: 1})
	}
	if err := w.store.PutMembers(w.t.Context(), members); err != nil {
		w.t.Fatal(err)
	}
	w.append(c, jetstream.Draft{Kind: wire.KindPolicy, From: users[0], Body: json.RawMessage(`{}`)})
}

func (w *world) post(c subjects.Conversation, u subjects.User) wire.Seq {
	w.t.Helper()
	return w.append(c, jetstream.Draft{Kind: wire.KindMessage, From: u, Body: json.RawMessage(`{"text":"hi"}`)})
}

func (w *world) append(c subjects.Conversation, d jetstream.Draft) wire.Seq {
	w.t.Helper()
	tail, err := w.store.Tail(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	done, err := w.store.Append(w.t.Context(), c, tail, d)
	if err != nil {
		w.t.Fatal(err)
	}
	return done.Entry.Seq
}

func (w *world) mark(u subjects.User, q wire.MarkQuery) (wire.Marked, error) {
	return functions.Invoke[wire.MarkQuery, wire.Marked](w.t.Context(), w.caller, functionstest.As(u), "receipts", "mark", q)
}

func (w *world) who(u subjects.User, c subjects.Conversation, seq wire.Seq) (wire.Readers, error) {
	return functions.Invoke[wire.ReadersQuery, wire.Readers](w.t.Context(), w.caller, functionstest.As(u), "receipts", "who", wire.ReadersQuery{Conversation: c, Seq: seq})
}

// marks writes marks as read seq/count, delivered seq.
func marks(m wire.Marked) string {
	return fmt.Sprintf("%d/%d %d", m.Read.Seq, m.Read.Count, m.Delivered.Seq)
}

func TestMarksRiseAndNeverFall(t *testing.T) {
	w := newWorld(t)
	w.conversation("g.a", "ada", "bob")
	for range 5 {
		w.post("g.a", "ada") // seqs 2 to 6, counts 1 to 5
	}
	w.append("g.a", jetstream.Draft{Kind: wire.KindPin, From: "ada", Target: 2, Body: json.RawMessage(`{}`)})
	for i, step := range []struct {
		user  subjects.User
		query wire.MarkQuery
		want  string
	}{
		{"bob", wire.MarkQuery{}, "0/0 0"},
		{"bob", wire.MarkQuery{Delivered: 3}, "0/0 3"},
		{"bob", wire.MarkQuery{Read: 4}, "4/3 4"},
		{"bob", wire.MarkQuery{Read: 2, Delivered: 2}, "4/3 4"},
		{"bob", wire.MarkQuery{Read: 5, Delivered: 6}, "5/4 6"},
		{"bob", wire.MarkQuery{Read: wire.MaxSeq, Delivered: wire.MaxSeq}, "7/5 7"},
		{"bob", wire.MarkQuery{}, "7/5 7"},
		{"ada", wire.MarkQuery{Read: 3}, "6/5 6"}, // the own post
		{"ada", wire.MarkQuery{Read: 7}, "7/5 7"},
	} {
		step.query.Conversation = "g.a"
		if got, err := w.mark(step.user, step.query); err != nil || marks(got) != step.want {
			t.Errorf("step %d: %s marks %+v: got %s, %v; want %s", i, step.user, step.query, marks(got), err, step.want)
		}
	}
}

func TestRacingDevicesEndAtTheHighestMark(t *testing.T) {
	w := newWorld(t)
	w.conversation("g.a", "ada", "bob")
	const posts = 40
	for range posts {
		w.post("g.a", "ada")
	}
	var devices sync.WaitGroup
	for range 4 {
		devices.Go(func() {
			var last wire.Marked
			for range posts {
				got, err := w.mark("bob", wire.MarkQuery{Conversation: "g.a", Read: wire.Seq(rand.N(posts) + 1), Delivered: wire.Seq(rand.N(posts) + 1)})
				if err != nil || got.Read.Seq < last.Read.Seq || got.Delivered.Seq < last.Delivered.Seq || got.Read.Count != uint64(max(got.Read.Seq, 1))-1 {
					t.Errorf("after %s came %s, %v", marks(last), marks(got), err)
				}
				last = got
			}
		})
	}
	devices.Wait()
	got, err := w.mark("bob", wire.MarkQuery{Conversation: "g.a", Read: posts + 1})
	if err != nil || marks(got) != fmt.Sprintf("%d/%d %d", posts+1, posts, posts+1) {
		t.Errorf("at the end: %s, %v", marks(got), err)
	}
}

func TestWhoTellsWhoHasComeAsFar(t *testing.T) {
	w := newWorld(t)
	w.conversation("g.a", "ada", "bob", "carol", "dave")
	first := w.post("g.a", "ada")
	second := w.post("g.a", "bob")
	joined := w.append("g.a", jetstream.Draft{Kind: wire.KindMember, From: "ada", Body: json.RawMessage(`{"user":"erin","change":"added","by":"ada"}`)})
	for _, m := range []jetstream.Member{
		{Conversation: "g.a", User: "erin", Role: wire.RoleMember, JoinedSeq: joined},
		{Conversation: "g.a", User: "gone", JoinedSeq: 1}, // about to end
	} {
		if _, err := w.store.PutMember(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.RaiseCursor(t.Context(), "g.a", m.User, jetstream.Cursor{Read: wire.Mark{Seq: joined, Count: 2}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.mark("carol", wire.MarkQuery{Conversation: "g.a", Read: first, Delivered: second}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		seq             wire.Seq
		read, delivered string
	}{
		"the first entry is read by its author, the one who answered and the one who marked": {first, "ada bob carol", "ada bob carol"},
		"the second is only delivered to some":                                               {second, "bob", "bob carol"},
		"an entry is read by a later member from the own entry on":                           {joined, "erin", "erin"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.who("dave", "g.a", test.seq)
			if err != nil || join(got.Read) != test.read || join(got.Delivered) != test.delivered {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if got, err := w.who("erin", "g.a", second); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("erin learns of an entry from before the own time: %+v, %v", got, err)
	}
	record, err := w.store.Conversation(t.Context(), "g.a")
	if err != nil {
		t.Fatal(err)
	}
	record.Policy.History = wire.HistoryStart
	if _, err := w.store.UpdateConversation(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	if got, err := w.who("erin", "g.a", second); err != nil || join(got.Read) != "bob erin" {
		t.Errorf("with all of the history open: %+v, %v", got, err)
	}
}

func join(users []subjects.User) string {
	return strings.Trim(fmt.Sprint(users), "[]")
}

// All of these look the same, so that nobody learns which conversations there are.
func TestWhoIsNotAMemberFindsNothing(t *testing.T) {
	w := newWorld(t)
	w.conversation("g.a", "ada", "bob")
	seq := w.post("g.a", "ada")
	w.post("d.ada.bob", "ada")
	if _, err := w.store.PutMember(t.Context(), jetstream.Member{Conversation: "g.a", User: "half"}); err != nil {
		t.Fatal(err)
	}
	m, err := w.store.Member(t.Context(), "g.a", "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.RemoveMember(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for name, test := range map[string]struct {
		user         subjects.User
		conversation subjects.Conversation
		seq          wire.Seq
	}{
		"a stranger":                            {"eve", "g.a", seq},
		"a removed member":                      {"bob", "g.a", seq},
		"one whose membership has not begun":    {"half", "g.a", seq},
		"no such group":                         {"ada", "g.none", 1},
		"no such channel":                       {"ada", "c.none", 1},
		"another pair's direct conversation":    {"eve", "d.ada.bob", 1},
		"a direct conversation without entries": {"ada", "d.ada.zoe", 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.mark(test.user, wire.MarkQuery{Conversation: test.conversation, Read: test.seq})
			if wire.CodeOf(err) != wire.NotFound {
				t.Errorf("mark: %v", err)
			}
			_, whoErr := w.who(test.user, test.conversation, test.seq)
			if wire.CodeOf(whoErr) != wire.NotFound {
				t.Errorf("who: %v", whoErr)
			}
			if err != nil && whoErr != nil {
				texts = append(texts, err.Error(), whoErr.Error())
			}
		})
	}
	for _, seq := range []wire.Seq{0, seq + 1, wire.MaxSeq} {
		_, err := w.who("ada", "g.a", seq)
		if wire.CodeOf(err) != wire.NotFound {
			t.Errorf("who of seq %d: %v", seq, err)
		}
		texts = append(texts, fmt.Sprint(err))
	}
	if slices.Sort(texts); len(slices.Compact(texts)) != 1 {
		t.Errorf("the answers differ: %q", texts)
	}
	if cursor, err := w.store.Cursor(t.Context(), "g.a", "eve"); err != nil || cursor.Cursor != (jetstream.Cursor{}) {
		t.Errorf("a stranger has a cursor: %+v, %v", cursor, err)
	}
}

func TestHostileDataIsRefusedAndBuildsNoSubject(t *testing.T) {
	w := newWorld(t)
	w.conversation("g.a", "ada")
	tap, err := w.nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{"*", ">", "a.b", "", " ", "g.*", "g.>", "g.a.b", "g.\r\n", "g.\x00", "$SYS", "$JS.API.STREAM.DELETE.X", "_INBOX.x", "g.\u200b", "g." + strings.Repeat("x", 64), "g." + strings.Repeat("x", 5000), "d.bob.ada", "d.ada.ada", "G.A"}
	for _, id := range ids {
		quoted, _ := json.Marshal(id)
		for method, data := range map[subjects.Method]string{
			"mark": `{"conversation":` + string(quoted) + `,"read":1}`,
			"who":  `{"conversation":` + string(quoted) + `,"seq":1}`,
		} {
			_, err := w.caller.Call(t.Context(), "receipts", method, functionstest.As("ada").Header(), []byte(data))
			if code := wire.CodeOf(err); code != wire.BadID {
				t.Errorf("%s of %q: %v", method, id, err)
			}
		}
	}
	for data, want := range map[string]wire.Code{
		`{"read":1}`:                                                  wire.BadData,
		`{"conversation":"g.a","read":"one"}`:                         wire.BadData,
		`{"conversation":"g.a","read":1.5}`:                           wire.BadData,
		`{"conversation":"g.a","conversation":"g.b"}`:                 wire.BadFrame,
		`{"conversation":"g.a","read":-5}`:                            "",
		`{"conversation":"g.a","read":18446744073709551615}`:          "",
		`{"conversation":"g.a","user":"bob","from":"bob","count":99}`: "",
	} {
		if _, err := w.caller.Call(t.Context(), "receipts", "mark", functionstest.As("ada").Header(), []byte(data)); wire.CodeOf(err) != want {
			t.Errorf("mark of %s: %v", data, err)
		}
	}
	if _, err := w.caller.Call(t.Context(), "receipts", "mark", nil, []byte(`{"conversation":"g.a"}`)); wire.CodeOf(err) != wire.Unauthenticated {
		t.Errorf("nobody's mark: %v", err)
	}
	if err := w.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := tap.NextMsg(10 * time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if len(id) > 3 && strings.Contains(msg.Subject, id) {
				t.Errorf("%q is part of the subject %s", id, msg.Subject)
			}
		}
		if strings.ContainsAny(msg.Subject, "*> \r\n") {
			t.Errorf("a message on %q", msg.Subject)
		}
	}
}

func TestAMarkThatRisesIsTold(t *testing.T) {
	w := newWorld(t)
	w.conversation("g.small", "ada", "bob")
	crowd := []subjects.User{"ada"}
	for i := range wire.SmallConversation {
		crowd = append(crowd, subjects.User(fmt.Sprint("u", i)))
	}
	w.conversation("g.large", crowd...)
	w.post("d.ada.bob", "bob")
	for _, test := range []struct {
		conversation subjects.Conversation
		signalled    bool
	}{{"g.small", true}, {"g.large", false}, {"d.ada.bob", true}} {
		t.Run(string(test.conversation), func(t *testing.T) {
			own, err := w.nc.SubscribeSync(subjects.UserEvents("ada"))
			if err != nil {
				t.Fatal(err)
			}
			members, err := w.nc.SubscribeSync(subjects.Signal(test.conversation))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second one raises nothing
				if _, err := w.mark("ada", wire.MarkQuery{Conversation: test.conversation, Read: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.nc.Flush(); err != nil {
				t.Fatal(err)
			}
			want := wire.Receipt{Conversation: test.conversation, User: "ada", Read: 1, Delivered: 1}
			var event wire.UserEvent
			read(t, own, &event)
			if event.Change != wire.ChangeMarks || event.Conversation != test.conversation || event.Receipt == nil || *event.Receipt != want {
				t.Errorf("the own devices hear %+v", event)
			}
			if test.signalled {
				var signalled wire.Signalled
				var receipt wire.Receipt
				read(t, members, &signalled)
				if err := json.Unmarshal(signalled.Data, &receipt); err != nil || signalled.Event != wire.EventReceipt || signalled.User != "ada" || receipt != want {
					t.Errorf("the members hear %+v, %v", signalled, err)
				}
			}
			for name, sub := range map[string]*nats.Subscription{"own devices": own, "members": members} {
				if n, _, _ := sub.Pending(); n != 0 {
					t.Errorf("%s hear %d events too many", name, n)
				}
			}
		})
	}
}

func TestReceiptsEndWithTheNextMember(t *testing.T) {
	w := newWorld(t)
	var full []subjects.User
	for i := range wire.SmallConversation {
		full = append(full, subjects.User(fmt.Sprint("u", i)))
	}
	w.conversation("g.full", full...)
	members, err := w.nc.SubscribeSync(subjects.Signal("g.full"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.mark("u1", wire.MarkQuery{Conversation: "g.full", Read: 1}); err != nil {
		t.Fatal(err)
	}
	var signalled wire.Signalled
	read(t, members, &signalled)

	added := w.append("g.full", jetstream.Draft{Kind: wire.KindMember, From: "u0", Body: json.RawMessage(`{"user":"zoe","change":"added","role":"member","by":"u0"}`)})
	if err := w.store.PutMembers(t.Context(), []jetstream.Member{{Conversation: "g.full", User: "zoe", Role: wire.RoleMember, JoinedSeq: added}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.mark("u1", wire.MarkQuery{Conversation: "g.full", Read: added}); err != nil {
		t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := members.Pending(); n != 0 {
		t.Errorf("%d receipts went to %d members", n, wire.SmallConversation+1)
	}
}

func read(t *testing.T, sub *nats.Subscription, into any) {
	t.Helper()
	msg, err := sub.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(msg.Data, into); err != nil {
		t.Fatal(err)
	}
}
