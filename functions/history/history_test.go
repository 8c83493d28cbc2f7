package history_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestHeadsListWhatAUserIsIn(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	if all := w.heads("ada"); all == nil || len(all) != 0 {
		t.Errorf("before anything there is %+v", all)
	}
	team := w.group("team", "ada", "bob")
	w.group("others", "eve")
	w.post("ada", "d.ada.bob", "one")
	last := w.post("ada", "d.ada.bob", "two")
	w.post("bob", team, "three")
	h := w.head("bob", "d.ada.bob")
	if e := jetstreamtest.Entry(t, h.Head.Entry); e.Seq != 2 || string(e.Body) != string(functionstest.Text("two")) || e.From != "ada" || e.At != last.At {
		t.Errorf("the head entry is %+v", e)
	}
	h.Head.Entry = nil
	if want := (wire.ConversationHead{Conversation: "d.ada.bob", Kind: subjects.KindDirect, Head: wire.Head{Seq: 2, Count: 2}, Unread: 2, Role: wire.RoleMember}); !reflect.DeepEqual(h, want) {
		t.Errorf("bob sees %+v, want %+v", h, want)
	}
	h = w.head("ada", team)
	h.Head.Entry = nil
	if want := (wire.ConversationHead{Conversation: team, Kind: subjects.KindGroup, Title: "Title of team", Head: wire.Head{Seq: 2, Count: 1}, Unread: 1, Role: wire.RoleOwner}); !reflect.DeepEqual(h, want) {
		t.Errorf("ada sees %+v, want %+v", h, want)
	}
	// A post reads up to itself; a cursor counts where it is further.
	if h := w.head("ada", "d.ada.bob"); h.Unread != 0 || h.Read != (wire.Mark{Seq: 2, Count: 2}) {
		t.Errorf("the author sees %+v", h)
	}
	if _, err := w.store.RaiseCursor(t.Context(), "d.ada.bob", "bob", jetstream.Cursor{Read: wire.Mark{Seq: 1, Count: 1}}); err != nil {
		t.Fatal(err)
	}
	if h := w.head("bob", "d.ada.bob"); h.Unread != 1 || h.Read != (wire.Mark{Seq: 1, Count: 1}) {
		t.Errorf("after reading one bob sees %+v", h)
	}
	w.post("bob", "d.ada.bob", "answer")
	if h := w.head("bob", "d.ada.bob"); h.Unread != 0 || h.Read.Seq != 3 {
		t.Errorf("after an answer bob sees %+v", h)
	}
	// A recall does not lower the count.
	ask[wire.Posted](w, "bob", "send", send.MethodRecall, wire.Recall{Conversation: "d.ada.bob", Seq: 3, ClientID: functionstest.ClientID()})
	if h := w.head("ada", "d.ada.bob"); h.Unread != 1 || h.Head.Count != 3 || jetstreamtest.Entry(t, h.Head.Entry).Kind != wire.KindRecall {
		t.Errorf("after the recall ada sees %+v", h)
	}
}

func TestHeadsComeInPages(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	var want []subjects.Conversation
	for i := range 7 {
		want = append(want, w.group(fmt.Sprintf("g%d", i), "ada"))
	}
	w.post("bob", "d.ada.bob", "hi")
	want = append([]subjects.Conversation{"d.ada.bob"}, want...)
	// A listing without an entry is no conversation yet.
	if err := w.store.PutListing(t.Context(), jetstream.Member{Conversation: "d.ada.carl", User: "ada", Role: wire.RoleMember}); err != nil {
		t.Fatal(err)
	}
	for limit := 1; limit <= 10; limit++ {
		var got []subjects.Conversation
		for after, more := subjects.Conversation(""), true; more; {
			answer := ask[wire.Heads](w, "ada", history.Name, history.MethodHeads, wire.HeadsQuery{After: after, Limit: limit})
			if len(answer.Conversations) > limit {
				t.Fatalf("%d conversations for a limit of %d", len(answer.Conversations), limit)
			}
			for _, h := range answer.Conversations {
				got = append(got, h.Conversation)
			}
			after, more = answer.Next, answer.Next != ""
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, want)
		}
	}
}

