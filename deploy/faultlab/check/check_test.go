package check

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	group  subjects.Conversation = "g.lab"
	direct subjects.Conversation = "d.ada.bob"
)

// story makes a clean history: what a system that keeps its promises shows under faults.
type story struct {
	now     time.Duration
	records []history.Record
	logs    map[subjects.Conversation][]history.Record
	shown   map[client]map[subjects.Conversation]int // entries of the log that a client has seen
	refused wire.Code                                // what the next refused try is told
}

func (s *story) add(r history.Record) {
	s.now += time.Millisecond
	r.At = s.now
	s.records = append(s.records, r)
}

func (s *story) entry(c subjects.Conversation, r history.Record) wire.Seq {
	r.Kind, r.Conversation, r.Seq = history.Truth, c, wire.Seq(len(s.logs[c])+1)
	s.logs[c] = append(s.logs[c], r)
	return r.Seq
}

// try is one try of a send: stored says whether it reaches the store, answer what the client learns.
func (s *story) try(who client, c subjects.Conversation, n int, stored bool, answer history.Kind, duplicate bool) {
	id, body := fmt.Sprintf("%s-%d", who, n), fmt.Sprintf("%s/%d", who, n)
	r := history.Record{User: who.user, Device: who.device, Conversation: c, ClientID: id, Body: body}
	r.Kind = history.Invoke
	s.add(r)
	seq := wire.Seq(slices.IndexFunc(s.logs[c], func(e history.Record) bool { return e.ClientID == id }) + 1)
	if stored && seq == 0 {
		seq = s.entry(c, history.Record{From: who.user, Entry: wire.KindMessage, ClientID: id, Body: body})
	}
	r.Kind, r.Body, r.Duplicate = answer, "", duplicate
	switch answer {
	case history.OK:
		r.Seq = seq
	case history.Reject:
		r.Code = s.refused
	}
	s.add(r)
}

// show lets a client see what it has not seen yet, up to an entry.
func (s *story) show(who client, c subjects.Conversation, to wire.Seq) {
	for _, e := range s.logs[c][s.shown[who][c]:to] {
		e.Kind, e.User, e.Device, e.Change = history.Receive, who.user, who.device, "" // whom an entry is about stands in the truth
		s.add(e)
	}
	s.shown[who][c] = int(to)
}

func clean() []history.Record {
	s := &story{logs: map[subjects.Conversation][]history.Record{}, shown: map[client]map[subjects.Conversation]int{}}
	ada, bob, cyd := client{"ada", "web"}, client{"bob", "phone"}, client{"cyd", "web"}
	s.add(history.Record{Kind: history.Probe, Process: "confab", Bytes: 100 << 20})
	for i, who := range []client{ada, bob, cyd} {
		s.add(history.Record{Kind: history.Connect, User: who.user, Device: who.device})
		s.shown[who] = map[subjects.Conversation]int{group: i}
		s.entry(group, history.Record{From: "ada", Entry: wire.KindMember, User: who.user, Change: wire.ChangeAdded})
	}
	n := 0
	say := func(who client, c subjects.Conversation) { n++; s.try(who, c, n, true, history.OK, false) }
	for range 5 {
		say(ada, group)
		say(bob, group)
		say(ada, direct)
		say(cyd, group)
	}
	for _, who := range []client{ada, bob, cyd} {
		s.show(who, group, wire.Seq(len(s.logs[group])))
	}
	s.add(history.Record{Kind: history.Presence, User: "ada", Device: "web", From: "bob", State: wire.StateOnline})
	s.add(history.Record{Kind: history.Mark, User: "ada", Conversation: group, Seq: 17})
	s.add(history.Record{Kind: history.Mark, User: "ada", Conversation: group, Seq: 18})
	s.add(history.Record{Kind: history.Fault, Fault: "kill confab", Exposes: history.Reconnects})
	s.add(history.Record{Kind: history.Exit, Process: "confab", Asked: true})
	n++
	s.try(bob, group, n, true, history.Unknown, false) // stored, and the answer is lost
	s.try(ada, group, 1000, false, history.Reject, false)
	for range 2 { // the second is a try to connect that failed
		for _, who := range []client{ada, bob, cyd} {
			s.add(history.Record{Kind: history.Close, User: who.user, Device: who.device})
		}
	}
	s.add(history.Record{Kind: history.Heal, Fault: "kill confab"})
	for _, who := range []client{ada, bob, cyd} {
		s.add(history.Record{Kind: history.Connect, User: who.user, Device: who.device})
	}
	s.try(bob, group, n, true, history.OK, true)
	s.entry(group, history.Record{From: "ada", Entry: wire.KindMember, User: "cyd", Change: wire.ChangeRemoved})
	removed := wire.Seq(len(s.logs[group]))
	s.add(history.Record{Kind: history.Member, User: "cyd", Conversation: group, Change: wire.ChangeRemoved, Seq: removed})
	n++
	s.refused = wire.NotFound
	s.try(cyd, group, n, false, history.Reject, false)
	for range 3 {
		say(ada, group)
		say(bob, direct)
	}
	s.show(cyd, group, removed)
	for _, who := range []client{ada, bob} {
		s.show(who, group, wire.Seq(len(s.logs[group])))
		s.show(who, direct, wire.Seq(len(s.logs[direct])))
	}
	s.more()
	s.add(history.Record{Kind: history.Quiet})
	s.rest()
	s.add(history.Record{Kind: history.Probe, Process: "confab", Bytes: 110 << 20})
	s.tell(group, direct, market)
	return s.records
}

