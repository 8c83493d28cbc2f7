package check

import (
	"testing"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// lostIn is a history in which a restore takes away the newest of six acknowledged messages, after a backup that began when so many had been sent.
func lostIn(backup int) []history.Record {
	s := &story{logs: map[subjects.Conversation][]history.Record{}, shown: map[client]map[subjects.Conversation]int{}}
	ada, bob := client{"ada", "web"}, client{"bob", "phone"}
	for _, who := range []client{ada, bob} {
		s.add(history.Record{Kind: history.Connect, User: who.user, Device: who.device})
		s.shown[who] = map[subjects.Conversation]int{}
	}
	for n := range 6 {
		if n == backup {
			s.add(history.Record{Kind: history.Backup})
		}
		s.try(ada, direct, n, true, history.OK, false)
		s.show(bob, direct, wire.Seq(n+1))
	}
	if backup == 6 {
		s.add(history.Record{Kind: history.Backup})
	}
	s.add(history.Record{Kind: history.Restored})
	s.logs[direct] = s.logs[direct][:5]
	s.shown[bob][direct] = 0
	s.add(history.Record{Kind: history.Restart, User: "bob", Device: "phone", Conversation: direct})
	s.show(bob, direct, 5)
	s.add(history.Record{Kind: history.Quiet})
	for _, source := range []history.Source{history.Forward, history.Backward, history.Fresh, history.Stream} {
		for i, r := range s.logs[direct] {
			if source == history.Backward {
				r = s.logs[direct][len(s.logs[direct])-1-i]
			}
			r.Source = source
			s.add(r)
		}
	}
	return s.records
}

func TestARestoreBoundsWhatMustBeThere(t *testing.T) {
	for backup, want := range map[int]Result{3: Pass, 5: Pass, 6: Fail} {
		if v := History(lostIn(backup), Bounds{AllowCalm: true}); v.Result != want {
			t.Errorf("a backup after %d messages: %s, %+v", backup, v.Result, v.Findings)
		}
	}
}