// span returns the seqs from one to another.
func span(from, to wire.Seq) []wire.Seq {
	all := []wire.Seq{}
	for seq := from; seq <= to; seq++ {
		all = append(all, seq)
	}
	return all
}

func TestAPageShowsTheTimeOfMembership(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	team := w.group("team", "ada")
	for i := range 5 {
		w.post("ada", team, "before %d", i)
	}
	added := w.member(conversations.MethodAdd, team, "bob")
	for i := range 5 {
		w.post("ada", team, "after %d", i)
	}
	head := added + 5
	first := jetstreamtest.Entry(t, w.page("ada", wire.PageQuery{Conversation: team, Around: at(1), Limit: 1}).Entries[0]).At
	check := func(from wire.Seq) {
		t.Helper()
		for name, q := range map[string]wire.PageQuery{
			"newest": {}, "after nothing": {After: at(0)}, "before the end": {Before: at(head + 1)}, "before the very end": {Before: at(wire.MaxSeq)},
			"knowing of the head": {AtLeast: head}, "with a large limit": {Limit: 1 << 30},
		} {
			q.Conversation = team
			p := w.page("bob", q)
			if got := seqs(t, p); !slices.Equal(got, span(from, head)) || p.First != from || p.Last != head || p.MoreBefore || p.MoreAfter {
				t.Errorf("%s: bob sees %v (%+v), want %d to %d", name, got, p, from, head)
			}
		}
		for name, q := range map[string]wire.PageQuery{
			"before the first": {Before: at(from)}, "before 0": {Before: at(0)}, "after the head": {After: at(head)}, "after the very end": {After: at(wire.MaxSeq)},
			"around what is beyond": {Around: at(wire.MaxSeq)},
		} {
			q.Conversation = team
			if p := w.page("bob", q); len(p.Entries) != 0 || p.Entries == nil || p.First != 0 || p.Last != 0 {
				t.Errorf("%s: bob sees %+v", name, p)
			}
		}
		if p := w.page("bob", wire.PageQuery{Conversation: team, Time: &first, Limit: 3}); p.First != from {
			t.Errorf("at the time of the first entry bob sees %v", seqs(t, p))
		}
	}
	check(added)
	if p := w.page("bob", wire.PageQuery{Conversation: team, Around: at(2)}); len(p.Entries) != 0 || p.MoreBefore || !p.MoreAfter {
		t.Errorf("around an entry from before his time bob sees %+v", p)
	}
	if h := w.head("bob", team); h.Read != (wire.Mark{Seq: added, Count: 5}) || h.Unread != 5 {
		t.Errorf("bob's head is %+v", h)
	}
	start := wire.Policy{History: wire.HistoryStart}
	ask[wire.Changed](w, "ada", "conversations", conversations.MethodUpdate, wire.Update{Conversation: team, Policy: &start})
	head++
	check(1)
	ask[wire.Changed](w, "ada", "conversations", conversations.MethodUpdate, wire.Update{Conversation: team, Policy: &wire.Policy{}})
	head++
	check(added)

	w.member(conversations.MethodRemove, team, "bob")
	for _, u := range []subjects.User{"bob", "eve"} {
		for _, c := range []subjects.Conversation{team, "g.no-such", "c.no-such", "d.ada.nobody"} {
			if p, err := invoke[wire.Page](w, u, history.Name, history.MethodPage, wire.PageQuery{Conversation: c}); wire.CodeOf(err) != wire.NotFound {
				t.Errorf("%s reads %s: %+v, %v", u, c, p, err)
			}
		}
		if all := slices.Concat(w.heads(u), w.headsTogether(u)); len(all) != 0 {
			t.Errorf("%s sees %+v", u, all)
		}
	}
}

