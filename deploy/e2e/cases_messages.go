package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func direct(t *testing.T, target Target) {
	ada, bob, eve := register(t, target, "ada"), register(t, target, "bob"), register(t, target, "eve")
	posted := call[wire.Posted](ada, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("hello bob")})
	if posted.Seq != 1 || posted.Count != 1 {
		t.Fatalf("the first message is %+v", posted)
	}
	want, _ := subjects.Direct(ada.user, bob.user)
	if posted.Conversation != want {
		t.Fatalf("it went to %s, want %s", posted.Conversation, want)
	}
	for _, p := range []*peer{ada, bob} {
		if e := p.entry(posted.Conversation, 1); string(e.Body) != `{"text":"hello bob"}` || e.From != ada.user || e.Kind != wire.KindMessage {
			t.Errorf("%s got %+v", p.user, e)
		}
	}
	if answer := bob.say(posted.Conversation, "hello ada"); answer.Seq != 2 {
		t.Errorf("the answer is %+v", answer)
	}
	ada.entry(posted.Conversation, 2)
	refused(eve, wire.NotFound, "history.page", wire.PageQuery{Conversation: posted.Conversation})
	refused(eve, wire.NotFound, "send.post", wire.Post{Conversation: posted.Conversation, ClientID: client.NewClientID(), Body: text("me too")})
	refused(ada, wire.NotFound, "send.post", wire.Post{To: name("nobody"), ClientID: client.NewClientID(), Body: text("anybody?")})
	refused(ada, wire.BadData, "send.post", wire.Post{To: ada.user, ClientID: client.NewClientID(), Body: text("me")})
	if got := eve.entries(posted.Conversation); len(got) > 0 {
		t.Errorf("eve got %+v", got)
	}
}

func repeats(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	once := wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("once")}
	first := call[wire.Posted](ada, "send.post", once)
	second := call[wire.Posted](ada, "send.post", once)
	if !second.Duplicate || second.Seq != first.Seq || second.Count != first.Count || second.At != first.At {
		t.Errorf("the repeat answers %+v, the first try %+v", second, first)
	}
	other := once
	other.Body = text("twice")
	refused(ada, wire.IDConflict, "send.post", other)
	same := once
	same.To, same.Conversation = "", first.Conversation
	if got := call[wire.Posted](bob, "send.post", same); got.Duplicate || got.Seq != 2 {
		t.Errorf("another user's message under the same client id: %+v", got)
	}
	old := wire.Post{To: bob.user, ClientID: "01900000-0000-7000-8000-000000000000", Body: text("from long ago")}
	refused(ada, wire.RetryWindowExpired, "send.post", old)
	page := call[wire.Page](ada, "history.page", wire.PageQuery{Conversation: first.Conversation})
	if len(page.Entries) != 2 {
		t.Errorf("history has %d entries, want 2", len(page.Entries))
	}
}

func amends(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	posted := call[wire.Posted](ada, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("helo")})
	conversation := posted.Conversation
	call[wire.Posted](ada, "send.edit", wire.Edit{Conversation: conversation, Seq: 1, ClientID: client.NewClientID(), Body: text("hello")})
	call[wire.Posted](bob, "send.react", wire.React{Conversation: conversation, Seq: 1, ClientID: client.NewClientID(), Emoji: "👍"})
	if e := ada.entry(conversation, 2); e.Kind != wire.KindEdit || e.Target != 1 {
		t.Errorf("the edit came as %+v", e)
	}
	folded := entryAt(t, bob, conversation, 1)
	if string(folded.Body) != string(text("hello")) || folded.EditedAt == nil || !slices.Equal(folded.Reactions["👍"], []subjects.User{bob.user}) {
		t.Errorf("the message reads %+v", folded)
	}
	refused(bob, wire.Forbidden, "send.edit", wire.Edit{Conversation: conversation, Seq: 1, ClientID: client.NewClientID(), Body: text("mine")})
	refused(bob, wire.Forbidden, "send.recall", wire.Recall{Conversation: conversation, Seq: 1, ClientID: client.NewClientID()})
	refused(ada, wire.NotFound, "send.edit", wire.Edit{Conversation: conversation, Seq: 99, ClientID: client.NewClientID(), Body: text("what")})
	call[wire.Posted](ada, "send.recall", wire.Recall{Conversation: conversation, Seq: 1, ClientID: client.NewClientID()})
	if gone := entryAt(t, bob, conversation, 1); !gone.Recalled || gone.Body != nil || gone.From != ada.user || gone.Count != 1 {
		t.Errorf("the recalled message reads %+v", gone)
	}
	raw := call[json.RawMessage](bob, "history.page", wire.PageQuery{Conversation: conversation})
	if page := string(raw); slices.ContainsFunc([]string{"helo", "hello"}, func(s string) bool { return containsText(page, s) }) {
		t.Errorf("the page still holds what was recalled: %s", page)
	}
}

