package jetstream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// found returns the writer of a conversation with members, marks, edits, recalls and reactions.
func found(t testing.TB, s *jetstream.Store, c subjects.Conversation) *writer {
	t.Helper()
	jetstreamtest.Found(t, s, c)
	w := newWriter(t, s, c)
	w.reload()
	return w
}

// doctor changes what is stored of a conversation behind everybody's back.
type doctor struct {
	t  *testing.T
	s  *jetstream.Store
	c  subjects.Conversation
	nc *nats.Conn
}

func (d doctor) publish(subject string, header nats.Header, data string) {
	d.t.Helper()
	answer, err := d.nc.RequestMsgWithContext(d.t.Context(), &nats.Msg{Subject: subject, Header: header, Data: []byte(data)})
	if err != nil || !strings.Contains(string(answer.Data), `"seq"`) || strings.Contains(string(answer.Data), "error") {
		d.t.Fatalf("publish on %s: %v %s", subject, err, answer.Data)
	}
}

// put writes a record; erase takes one away without a note.
func (d doctor) put(bucket, key, value string) {
	d.t.Helper()
	d.publish(subjects.BucketSubject(bucket, key), nil, value)
}

func (d doctor) erase(stream, subject string) {
	d.t.Helper()
	msg, err := jetstream.LastFromLeader(d.s, d.t.Context(), stream, subject)
	if err == nil {
		err = jetstream.Erase(d.s, d.t.Context(), stream, msg.Sequence)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// remove writes the note of a removal, for buckets that forbid to erase.
func (d doctor) remove(bucket, key string) {
	d.t.Helper()
	d.publish(subjects.BucketSubject(bucket, key), nats.Header{"KV-Operation": {"DEL"}}, "")
}

// newest stores the newest entry anew with something replaced in one of its headers, or in its body where the header is "".
func (d doctor) newest(header, old, by string) {
	d.t.Helper()
	stream, subject := subjects.StreamOf(d.c), subjects.Message(d.c)
	msg, err := jetstream.LastFromLeader(d.s, d.t.Context(), stream, subject)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := jetstream.Erase(d.s, d.t.Context(), stream, msg.Sequence); err != nil {
		d.t.Fatal(err)
	}
	own := nats.Header{}
	for name, values := range msg.Header {
		if strings.HasPrefix(name, "Confab-") {
			own[name] = slices.Clone(values)
		}
	}
	data := string(msg.Data)
	if header == "" {
		data = strings.Replace(data, old, by, 1)
	} else {
		before := own.Get(header)
		own.Set(header, strings.Replace(before, old, by, 1))
		if own.Get(header) == before {
			d.t.Fatalf("%s has nothing to doctor: %s", header, before)
		}
	}
	d.publish(subject, own, data)
}

func recall(w *writer, target wire.Seq) {
	w.append(jetstream.Draft{Kind: wire.KindRecall, From: "ada", ClientID: fmt.Sprint("r-", target), Target: target})
}

// doctored is every defect, with what makes it of a sound conversation.
var doctored = []struct {
	name   string
	want   jetstream.Defect
	doctor func(d doctor, w *writer)
}{
	{"a message of somebody else", jetstream.DefectForeign, func(d doctor, _ *writer) { d.publish(subjects.Message(d.c), nil, `{"x":1}`) }},
	{"an entry in the middle is gone", jetstream.DefectHole, func(d doctor, w *writer) {
		tail, err := d.s.Tail(d.t.Context(), d.c)
		if err == nil {
			err = jetstream.Erase(d.s, d.t.Context(), subjects.StreamOf(d.c), tail.Stream()-15)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}},
	{"a seq is given twice", jetstream.DefectOrder, func(d doctor, w *writer) { w.post("ada", "again"); d.newest("Confab-Entry", "seq=91", "seq=90") }},
	{"the time goes back", jetstream.DefectOrder, func(d doctor, w *writer) { w.post("ada", "now"); d.newest("", `"at":"20`, `"at":"19`) }},
	{"a message is not counted", jetstream.DefectCount, func(d doctor, w *writer) {
		w.post("ada", "uncounted")
		d.newest("Confab-Entry", "count=82", "count=81")
	}},
	{"a change is not the newest", jetstream.DefectEpoch, func(d doctor, w *writer) { w.post("ada", "old"); d.newest("Confab-Entry", "epoch=89", "epoch=3") }},
	{"a pointer leads astray", jetstream.DefectPointers, func(d doctor, w *writer) { w.post("ada", "astray"); d.newest("Confab-Back", ".1", ".2") }},
	{"pointers cannot be read", jetstream.DefectPointers, func(d doctor, w *writer) { w.post("ada", "astray"); d.newest("Confab-Back", "page=", "pages=") }},
	{"an author's newest post is older", jetstream.DefectPosters, func(d doctor, w *writer) {
		w.post("ada", "posted")
		d.newest("Confab-Posters", "bob=90/81", "bob=88/81")
	}},
	{"the id of an erased entry is forgotten", jetstream.DefectSpent, func(d doctor, w *writer) {
		recall(w, 70)
		d.newest("Confab-Spent", "=70/", "=71/")
	}},
	{"an entry is another's", jetstream.DefectBody, func(d doctor, w *writer) { w.post("ada", "mine"); d.newest("", `"from":"ada"`, `"from":"bob"`) }},
	{"an entry is no JSON", jetstream.DefectBody, func(d doctor, w *writer) { w.post("ada", "mine"); d.newest("", `"from":"ada"`, `"from":"ada`) }},
	{"a recall says that it erased another message", jetstream.DefectErased, func(d doctor, w *writer) { recall(w, 70); d.newest("Confab-Erased", `"seq":70`, `"seq":71`) }},
	{"what was recalled is still there", jetstream.DefectKept, func(d doctor, w *writer) {
		recall(w, 70)
		d.newest("Confab-Erased", `[{"seq":70`, `[{"seq":71,"count":67,"kind":"message","from":"bob","at":"2026-11-20T15:04:05.000Z","stream":1},{"seq":70`)
		w.reload()
		tail, err := d.s.Amend(d.t.Context(), d.c, w.tail)
		if err != nil {
			d.t.Fatal(err)
		}
		w.tail = tail
		w.post("ada", "after")
	}},
	{"a record of changes is gone", jetstream.DefectAmends, func(d doctor, _ *writer) { d.remove(subjects.BucketAmends, subjects.AmendsKey(d.c, 0)) }},
	{"a record of changes is another", jetstream.DefectAmends, func(d doctor, _ *writer) {
		d.put(subjects.BucketAmends, subjects.AmendsKey(d.c, 0), `{"through":88,"entries":{"11":{"reactions":{"+":["eve"]}}}}`)
	}},
	{"a page has changes that nobody made", jetstream.DefectAmends, func(d doctor, _ *writer) {
		d.put(subjects.BucketAmends, subjects.AmendsKey(d.c, 9), `{"through":88,"entries":{"600":{"reactions":{"+":["eve"]}}}}`)
	}},
	{"a conversation has no record", jetstream.DefectConversation, func(d doctor, _ *writer) { d.remove(subjects.BucketConversations, string(d.c)) }},
	{"a title is another", jetstream.DefectConversation, func(d doctor, _ *writer) {
		d.put(subjects.BucketConversations, string(d.c), `{"conversation":"`+string(d.c)+`","kind":"group","title":"Coffee"}`)
	}},
	{"who was removed is a member", jetstream.DefectMember, func(d doctor, _ *writer) {
		for _, key := range []string{subjects.MemberKey(d.c, "cyd"), subjects.MembershipKey("cyd", d.c)} {
			d.put(subjects.BucketMembers, key, `{"conversation":"`+string(d.c)+`","user":"cyd","role":"member","joined_seq":3}`)
		}
	}},
	{"who was added is no member", jetstream.DefectMember, func(d doctor, _ *writer) {
		d.erase(subjects.BucketStream(subjects.BucketMembers), subjects.BucketSubject(subjects.BucketMembers, subjects.MemberKey(d.c, "bob")))
	}},
	{"a member without an entry", jetstream.DefectMember, func(d doctor, _ *writer) {
		for _, key := range []string{subjects.MemberKey(d.c, "eve"), subjects.MembershipKey("eve", d.c)} {
			d.put(subjects.BucketMembers, key, `{"conversation":"`+string(d.c)+`","user":"eve","role":"member","joined_seq":7}`)
		}
	}},
	{"a role that nobody gave", jetstream.DefectMember, func(d doctor, _ *writer) {
		for _, key := range []string{subjects.MemberKey(d.c, "bob"), subjects.MembershipKey("bob", d.c)} {
			d.put(subjects.BucketMembers, key, `{"conversation":"`+string(d.c)+`","user":"bob","role":"owner","joined_seq":2}`)
		}
	}},
	{"a membership is not listed", jetstream.DefectListing, func(d doctor, _ *writer) { d.remove(subjects.BucketMembers, subjects.MembershipKey("bob", d.c)) }},
	{"a mark beyond the newest entry", jetstream.DefectMark, func(d doctor, _ *writer) {
		d.put(subjects.BucketCursors, subjects.CursorKey("bob", d.c), `{"read":{"seq":500,"count":80}}`)
	}},
	{"a mark with a count that cannot be", jetstream.DefectMark, func(d doctor, _ *writer) {
		d.put(subjects.BucketCursors, subjects.CursorKey("bob", d.c), `{"read":{"seq":90,"count":3}}`)
	}},
}

// TestVerifyNamesEveryDefect makes one conversation for each, and a sound one beside them.
func TestVerifyNamesEveryDefect(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	s, nc := server.Store(t), server.Connect(t)
	found(t, s, "g.sound")
	w := newWriter(t, s, "d.ada.bob")
	for _, u := range []subjects.User{"ada", "bob"} {
		if err := s.PutListing(t.Context(), jetstream.Member{Conversation: "d.ada.bob", User: u, Role: wire.RoleMember, JoinedSeq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	w.post("ada", "hello")
	audit, err := s.Verify(t.Context(), jetstream.VerifyOptions{})
	if err != nil || audit.Defects != 0 || audit.Unfinished != 0 || audit.Entries != 91-4 || audit.Conversations != 2 {
		t.Fatalf("a sound store: %+v, %v", audit, err)
	}
	tried := map[jetstream.Defect]bool{}
	want := map[subjects.Conversation]jetstream.Defect{}
	for i, c := range doctored {
		d := doctor{t, s, subjects.Conversation(fmt.Sprint("g.x", i)), nc}
		c.doctor(d, found(t, s, d.c))
		want[d.c], tried[c.want] = c.want, true
	}
	for _, d := range jetstream.Defects() {
		if !tried[d] {
			t.Errorf("nothing shows that %s is found", d)
		}
	}
	audit, err = s.Verify(t.Context(), jetstream.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	named := map[subjects.Conversation][]jetstream.Finding{}
	for _, f := range audit.Findings {
		named[f.Conversation] = append(named[f.Conversation], f)
	}
	for i, c := range doctored {
		all := named[subjects.Conversation(fmt.Sprint("g.x", i))]
		if !slices.ContainsFunc(all, func(f jetstream.Finding) bool { return f.Defect == c.want }) {
			t.Errorf("%s (g.x%d): found %v, want %s", c.name, i, all, c.want)
		}
		one, err := s.Verify(t.Context(), jetstream.VerifyOptions{Conversation: subjects.Conversation(fmt.Sprint("g.x", i))})
		if err != nil || !slices.Equal(one.Findings, all) {
			t.Errorf("%s, looked at alone: %v, %v, want %v", c.name, one.Findings, err, all)
		}
	}
	for _, f := range append(named["g.sound"], named["d.ada.bob"]...) {
		t.Errorf("a sound conversation: %s", f)
	}
}

// TestVerifyTakesNothingForADefectThatIsOnItsWay looks while others write, recall, join and leave.
func TestVerifyTakesNothingForADefectThatIsOnItsWay(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	rooms := []subjects.Conversation{"g.a", "g.b", "g.c"}
	for _, c := range rooms {
		found(t, s, c)
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i, c := range rooms {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := jetstreamtest.Busy(s, c, random); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		audit, err := s.Verify(t.Context(), jetstream.VerifyOptions{})
		if err != nil || audit.Defects != 0 {
			t.Errorf("while others write: %v, %v", audit.Findings, err)
		}
	}
	stop()
	all.Wait()
	audit, err := s.Verify(t.Context(), jetstream.VerifyOptions{})
	if err != nil || audit.Defects != 0 || audit.Unfinished != 0 {
		t.Errorf("afterwards: %v, %v", audit.Findings, err)
	}
}

func TestDirectionsThatAreFarFromEachOtherAreComparedInShares(t *testing.T) {
	ctx := t.Context()
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	var all []jetstream.Member
	for i := range 12 {
		c := subjects.Conversation(fmt.Sprintf("g.far-%d", i))
		if _, err := s.CreateConversation(ctx, jetstream.Conversation{Conversation: c, Kind: c.Kind(), Title: "Tea", CreatedBy: "ada"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(ctx, c, jetstream.Tail{}, jetstream.Draft{Kind: wire.KindPolicy, From: "ada", Body: []byte(`{"title":"Tea","policy":{}}`)}); err != nil {
			t.Fatal(err)
		}
		all = append(all, jetstream.Member{Conversation: c, User: "bob", Role: wire.RoleOwner, JoinedSeq: 1})
	}
	if err := s.PutMembers(ctx, all); err != nil {
		t.Fatal(err)
	}
	for _, m := range all { // behind all that stands under the conversations
		if err := s.PutListing(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	doctor{t, s, all[5].Conversation, server.Connect(t)}.remove(subjects.BucketMembers, subjects.MembershipKey("bob", all[5].Conversation))
	once, found, err := s.VerifyWaiting(ctx, 1000)
	if err != nil || len(found) != 1 || found[0].Defect != jetstream.DefectListing || found[0].Conversation != all[5].Conversation || once.Memberships != 12 {
		t.Fatalf("%+v, %+v, %v", once, found, err)
	}
	for _, waiting := range []int{0, 2} {
		again, same, err := s.VerifyWaiting(ctx, waiting)
		if err != nil || again.Memberships != once.Memberships || again.Marks != once.Marks || !slices.Equal(same, found) {
			t.Errorf("with %d that may wait: %+v, %+v, %v; and %+v, %+v without a bound", waiting, again, same, err, once, found)
		}
	}
}
