package check

import (
	"cmp"
	"fmt"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects/wire"
)

// Figures is how much a run did and saw.
type Figures struct {
	Sends         int            `json:"sends"`          // messages, however often tried
	Tries         int            `json:"tries"`          // of all of them
	Acknowledged  int            `json:"acknowledged"`   // messages
	Rejected      int            `json:"rejected"`       // tries
	Unknown       int            `json:"unknown"`        // tries
	Duplicates    int            `json:"duplicates"`     // acknowledgements of a try before whose answer never came
	UnknownStored int            `json:"unknown_stored"` // messages with an unknown try that are there
	Shown         int            `json:"shown"`          // entries, over all clients
	Clients       int            `json:"clients"`
	Reconnected   int            `json:"reconnected"`  // clients that connected more than once
	Faults        map[string]int `json:"faults"`       // how often each was injected
	LongestGap    time.Duration  `json:"longest_gap"`  // without any acknowledgement while a message waited for one
	HealP99       time.Duration  `json:"heal_p99"`     // from the end of a fault to the next acknowledgement
	LatestShown   time.Duration  `json:"latest_shown"` // the longest that a connected client waited for an entry that others had, with nothing broken
	Lasted        time.Duration  `json:"lasted"`

	Exits      int              `json:"exits,omitempty"`       // of processes that nobody had made to end
	Connects   int              `json:"connects,omitempty"`    // the most within one second
	Classes    []Class          `json:"classes,omitempty"`     // the same by fault
	Exposes    history.Exposure `json:"exposes,omitempty"`     // the most that one of the faults was meant to hit
	Copied     int              `json:"copied,omitempty"`      // messages that several devices of a user tried at once
	CopiesMost int              `json:"copies_most,omitempty"` // tries of one message under way at once
	Membership Membership       `json:"membership,omitzero"`
	Revoked    Times            `json:"revoked,omitzero"`  // from the acknowledged end of a session to the end of its last connection
	Marks      int              `json:"marks,omitempty"`   // that were read
	Returned   Times            `json:"returned,omitzero"` // from the first try to connect to the head, of clients that were away
	Missed     int              `json:"missed,omitempty"`  // entries, the most that a client was away for
	Abuse      Abuse            `json:"abuse,omitzero"`
	Ready      Ready            `json:"ready,omitzero"`
	Offline    Times            `json:"offline,omitzero"` // from the end of the last connection of a user to others who see it
	Online     Times            `json:"online,omitzero"`  // from the first connection
}

func (j *judge) figures() Figures {
	f := Figures{Faults: map[string]int{}, Clients: len(j.clients), LatestShown: j.latest, Membership: j.memberships(), Revoked: timesOf(j.revoked), Marks: j.marked, Returned: timesOf(j.caughtUp),
		Missed: j.missed, Abuse: Abuse{timesOf(j.limited), timesOf(j.alone), timesOf(j.beside)}, Ready: Ready{timesOf(j.denied), timesOf(j.regained)},
		Offline: timesOf(j.offline), Online: timesOf(j.online)}
	f.Copied, f.CopiesMost = j.copies()
	for _, a := range j.attempts {
		if a.duplicate && a.again {
			f.Duplicates++
		}
	}
	for _, c := range j.conversations {
		stored := map[sendID]bool{}
		for _, r := range c.log {
			if r.Entry == wire.KindMessage {
				stored[sendID{r.From, r.ClientID}] = true
			}
		}
		for _, s := range c.sends {
			f.Sends++
			f.Rejected += s.rejects
			f.Unknown += s.unknown
			if len(s.acks) > 0 {
				f.Acknowledged++
			}
			if s.unknown > 0 && stored[s.sendID] {
				f.UnknownStored++
			}
		}
	}
	for _, l := range j.clients {
		if len(l.spans) > 1 {
			f.Reconnected++
		}
	}
	j.times(&f)
	return f
}

// times goes through the records once for what has to do with the clock.
func (j *judge) times(f *Figures) {
	var healing, heals, connects []time.Duration
	for _, r := range j.records {
		f.Lasted = r.At
		switch r.Kind {
		case history.Invoke:
			f.Tries++
		case history.OK:
			for _, at := range healing {
				heals = append(heals, r.At-at)
			}
			healing = nil
		case history.Receive:
			f.Shown++
		case history.Fault:
			f.Faults[r.Fault]++
			if f.Exposes != history.Reconnects { // which includes all others
				f.Exposes = cmp.Or(r.Exposes, f.Exposes)
			}
		case history.Heal:
			healing = append(healing, r.At)
		case history.Exit:
			if !r.Asked {
				f.Exits++
			}
		case history.Connect:
			connects = append(connects, r.At)
			for connects[0] <= r.At-time.Second {
				connects = connects[1:]
			}
			f.Connects = max(f.Connects, len(connects))
		}
	}
	f.HealP99 = timesOf(heals).P99
	f.Classes, f.LongestGap = j.classes()
}

// missing says, for what its faults were meant to hit, what a run lacks so that it could have shown a defect. A run without it proves nothing.
func (f Figures) missing() []string {
	var list []string
	for _, c := range []struct {
		lacks bool
		text  string
	}{
		{len(f.Faults) == 0, "no fault was injected"},
		{f.Acknowledged == 0, "no send was acknowledged"},
		{f.Exposes != "" && f.Duplicates == 0, "no acknowledgement was of a try before: no fault came between a store and its answer"},
		{f.Exposes != "" && f.UnknownStored == 0, "no send of unknown outcome was found stored"},
		{f.Exposes == history.Reconnects && f.Reconnected < f.Clients, fmt.Sprintf("%d of %d clients never had to reconnect", f.Clients-f.Reconnected, f.Clients)},
	} {
		if c.lacks {
			list = append(list, c.text)
		}
	}
	return list
}

// Injected returns how many faults were injected.
func (f Figures) Injected() int {
	sum := 0
	for _, n := range f.Faults {
		sum += n
	}
	return sum
}