func TestDirectConversationsNeedNoMembership(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	if p := w.page("ada", wire.PageQuery{Conversation: "d.ada.bob"}); len(p.Entries) != 0 || p.MoreBefore || p.MoreAfter {
		t.Errorf("before the first message ada sees %+v", p)
	}
	w.post("ada", "d.ada.bob", "hi")
	for _, u := range []subjects.User{"ada", "bob"} {
		if p := w.page(u, wire.PageQuery{Conversation: "d.ada.bob"}); !slices.Equal(seqs(t, p), []wire.Seq{1}) {
			t.Errorf("%s sees %+v", u, p)
		}
	}
	for u, c := range map[subjects.User]subjects.Conversation{"eve": "d.ada.bob", "ada": "d.ada.nobody"} {
		if p, err := invoke[wire.Page](w, u, history.Name, history.MethodPage, wire.PageQuery{Conversation: c}); wire.CodeOf(err) != wire.NotFound {
			t.Errorf("%s reads %s: %+v, %v", u, c, p, err)
		}
	}
}

// Nobody waits for the long list of another, and one answer is no larger than a message may be.
func TestLongListsAreLeftOutWhereManyAsk(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	w.post("eve", "d.bob.eve", "hi")
	var many []jetstream.Member
	for i := range wire.MaxHeadsTogether {
		many = append(many, jetstream.Member{Conversation: subjects.Conversation(fmt.Sprintf("g.g%d", i)), User: "ada", Role: wire.RoleMember, JoinedSeq: 1})
	}
	if err := w.store.PutMembers(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	check := func(want ...subjects.User) {
		t.Helper()
		users := []subjects.User{"ada", "bob", "eve", "nobody"}
		answer := ask[wire.HeadsOf](w, "", history.Name, history.MethodHeadsOf, wire.HeadsOfQuery{Users: users})
		if got := slices.Sorted(maps.Keys(answer.Users)); !slices.Equal(got, want) || len(answer.Users["bob"].Conversations) != 1 {
			t.Errorf("the answer is for %v, want %v", got, want)
		}
	}
	check("ada", "bob", "eve", "nobody")
	w.post("ada", "d.ada.eve", "one more")
	check("bob", "eve", "nobody")
}

func TestCheckAndFill(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	team := w.group("team", "ada")
	for i := range 4 {
		w.post("ada", team, "%d", i)
	}
	w.post("ada", "d.ada.bob", "hi")
	check := func(heads map[subjects.Conversation]wire.Seq) wire.HeadsChecked {
		t.Helper()
		return ask[wire.HeadsChecked](w, "", history.Name, history.MethodCheck, wire.HeadCheck{Heads: heads})
	}
	before := check(nil)
	if len(before.Tails) != subjects.Partitions || before.Tails[team.Partition()] == 0 || len(before.Heads) != 0 {
		t.Errorf("without heads the check says %+v", before)
	}
	seen := map[subjects.Conversation]wire.Seq{team: 3, "d.ada.bob": 1, "g.no-such": 0, "d.bob.eve": 2}
	if got := check(seen).Heads; !reflect.DeepEqual(got, map[subjects.Conversation]wire.Seq{team: 5, "d.bob.eve": 0}) {
		t.Errorf("the heads that differ are %v", got)
	}
	w.post("ada", team, "more")
	after := check(nil)
	for p := range subjects.Partitions {
		if moved := after.Tails[p] != before.Tails[p]; moved != (p == team.Partition()) {
			t.Errorf("the tail of partition %d went from %d to %d", p, before.Tails[p], after.Tails[p])
		}
	}
	ask[wire.Posted](w, "ada", "send", send.MethodRecall, wire.Recall{Conversation: team, Seq: 4, ClientID: functionstest.ClientID()})
	filled := ask[wire.Filled](w, "", history.Name, history.MethodFill, wire.FillQuery{Conversation: team, After: 2, Limit: 3})
	if got := seqs(t, wire.Page{Entries: filled.Entries}); !slices.Equal(got, []wire.Seq{3, 5}) || filled.Head != 7 {
		t.Errorf("filled %v, head %d", got, filled.Head)
	}
	for _, m := range []subjects.Method{history.MethodCheck, history.MethodFill} {
		if method, known := w.caller.Method(history.Name, m); !known || method.Public {
			t.Errorf("%s is %+v, %v: clients must not call it", m, method, known)
		}
	}
	many := map[subjects.Conversation]wire.Seq{}
	for i := range wire.MaxChecked {
		many[subjects.Conversation(fmt.Sprintf("g.%060d", i))] = wire.MaxSeq
	}
	if got := check(many); len(got.Heads) != wire.MaxChecked {
		t.Errorf("%d of the largest check differ", len(got.Heads))
	}
	many["g.one-more"] = 1
	if _, err := invoke[json.RawMessage](w, "", history.Name, history.MethodCheck, wire.HeadCheck{Heads: many}); wire.CodeOf(err) != wire.BadData {
		t.Errorf("a check that is too large: %v", err)
	}
}

// TestAnswersFitIntoAMessage writes more than one message of NATS holds, and reads it all in every direction.
func TestAnswersFitIntoAMessage(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	const total = 100
	long := strings.Repeat("x", 15<<10)
	for i := 1; i <= total; i++ {
		w.post("ada", "d.ada.bob", "%s %d", long, i)
	}
	walk := func(q wire.PageQuery, next func(*wire.PageQuery, wire.Page) bool) (seqs []wire.Seq) {
		t.Helper()
		q.Conversation, q.Limit = "d.ada.bob", wire.MaxPage
		for {
			page := ask[wire.Page](w, "bob", "history", history.MethodPage, q)
			got := make([]wire.Seq, len(page.Entries))
			for i, raw := range page.Entries {
				got[i] = jetstreamtest.Entry(t, raw).Seq
			}
			if len(got) == 0 || page.First != got[0] || page.Last != got[len(got)-1] || page.MoreBefore != (got[0] > 1) || page.MoreAfter != (got[len(got)-1] < total) {
				t.Fatalf("%d entries, first %d, last %d, more %v and %v", len(got), page.First, page.Last, page.MoreBefore, page.MoreAfter)
			}
			seqs = append(seqs, got...)
			if !next(&q, page) {
				slices.Sort(seqs)
				return seqs
			}
		}
	}
	zero, middle := wire.Seq(0), wire.Seq(20)
	forward := walk(wire.PageQuery{After: &zero}, func(q *wire.PageQuery, p wire.Page) bool { q.After = &p.Last; return p.MoreAfter })
	backward := walk(wire.PageQuery{}, func(q *wire.PageQuery, p wire.Page) bool { q.Before = &p.First; return p.MoreBefore })
	if len(forward) != total || !slices.Equal(forward, backward) {
		t.Errorf("forward %v\nbackward %v", forward, backward)
	}
	if around := walk(wire.PageQuery{Around: &middle}, func(*wire.PageQuery, wire.Page) bool { return false }); !slices.Contains(around, middle) || len(around) >= total {
		t.Errorf("around %d: %v", middle, around)
	}
	var filled []json.RawMessage
	for q := (wire.FillQuery{Conversation: "d.ada.bob"}); q.After < total; {
		answer := ask[wire.Filled](w, "", "history", history.MethodFill, q)
		if answer.To <= q.After || answer.Head != total {
			t.Fatalf("filled from %d to %d of %d", q.After, answer.To, answer.Head)
		}
		filled, q.After = append(filled, answer.Entries...), answer.To
	}
	if len(filled) != total {
		t.Errorf("filled %d entries", len(filled))
	}
}
