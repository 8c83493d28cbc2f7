package functions

import (
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func FuzzParseRegistered(f *testing.F) {
	for _, seed := range []string{
		`{"function":"poll","kind":"call","concurrency":16,"methods":[{"name":"vote","public":true,"timeout_ms":5000}],"scale":{"min":0,"max":4,"wake":1},"hold_ms":5000,"events":["message"],"jobs":true}`,
		`{"function":"poll","methods":[{"name":"*"}]}`, `{"function":">","methods":[{"name":"a"}]}`, `null`, `[]`, `{`, ``,
		`{"function":"poll","methods":[{"name":"a","timeout_ms":-1}],"hold_ms":1e99}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRegistered("poll", data)
		if err != nil {
			if r.Function != "" || r.Methods != nil {
				t.Errorf("%q is refused and read as %+v", data, r)
			}
			return
		}
		if r.Function != "poll" || r.HoldMS < 0 {
			t.Errorf("%q is read as %+v", data, r)
		}
		for _, m := range methodsOf("poll", r.Methods) {
			if _, _, err := subjects.ParseCall("poll." + string(m.Name)); err != nil || m.timeout <= 0 || m.timeout > maxRegisteredTime {
				t.Errorf("%q has the method %+v", data, m)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRegistered("poll", again); err != nil {
			t.Errorf("%q is read, and what is written of it is not: %v", data, err)
		}
	})
}

// A replica may be behind, and a store may be made anew with lower sequences: what was just heard counts for more than what is read, but not for ever.
func TestWhatWasJustHeardCountsForMoreThanAnOlderRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &table{
			log: slog.New(slog.DiscardHandler), gates: newGates(nil, nil, nil, Limits{}),
			methods: map[subjects.Function]map[subjects.Method]knownMethod{}, registered: map[subjects.Function]*registered{},
		}
		table.current.Store(&snapshot{changed: make(chan struct{})})
		say := func(whole bool, sequence uint64, public bool, gone bool) {
			data, _ := json.Marshal(wire.Registered{Function: "echo", Methods: []wire.InstanceMethod{{Name: "say", Public: public}}})
			table.learn(finding{[]record{{"echo", sequence, data, gone}}, whole})
		}
		is := func(public bool) {
			t.Helper()
			if got := len(table.now().public) > 0; got != public {
				t.Errorf("public is %t", got)
			}
		}
		const read, heard = true, false
		say(read, 10, true, false)
		is(true)
		say(heard, 12, false, false)
		is(false)
		say(read, 10, true, false)
		is(false)
		table.learn(finding{whole: true}) // a replica that has not even the first one
		if table.registered["echo"] == nil {
			t.Error("it is forgotten")
		}
		say(heard, 13, true, true)
		say(read, 12, true, false)
		is(false)
		say(heard, 14, true, false)
		is(true)
		time.Sleep(changeStands)
		say(read, 3, false, false) // the store was made anew
		is(false)
		say(read, 3, true, false) // nothing else has the same sequence
		is(false)
		say(read, 4, true, false)
		is(true)
		table.learn(finding{whole: true})
		is(false)
	})
}