func containsText(page, word string) bool {
	return strings.Contains(page, fmt.Sprintf(`"text":%q`, word))
}

func entryAt(t *testing.T, p *peer, c subjects.Conversation, seq wire.Seq) wire.Entry {
	t.Helper()
	page := call[wire.Page](p, "history.page", wire.PageQuery{Conversation: c, Around: &seq, Limit: 3})
	for _, e := range decodeEntries(t, page) {
		if e.Seq == seq {
			return e
		}
	}
	t.Fatalf("the page around %d lacks it: %+v", seq, page)
	return wire.Entry{}
}

func decodeEntries(t *testing.T, page wire.Page) []wire.Entry {
	t.Helper()
	all := make([]wire.Entry, len(page.Entries))
	for i, raw := range page.Entries {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			t.Fatalf("entry %s: %v", raw, err)
		}
	}
	return all
}

func paging(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	const total = 150
	conversation, _ := subjects.Direct(ada.user, bob.user)
	for i := 1; i <= total; i++ {
		ada.say(conversation, "%d", i)
	}
	ask := func(q wire.PageQuery) []wire.Seq {
		t.Helper()
		q.Conversation = conversation
		page := call[wire.Page](bob, "history.page", q)
		var seqs []wire.Seq
		for _, e := range decodeEntries(t, page) {
			if want := fmt.Sprintf(`{"text":"%d"}`, e.Seq); string(e.Body) != want {
				t.Errorf("entry %d reads %s", e.Seq, e.Body)
			}
			seqs = append(seqs, e.Seq)
		}
		if len(seqs) > 0 && (page.First != seqs[0] || page.Last != seqs[len(seqs)-1] || page.MoreBefore != (seqs[0] > 1) || page.MoreAfter != (seqs[len(seqs)-1] < total)) {
			t.Errorf("the page %v says first %d, last %d, more %v %v", seqs, page.First, page.Last, page.MoreBefore, page.MoreAfter)
		}
		return seqs
	}
	seq := func(n wire.Seq) *wire.Seq { return &n }
	var backward, forward []wire.Seq
	for page := ask(wire.PageQuery{Limit: 40}); len(page) > 0; page = ask(wire.PageQuery{Limit: 40, Before: seq(page[0])}) {
		backward = append(slices.Clone(page), backward...)
	}
	for page := ask(wire.PageQuery{Limit: 70, After: seq(0)}); len(page) > 0; page = ask(wire.PageQuery{Limit: 70, After: seq(page[len(page)-1])}) {
		forward = append(forward, page...)
	}
	if len(backward) != total || !slices.Equal(backward, forward) || backward[0] != 1 {
		t.Errorf("backward %v\nforward %v", backward, forward)
	}
	if around := ask(wire.PageQuery{Around: seq(75), Limit: 11}); !slices.Contains(around, 75) || len(around) != 11 {
		t.Errorf("around 75: %v", around)
	}
	for _, beyond := range []wire.PageQuery{{After: seq(total)}, {After: seq(wire.MaxSeq)}, {Before: seq(1)}, {Before: seq(0)}} {
		if page := ask(beyond); len(page) != 0 {
			t.Errorf("%+v gives %v", beyond, page)
		}
	}
	at := entryAt(t, bob, conversation, 100).At
	if page := ask(wire.PageQuery{Time: &at, Limit: 21}); !slices.Contains(page, 100) {
		t.Errorf("at the time of 100: %v", page)
	}
}