// tell adds the truth as all sources have it.
func (s *story) tell(conversations ...subjects.Conversation) {
	for _, c := range conversations {
		for _, source := range []history.Source{history.Forward, history.Backward, history.Fresh, history.Stream} {
			list := slices.Clone(s.logs[c])
			if source == history.Backward {
				slices.Reverse(list)
			}
			for _, r := range list {
				if source == history.Stream && r.Seq == recalled && c == market {
					continue // erased
				}
				r.Source = source
				if source != history.Stream && r.Seq == recalled && c == market {
					r.Body = ""
				}
				s.add(r)
			}
		}
	}
}

func TestACleanHistoryPasses(t *testing.T) {
	v := History(clean(), Bounds{})
	if v.Result != Pass {
		t.Fatalf("the verdict is %+v", v)
	}
	want := Figures{
		Sends: 34, Tries: 37, Acknowledged: 32, Rejected: 2, Unknown: 2, Duplicates: 2, UnknownStored: 2, Clients: 4, Reconnected: 4,
		Faults: map[string]int{"kill confab": 1, "full disk": 1}, Exposes: history.Reconnects, Connects: 6, Copied: 1, CopiesMost: 2, Marks: 4, Missed: 2,
		Membership: Membership{Changes: 3, Raced: 0, Refused: 1, Heard: 3},
		Revoked:    Times{1, time.Second, time.Second, time.Second},
		Returned:   Times{1, 3 * time.Millisecond, 3 * time.Millisecond, 3 * time.Millisecond},
		Ready:      Ready{Denied: Times{1, time.Second, time.Second, time.Second}, Regained: Times{1, time.Second, time.Second, time.Second}},
	}
	got := v.Figures
	if got.HealP99 <= 0 || got.LongestGap <= 0 || got.LatestShown <= 0 || got.Lasted <= 0 || got.Shown == 0 {
		t.Errorf("the times are %+v", got)
	}
	if a := got.Abuse; a.Limited.Count != 1 || a.Alone.Count == 0 || a.Beside.Count != 1 || a.Ratio() != 1 {
		t.Errorf("beside who misbehaves: %+v", a)
	}
	got.HealP99, got.LongestGap, got.LatestShown, got.Lasted, got.Shown, got.Abuse, got.Classes = 0, 0, 0, 0, 0, Abuse{}, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the figures are %+v, want %+v", got, want)
	}
}

// What a run must show follows from its faults: one that only kills what is not on the way of a send has no repeats to show.
func TestFaultsThatMissProveNothing(t *testing.T) {
	for _, c := range []struct {
		exposes history.Exposure
		kind    history.Kind // whose records are left out
		want    Result
	}{
		{history.Reconnects, history.Unknown, NotExposed},
		{history.Repeats, history.Unknown, NotExposed},
		{"", history.Unknown, Pass},
		{history.Reconnects, history.Close, NotExposed},
		{history.Repeats, history.Close, Pass},
	} {
		var records []history.Record
		for _, r := range clean() {
			if r.Kind == history.Fault {
				r.Exposes = c.exposes
			}
			if r.Kind != c.kind || r.User == "eve" { // whose end of a session is no fault
				records = append(records, r)
			}
		}
		if v := History(records, Bounds{}); v.Result != c.want {
			t.Errorf("a run that should show %q is, without %s, judged as %s: %v %v", c.exposes, c.kind, v.Result, v.Missing, v.Findings)
		}
	}
}

// Who is connected again after tries that failed is online, and is no sign of stale presence.
func TestTriesThatFailDoNotCountAsConnections(t *testing.T) {
	records := presence(wire.StateOnline, "bob", time.Minute)(clean())
	if v := History(records, Bounds{}); v.Result != Pass {
		t.Errorf("the verdict is %+v", v.Findings)
	}
}

