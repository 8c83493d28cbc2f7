package check

import (
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// market is where members come and go, messages are recalled and somebody returns.
const market subjects.Conversation = "g.market"

// What stands in the market.
const (
	recalled = 4 // ada's first message, which entry 5 recalls
	copied   = 6 // bob's, from two devices at once
	removal  = 7 // of cyd
	readded  = 9
)

// say is an acknowledged message, or one whose answer is lost with the code.
func (s *story) say(who client, id string, lost wire.Code) {
	r := history.Record{Kind: history.Invoke, User: who.user, Device: who.device, Conversation: market, ClientID: id, Body: string(market) + " " + id}
	s.add(r)
	seq := wire.Seq(slices.IndexFunc(s.logs[market], func(e history.Record) bool { return e.ClientID == id }) + 1)
	again := seq > 0
	if !again {
		seq = s.entry(market, history.Record{From: who.user, Entry: wire.KindMessage, ClientID: id, Body: r.Body})
	}
	r.Kind, r.Body = history.OK, ""
	if r.Seq, r.Duplicate = seq, again; lost != "" {
		r.Kind, r.Code, r.Seq, r.Duplicate = history.Unknown, lost, 0, false
	}
	s.add(r)
}

func (s *story) change(change wire.MemberChange) {
	s.add(history.Record{Kind: history.Asked, User: "cyd", Conversation: market, Change: change})
	seq := s.entry(market, history.Record{From: "ada", Entry: wire.KindMember, User: "cyd", Change: change})
	s.add(history.Record{Kind: history.Member, User: "cyd", Conversation: market, Change: change, Seq: seq})
}

// mark is a question for the read mark and its answer.
func (s *story) mark(who client, seq wire.Seq) {
	s.add(history.Record{Kind: history.Asked, User: who.user, Device: who.device, Conversation: market})
	s.add(history.Record{Kind: history.Mark, User: who.user, Device: who.device, Conversation: market, Seq: seq})
}

// more goes on with what people do beside sending and reading, and what happens to the store.
func (s *story) more() {
	ada, desk, bob, twin, eve := client{"ada", "web"}, client{"ada", "desk"}, client{"bob", "phone"}, client{"bob", "desk"}, client{"eve", "web"}
	for _, u := range []subjects.User{"ada", "bob"} {
		s.add(history.Record{Kind: history.Founder, User: u, Conversation: market})
	}
	for _, u := range []subjects.User{"ada", "bob", "cyd"} {
		s.entry(market, history.Record{From: "ada", Entry: wire.KindMember, User: u, Change: wire.ChangeAdded})
	}
	for _, who := range []client{ada, bob} {
		s.shown[who][market] = 0
	}
	s.say(ada, "regretted", "")
	s.show(bob, market, recalled)
	s.entry(market, history.Record{From: "ada", Entry: wire.KindRecall, ClientID: "recall", Target: recalled})
	invoke := history.Record{Kind: history.Invoke, User: "bob", Device: bob.device, Conversation: market, ClientID: "copy", Body: "g.market copy"}
	s.add(invoke)
	s.say(twin, "copy", "") // all of it while the other try is under way
	answer := history.Record{Kind: history.OK, User: "bob", Device: bob.device, Conversation: market, ClientID: "copy", Seq: copied, Duplicate: true}
	s.add(answer)
	s.add(history.Record{Kind: history.Heard, User: "cyd", Device: "web", Conversation: market, Event: "page", Seq: copied, Body: "g.market copy"})
	s.change(wire.ChangeRemoved)
	s.now += time.Second
	s.add(history.Record{Kind: history.Heard, User: "cyd", Device: "web", Conversation: market, Event: "signal"}) // it was on its way
	s.now += 3 * time.Second
	s.add(history.Record{Kind: history.Abuse, User: "fay", Device: "web", Fault: "flood"})
	s.say(ada, "beside", "")
	s.add(history.Record{Kind: history.Limited, User: "fay", Device: "web", Code: wire.RateLimited})
	s.change(wire.ChangeAdded)
	s.add(history.Record{Kind: history.Heard, User: "cyd", Device: "web", Conversation: market, Event: "signal"})
	s.mark(ada, 8)
	s.mark(desk, 9)
	for _, who := range []client{bob, ada} {
		s.show(who, market, readded)
	}

	s.add(history.Record{Kind: history.Connect, User: "eve", Device: eve.device, Session: "s1"})
	s.now += time.Minute
	s.add(history.Record{Kind: history.Revoke, User: "eve", Device: eve.device, Session: "s1"})
	s.now += time.Second - time.Millisecond
	s.add(history.Record{Kind: history.Close, User: "eve", Device: eve.device})
	s.add(history.Record{Kind: history.Connect, User: "eve", Device: eve.device, Session: "s2"})

	s.add(history.Record{Kind: history.Ready, Process: "confab"})
	s.now += time.Minute
	s.add(history.Record{Kind: history.Fault, Fault: "full disk", Process: "confab"})
	s.now += time.Second - time.Millisecond
	s.add(history.Record{Kind: history.Ready, Process: "confab", Body: "the disk is full"})
	s.now += 6 * time.Second
	s.say(ada, "late", wire.StorageUnavailable)
	s.add(history.Record{Kind: history.Heal, Fault: "full disk", Process: "confab"})
	s.now += time.Second - time.Millisecond
	s.add(history.Record{Kind: history.Ready, Process: "confab"})
	s.say(ada, "late", "")

	s.say(ada, "later", "")
	s.add(history.Record{Kind: history.Return, User: "bob", Device: bob.device, Conversation: market, Seq: wire.Seq(len(s.logs[market]))})
	s.now += time.Millisecond
	for _, who := range []client{bob, ada} {
		s.show(who, market, wire.Seq(len(s.logs[market])))
	}
}

// rest is what is read when nothing moves any more.
func (s *story) rest() {
	s.add(history.Record{Kind: history.Unread, User: "bob", Device: "phone", Conversation: market, Seq: copied, Count: 3})
}

// at returns the place of the first record that is so.
func at(records []history.Record, is func(r history.Record) bool) int {
	return slices.IndexFunc(records, is)
}

// added puts a record behind the first that is so, some time later.
func added(is func(r history.Record) bool, later time.Duration, r history.Record) func([]history.Record) []history.Record {
	return func(records []history.Record) []history.Record {
		i := at(records, is)
		r.At = records[i].At + later
		for i++; i < len(records) && records[i].At < r.At; i++ {
		}
		return slices.Insert(slices.Clone(records), i, r)
	}
}

// dropped leaves out the records that are so.
func dropped(is func(r history.Record) bool) func([]history.Record) []history.Record {
	return edit(func(r *history.Record) bool { return !is(*r) })
}

func removing(r history.Record) bool {
	return r.Kind == history.Member && r.Change == wire.ChangeRemoved && r.Conversation == market
}

// gone is a user who leaves and whom nobody shows as gone.
func gone(records []history.Record) []history.Record {
	end := records[len(records)-1].At
	return append(slices.Clone(records),
		history.Record{At: end + 20*time.Second, Kind: history.Presence, User: "ada", Device: "web", From: "eve", State: wire.StateOnline},
		history.Record{At: end + 21*time.Second, Kind: history.Close, User: "eve", Device: "web"},
		history.Record{At: end + 60*time.Second, Kind: history.Probe, Process: "confab", Bytes: 110 << 20})
}

// doctoredMore is what people do beside sending and reading, each way of it wrong.
func doctoredMore() []doctor {
	cyd := history.Record{Kind: history.Heard, User: "cyd", Device: "web", Conversation: market}
	later, foreign, outsider := cyd, cyd, cyd
	cyd.Event, later.Event, later.Seq, foreign.Event, foreign.Seq, foreign.Body = "signal", "page", removal+1, "page", copied, "g.lab ada/web/1"
	outsider.User, outsider.Event = "zed", "receipt"
	connect := history.Record{Kind: history.Connect, User: "eve", Device: "web", Session: "s1"}
	closing := func(r history.Record) bool { return r.Kind == history.Close && r.User == "eve" }
	marked := func(device subjects.Device) func(history.Record) bool {
		return func(r history.Record) bool {
			return r.Kind == history.Mark && r.Device == device && r.Conversation == market
		}
	}
	marking := func(device subjects.Device, seq wire.Seq) func([]history.Record) []history.Record {
		return edit(func(r *history.Record) bool {
			if marked(device)(*r) {
				r.Seq = seq
			}
			return true
		})
	}
	return []doctor{
		{"a signal reaches who was removed long before", Leak, added(removing, 2500*time.Millisecond, cyd)},
		{"a page tells who was removed of a later entry", Leak, added(removing, time.Millisecond, later)},
		{"words of another conversation are told", Leak, added(removing, 0, foreign)},
		{"a receipt reaches who never was a member", Leak, added(removing, 0, outsider)},
		{"a removed user's repeat is stored after the removal", AcceptedRemoved, edit(func(r *history.Record) bool {
			if r.Kind == history.Truth && r.Conversation == market && r.Seq == removal+1 {
				r.From = "cyd"
			}
			return true
		})},
		{"a recalled message is still read", RecalledShown, edit(func(r *history.Record) bool {
			if r.Source == history.Fresh && r.Conversation == market && r.Seq == recalled {
				r.Body = "g.market regretted"
			}
			return true
		})},
		{"a session goes on after its end", RevokedOpen, dropped(closing)},
		{"a session comes back after its end", RevokedOpen, added(closing, 30*time.Second, connect)},
		{"the mark of one device is behind that of another", MarkWentBack, marking("desk", 7)},
		{"the mark is before the author's own post", MarkWentBack, marking("web", 7)},
		{"own posts are after the mark at rest", MarkWentBack, edit(func(r *history.Record) bool {
			if r.Kind == history.Unread {
				r.Seq = copied - 1
			}
			return true
		})},
		{"what is unread is counted wrong", UnreadWrong, edit(func(r *history.Record) bool {
			if r.Kind == history.Unread {
				r.Count++
			}
			return true
		})},
		{"who returns does not come to the head", ReturnLate, dropped(func(r history.Record) bool {
			return r.Kind == history.Receive && r.Conversation == market && r.User == "bob" && r.Seq > readded
		})},
		{"who floods is let", NotLimited, dropped(func(r history.Record) bool { return r.Kind == history.Limited })},
		{"a process is ready without a store", ReadyLied, dropped(func(r history.Record) bool { return r.Kind == history.Ready && r.Body != "" })},
		{"the store is full and nobody says so", BareTimeout, edit(func(r *history.Record) bool {
			if r.Code == wire.StorageUnavailable {
				r.Code = wire.Timeout
			}
			return true
		})},
		{"who leaves is never shown as gone", PresenceStale, gone},
	}
}
