package check

import (
	"slices"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// What happens after a fault is its doing, until the next; a message that waits for an acknowledgement makes the time count, however many of its tries have ended.
func TestFiguresAreByFault(t *testing.T) {
	s := &story{logs: map[subjects.Conversation][]history.Record{}, shown: map[client]map[subjects.Conversation]int{}}
	ada, bob := client{"ada", "web"}, client{"bob", "phone"}
	for i, who := range []client{ada, bob, ada, bob} {
		s.try(who, direct, i, true, history.OK, false)
	}
	fault := func(kind history.Kind, name string) { s.add(history.Record{Kind: kind, Fault: name}) }
	fault(history.Fault, "kill")
	s.try(ada, direct, 10, true, history.Unknown, false)
	s.now += time.Second
	s.try(ada, direct, 10, true, history.Unknown, false)
	fault(history.Heal, "kill")
	s.now += time.Second
	s.try(ada, direct, 10, true, history.OK, true)
	s.now += time.Second
	s.try(bob, direct, 11, true, history.OK, false)
	fault(history.Fault, "cut")
	s.try(bob, direct, 12, true, history.OK, false)
	s.add(history.Record{Kind: history.Quiet})
	for _, source := range []history.Source{history.Stream, history.Forward, history.Fresh, history.Backward} {
		list := slices.Clone(s.logs[direct])
		list = slices.DeleteFunc(list, func(r history.Record) bool { return r.Seq == 6 }) // acknowledged after the kill, and gone
		if source == history.Backward {
			slices.Reverse(list)
		}
		for _, r := range list {
			if r.Seq > 6 {
				r.Seq--
			}
			r.Kind, r.Conversation, r.Source, r.Entry = history.Truth, direct, source, wire.KindMessage
			s.add(r)
		}
	}
	v := History(s.records, Bounds{})
	var none, cut, kill Class
	for _, c := range v.Figures.Classes {
		*map[string]*Class{"": &none, "cut": &cut, "kill": &kill}[c.Fault] = c
	}
	if none.Acknowledged != 4 || cut.Acknowledged != 1 || cut.Injected != 1 || cut.First.Count != 1 {
		t.Errorf("the figures are %+v and %+v", none, cut)
	}
	if kill.Injected != 1 || kill.Acknowledged != 2 || kill.Unknown != 2 || kill.Duplicates != 1 || kill.Lost != 1 {
		t.Errorf("the figures are %+v", kill)
	}
	near := func(d, want time.Duration) bool { return d >= want && d < want+100*time.Millisecond }
	if !near(kill.First.P50, 2*time.Second) || !near(kill.Heal.P50, time.Second) || !near(kill.Whole.P99, 2*time.Second) || !near(kill.LongestGap, 2*time.Second) {
		t.Errorf("the times are %+v", kill)
	}
	if v.Figures.LongestGap != kill.LongestGap {
		t.Errorf("the longest gap of all is %v", v.Figures.LongestGap)
	}
}
