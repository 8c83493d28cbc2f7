package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// Class is how much one kind of fault did. What happens from one fault to the next counts as its doing.
type Class struct {
	Fault        string        `json:"fault"` // "" = before the first one, or at a time that is not known
	Injected     int           `json:"injected"`
	Acknowledged int           `json:"acknowledged"` // messages, for the first time
	Unknown      int           `json:"unknown"`      // tries
	Duplicates   int           `json:"duplicates"`   // acknowledgements of a try before
	Lost         int           `json:"lost"`
	Twice        int           `json:"twice"`
	Phantoms     int           `json:"phantoms"` // and what was stored though it was refused
	Order        int           `json:"order"`
	Holes        int           `json:"holes"` // left, or healed too late
	Leaks        int           `json:"leaks"` // of what is read or sent by who is no member
	Others       int           `json:"others"`
	LongestGap   time.Duration `json:"longest_gap"`    // without any acknowledgement while a message waited for one
	First        Times         `json:"first,omitzero"` // from a fault to the next acknowledgement of a try that began after it
	Heal         Times         `json:"heal,omitzero"`  // from the end of a fault to the next acknowledgement
	Whole        Times         `json:"whole,omitzero"` // from the end of a fault until every client had an acknowledgement
}

// count returns the figure in which a defect is counted.
func (c *Class) count(d Defect) *int {
	switch d {
	case Lost, LostFirst, LostLast:
		return &c.Lost
	case Twice, Disagreed:
		return &c.Twice
	case Phantom, RejectedStored:
		return &c.Phantoms
	case RealTimeOrder, DeviceOrder, Moved:
		return &c.Order
	case ViewHole, ViewRepeat, ViewBehind, ViewLate:
		return &c.Holes
	case Leak, AcceptedRemoved:
		return &c.Leaks
	}
	return &c.Others
}

// classes is the figures by fault, while the records are gone through.
type classes struct {
	all   map[string]*class
	now   *class
	since time.Duration // the newest acknowledgement, or the begin of the first message that waits for one
	open  map[sendID]bool
	began map[sendID]time.Duration // the newest try
	done  map[sendID]bool          // acknowledged
	talk  map[client]bool
	waits []*wait
}

type class struct {
	Class
	first, heal, whole []time.Duration
}

// wait is the time since a fault or its end until something works again.
type wait struct {
	of      *class
	begun   time.Duration
	healing bool            // from its end
	any     bool            // somebody was served
	missing map[client]bool // who was not yet
}

// classes returns the figures by fault, in alphabetical order, and the longest time without an acknowledgement.
func (j *judge) classes() (list []Class, longest time.Duration) {
	c := &classes{all: map[string]*class{}, open: map[sendID]bool{}, began: map[sendID]time.Duration{}, done: map[sendID]bool{}, talk: map[client]bool{}}
	c.now = c.of("")
	var windows []history.Record
	for _, r := range j.records {
		if r.Kind == history.Fault {
			windows = append(windows, r)
		}
		c.read(r)
	}
	for _, f := range j.findings {
		name := ""
		if after := slices.IndexFunc(windows, func(r history.Record) bool { return r.At > f.At }); f.At > 0 && after != 0 && len(windows) > 0 {
			if after < 0 {
				after = len(windows)
			}
			name = windows[after-1].Fault
		}
		*c.of(name).count(f.Defect)++
	}
	for _, one := range c.all {
		one.First, one.Heal, one.Whole = timesOf(one.first), timesOf(one.heal), timesOf(one.whole)
		longest = max(longest, one.LongestGap)
		list = append(list, one.Class)
	}
	slices.SortFunc(list, func(a, b Class) int { return cmp.Compare(a.Fault, b.Fault) })
	return list, longest
}

func (c *classes) of(name string) *class {
	if c.all[name] == nil {
		c.all[name] = &class{Class: Class{Fault: name}}
	}
	return c.all[name]
}

func (c *classes) read(r history.Record) {
	id, who := sendID{r.User, r.ClientID}, client{r.User, r.Device}
	switch r.Kind {
	case history.Fault:
		c.now = c.of(r.Fault)
		c.now.Injected++
		c.waits = append(c.waits, &wait{of: c.now, begun: r.At})
	case history.Heal:
		w := &wait{of: c.of(r.Fault), begun: r.At, healing: true, missing: map[client]bool{}}
		for who := range c.talk {
			w.missing[who] = true
		}
		c.waits = append(c.waits, w)
	case history.Invoke:
		if len(c.open) == 0 {
			c.since = r.At
		}
		c.open[id], c.began[id], c.talk[who] = true, r.At, true
	case history.Unknown:
		c.now.Unknown++ // and it waits on
	case history.Reject:
		delete(c.open, id)
	case history.OK:
		c.acknowledged(r, id, who)
	}
}

func (c *classes) acknowledged(r history.Record, id sendID, who client) {
	if !c.done[id] {
		c.now.Acknowledged++
	}
	if r.Duplicate {
		c.now.Duplicates++
	}
	c.done[id] = true
	delete(c.open, id)
	c.now.LongestGap = max(c.now.LongestGap, r.At-c.since)
	c.since = r.At
	c.waits = slices.DeleteFunc(c.waits, func(w *wait) bool {
		took := r.At - w.begun
		if !w.healing {
			if c.began[id] < w.begun {
				return false
			}
			w.of.first = append(w.of.first, took)
			return true
		}
		if !w.any {
			w.of.heal, w.any = append(w.of.heal, took), true
		}
		delete(w.missing, who)
		if len(w.missing) == 0 {
			w.of.whole = append(w.of.whole, took)
		}
		return len(w.missing) == 0
	})
}