func unread(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	headOf := func(p *peer) wire.ConversationHead {
		t.Helper()
		heads := call[wire.Heads](p, "history.heads", wire.HeadsQuery{})
		for _, head := range heads.Conversations {
			if head.Conversation == conversation {
				return head
			}
		}
		t.Fatalf("%s does not see %s in %+v", p.user, conversation, heads)
		return wire.ConversationHead{}
	}
	for range 3 {
		ada.say(conversation, "unread")
	}
	if head := headOf(bob); head.Unread != 3 || head.Head.Seq != 3 || head.Kind != subjects.KindDirect {
		t.Errorf("bob sees %+v", head)
	}
	if head := headOf(ada); head.Unread != 0 || head.Read.Seq != 3 {
		t.Errorf("ada, who wrote them, sees %+v", head)
	}
	if marked := call[wire.Marked](bob, "receipts.mark", wire.MarkQuery{Conversation: conversation, Read: 2}); marked.Read.Seq != 2 || marked.Read.Count != 2 {
		t.Errorf("the mark is %+v", marked)
	}
	if marked := call[wire.Marked](bob, "receipts.mark", wire.MarkQuery{Conversation: conversation, Read: 1}); marked.Read.Seq != 2 {
		t.Errorf("the mark went back to %+v", marked)
	}
	if head := headOf(bob); head.Unread != 1 {
		t.Errorf("after reading two of three, bob sees %+v", head)
	}
	bob.say(conversation, "answer")
	if head := headOf(bob); head.Unread != 0 {
		t.Errorf("after his own post, bob sees %+v", head)
	}
	if head := headOf(ada); head.Unread != 1 {
		t.Errorf("after bob's post, ada sees %+v", head)
	}
}

func receipts(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	phone := connect(t, target, bob.tokens, "phone-1")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	posted := ada.say(conversation, "read me")
	call[wire.Marked](bob, "receipts.mark", wire.MarkQuery{Conversation: conversation, Read: 99, Delivered: posted.Seq})
	for _, p := range []*peer{ada, phone} {
		until(p, "receipt of bob", wire.EventReceipt, func(r wire.Receipt) bool {
			return r.Conversation == conversation && r.User == bob.user && r.Read == posted.Seq
		})
	}
	if who := call[wire.Readers](ada, "receipts.who", wire.ReadersQuery{Conversation: conversation, Seq: posted.Seq}); !slices.Contains(who.Read, bob.user) {
		t.Errorf("readers are %+v", who)
	}
}

func typing(t *testing.T, target Target) {
	ada, bob, eve := register(t, target, "ada"), register(t, target, "bob"), register(t, target, "eve")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	ada.say(conversation, "one")
	call[wire.Empty](ada, wire.CallSignal, wire.Signal{Conversation: conversation, Kind: "typing"})
	until(bob, "ada typing", wire.EventSignal, func(s wire.Signal) bool {
		return s.Conversation == conversation && s.User == ada.user && s.Kind == "typing"
	})
	refused(eve, wire.NotFound, wire.CallSignal, wire.Signal{Conversation: conversation, Kind: "typing"})
	if page := call[wire.Page](bob, "history.page", wire.PageQuery{Conversation: conversation}); len(page.Entries) != 1 {
		t.Errorf("history has %d entries, want the message alone", len(page.Entries))
	}
}

func order(t *testing.T, target Target) {
	ada, bob := register(t, target, "ada"), register(t, target, "bob")
	conversation, _ := subjects.Direct(ada.user, bob.user)
	const each = 100
	var sending sync.WaitGroup
	for _, p := range []*peer{ada, bob} {
		answers := make([]<-chan wire.ServerFrame, each)
		for i := range answers {
			answers[i] = p.start("send.post", wire.Post{Conversation: conversation, ClientID: client.NewClientID(), Body: text("%d", i)})
		}
		sending.Go(func() {
			for i, answer := range answers {
				if _, err := wait[wire.Posted](p, "send.post", answer); err != nil {
					t.Errorf("message %d of %s: %v", i, p.user, err)
				}
			}
		})
	}
	sending.Wait()
	for _, p := range []*peer{ada, bob} {
		p.entry(conversation, 2*each)
		next := map[subjects.User]int{}
		for i, e := range p.entries(conversation) {
			if e.Seq != wire.Seq(i+1) || string(e.Body) != string(text("%d", next[e.From])) {
				t.Fatalf("%s got %+v at place %d, where %s's message %d was due", p.user, e, i+1, e.From, next[e.From])
			}
			next[e.From]++
		}
	}
}