func TestAHistoryIsTheSameAfterWritingAndReading(t *testing.T) {
	var file bytes.Buffer
	w := history.NewWriter(&file)
	want := clean()
	for _, r := range want {
		w.Add(r)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := history.Read(&file)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d records, want %d, %v", len(got), len(want), err)
	}
	for i := range got {
		got[i].At = want[i].At
		if got[i] != want[i] {
			t.Errorf("record %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if _, err := history.Read(bytes.NewReader([]byte("{\"at\":2,\"kind\":\"ok\"}\n{\"at\":1,\"kind\":\"ok\"}"))); err == nil {
		t.Error("records out of order are read")
	}
}

// edit changes every record of which it returns true for keep as edit does, and drops the others.
func edit(change func(r *history.Record) (keep bool)) func([]history.Record) []history.Record {
	return func(records []history.Record) []history.Record {
		var out []history.Record
		for _, r := range records {
			if change(&r) {
				out = append(out, r)
			}
		}
		return out
	}
}

// truth changes the truth of the group in all sources.
func truth(change func(r *history.Record) (keep bool)) func([]history.Record) []history.Record {
	return edit(func(r *history.Record) bool {
		return r.Kind != history.Truth || r.Conversation != group || change(r)
	})
}

// without takes the entry out of the truth of the group and closes the gap.
func without(seq wire.Seq) func([]history.Record) []history.Record {
	return truth(func(r *history.Record) bool {
		if r.Seq == seq {
			return false
		}
		if r.Seq > seq {
			r.Seq--
		}
		return true
	})
}

// swapped changes the places of two entries in the truth of the group.
func swapped(a, b wire.Seq) func([]history.Record) []history.Record {
	return func(records []history.Record) []history.Record {
		at := map[history.Source]map[wire.Seq]int{}
		out := slices.Clone(records)
		for i, r := range out {
			if r.Kind == history.Truth && r.Conversation == group {
				if at[r.Source] == nil {
					at[r.Source] = map[wire.Seq]int{}
				}
				at[r.Source][r.Seq] = i
			}
		}
		for _, places := range at {
			i, j := places[a], places[b]
			out[i], out[j] = out[j], out[i]
			out[i].Seq, out[j].Seq = out[j].Seq, out[i].Seq
		}
		return out
	}
}

// reordered has the store, its acknowledgements and every view agree that two entries of the group stand in each other's place.
func reordered(a, b wire.Seq) func([]history.Record) []history.Record {
	return func(records []history.Record) []history.Record {
		return edit(func(r *history.Record) bool {
			if r.Kind == history.OK && r.Conversation == group {
				switch r.Seq {
				case a:
					r.Seq = b
				case b:
					r.Seq = a
				}
			}
			return r.Kind != history.Receive
		})(swapped(a, b)(records))
	}
}

// presence adds what ada is shown of a user, later than all else by a time.
func presence(state wire.State, of subjects.User, later time.Duration) func([]history.Record) []history.Record {
	return func(records []history.Record) []history.Record {
		at := records[len(records)-1].At + later
		return append(slices.Clone(records), history.Record{At: at, Kind: history.Presence, User: "ada", Device: "web", From: of, State: state})
	}
}

// once changes the first record that is of a kind and a conversation.
func once(kind history.Kind, c subjects.Conversation, change func(r *history.Record)) func([]history.Record) []history.Record {
	done := false
	return edit(func(r *history.Record) bool {
		if !done && r.Kind == kind && r.Conversation == c {
			done = true
			change(r)
		}
		return true
	})
}

// The first and the newest message in the group.
const first, last = 4, 22

// doctored is every defect that there is, with what makes it of a clean history. It is long because the list is.
func doctored() []doctor {
	return []doctor{
		{"the run never came to rest", NotQuiet, edit(func(r *history.Record) bool { return r.Kind != history.Quiet })},
		{"paging back skips an entry", TruthDiffers, truth(func(r *history.Record) bool { return r.Source != history.Backward || r.Seq != 7 })},
		{"a fresh device reads another body", TruthDiffers, truth(func(r *history.Record) bool {
			if r.Source == history.Fresh && r.Seq == 7 {
				r.Body = "other"
			}
			return true
		})},
		{"a seq is missing everywhere", TruthGap, truth(func(r *history.Record) bool { return r.Seq != 7 })},
		{"the first message is gone", LostFirst, without(first)},
		{"one in the middle is gone", Lost, without(10)},
		{"the newest is gone", LostLast, func(records []history.Record) []history.Record {
			head := wire.Seq(0)
			for _, r := range records {
				if r.Kind == history.Truth && r.Conversation == group {
					head = max(head, r.Seq)
				}
			}
			return without(head)(records)
		}},
		{"two have changed places", Moved, swapped(8, 9)},
		{"a body was altered in the store", Altered, truth(func(r *history.Record) bool {
			if r.Seq == 8 {
				r.Body = "altered"
			}
			return true
		})},
		{"a client id is there twice", Twice, truth(func(r *history.Record) bool {
			if r.Seq == 11 {
				r.From, r.ClientID, r.Body = "ada", "ada/web-1", "ada/web/1"
			}
			return true
		})},
		{"a repeat is told another seq", Disagreed, func(records []history.Record) []history.Record {
			i := slices.IndexFunc(records, func(r history.Record) bool { return r.Kind == history.OK && r.Duplicate })
			other := records[i]
			other.Seq--
			return slices.Insert(slices.Clone(records), i+1, other)
		}},
		{"a message that nobody sent", Phantom, truth(func(r *history.Record) bool {
			if r.Seq == 11 {
				r.ClientID = "nobody's"
			}
			return true
		})},
		{"a refused send is there", RejectedStored, edit(func(r *history.Record) bool {
			if r.Kind == history.Unknown {
				r.Kind = history.Reject
			}
			return !(r.Kind == history.OK && r.Duplicate)
		})},
		{"what began later stands before", RealTimeOrder, reordered(20, 4)},
		{"a device's own sends change places", DeviceOrder, reordered(7, 4)},
		{"a view jumps", ViewHole, edit(func(r *history.Record) bool {
			return r.Kind != history.Receive || r.Conversation != direct || r.Seq != 3
		})},
		{"a view repeats", ViewRepeat, func(records []history.Record) []history.Record {
			i := slices.IndexFunc(records, func(r history.Record) bool { return r.Kind == history.Receive && r.Seq == 6 })
			return slices.Insert(slices.Clone(records), i+1, records[i])
		}},
		{"a view shows another body", ViewAltered, once(history.Receive, direct, func(r *history.Record) { r.Body = "altered" })},
		{"a view gets an entry when all have forgotten it", ViewLate, func(records []history.Record) []history.Record {
			i := slices.IndexFunc(records, func(r history.Record) bool { return r.Kind == history.Quiet })
			for k := range records {
				if k >= i {
					records[k].At += time.Minute
				}
			}
			j := slices.IndexFunc(records, func(r history.Record) bool { return r.Kind == history.Receive && r.User == "bob" && r.Seq == last })
			r := records[j]
			r.At = records[i].At
			return slices.Insert(slices.Delete(records, j, j+1), i-1, r)
		}},
		{"a view stops before the head", ViewBehind, edit(func(r *history.Record) bool {
			return r.Kind != history.Receive || r.User != "bob" || r.Conversation != direct || r.Seq < 7
		})},
		{"who was removed still sees", Leak, func(records []history.Record) []history.Record {
			i := slices.IndexFunc(records, func(r history.Record) bool { return r.Kind == history.Quiet })
			var seen []history.Record
			for _, r := range records {
				if r.Kind == history.Receive && r.Conversation == group && r.User == "bob" && r.Seq > last-1 {
					r.User, r.Device, r.At = "cyd", "web", records[i].At
					seen = append(seen, r)
				}
			}
			return slices.Insert(slices.Clone(records), i, seen...)
		}},
		{"a send is taken from who was removed", AcceptedRemoved, edit(func(r *history.Record) bool {
			if r.Kind == history.Reject && r.User == "cyd" {
				r.Kind, r.Seq = history.OK, 21
			}
			if r.Kind == history.Truth && r.Conversation == group && r.Seq == 21 {
				r.From, r.ClientID, r.Body = "cyd", "cyd/web-22", "cyd/web/22"
			}
			return true
		})},
		{"who is connected is shown as offline", PresenceFlapped, presence(wire.StateOffline, "bob", time.Minute)},
		{"who is long gone is shown as online", PresenceStale, presence(wire.StateOnline, "dan", time.Minute)},
		{"the read mark goes back", MarkWentBack, once(history.Mark, group, func(r *history.Record) { r.Seq = 50 })},
		{"a process keeps its memory", MemoryNotReturns, edit(func(r *history.Record) bool {
			if r.Kind == history.Probe && r.Bytes > 105<<20 {
				r.Bytes *= 12
			}
			return true
		})},
	}
}

type doctor struct {
	name   string
	want   Defect
	doctor func([]history.Record) []history.Record
}

func TestEveryDefectIsNamed(t *testing.T) {
	tried := map[Defect]bool{}
	for _, c := range append(doctored(), doctoredMore()...) {
		tried[c.want] = true
		t.Run(c.name, func(t *testing.T) {
			v := History(c.doctor(clean()), Bounds{})
			if v.Result != Fail || !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Defect == c.want }) {
				t.Errorf("the verdict is %s: %+v", v.Result, v.Findings)
			}
		})
	}
	for _, d := range defects {
		if !tried[d] {
			t.Errorf("nothing shows that %s is found", d)
		}
	}
}
