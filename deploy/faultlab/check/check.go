// Package check judges the history of a fault run: whether what was promised held, and whether the faults could have shown it if it had not.
//
// It reads the history alone and knows no server. What it can find has a name each; its tests doctor a clean history in every one of these ways.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Defect names a way in which a promise was broken.
type Defect string

// The defects.
const (
	NotQuiet         Defect = "not-quiet"          // the system did not come to rest after the last fault
	TruthDiffers     Defect = "truth-differs"      // two ways to read a conversation at the end give two lists
	TruthGap         Defect = "truth-gap"          // the seqs of a conversation are not 1, 2, 3, …
	LostFirst        Defect = "lost-first"         // an acknowledged send is not there, and all that came before neither
	Lost             Defect = "lost"               // an acknowledged send is not there, with others around it
	LostLast         Defect = "lost-last"          // an acknowledged send is not there, and nothing later is
	Moved            Defect = "moved"              // it is there under another seq
	Altered          Defect = "altered"            // it is there with another body or sender
	Twice            Defect = "twice"              // one client id is stored twice
	Disagreed        Defect = "disagreed"          // two acknowledgements of one send name two seqs
	Phantom          Defect = "phantom"            // there is a message that nobody sent
	RejectedStored   Defect = "rejected-stored"    // every try was refused, and it is there
	RealTimeOrder    Defect = "real-time-order"    // a send that began after another's acknowledgement stands before it
	DeviceOrder      Defect = "device-order"       // two sends of one device stand in another order than they were made
	ViewHole         Defect = "view-hole"          // a client showed an entry and not the one before
	ViewRepeat       Defect = "view-repeat"        // a client showed an entry again, or an older one
	ViewAltered      Defect = "view-altered"       // a client showed an entry that reads otherwise at the end
	ViewLate         Defect = "view-late"          // a connected client showed an entry long after others had it
	ViewBehind       Defect = "view-behind"        // a client that follows a conversation was not at its head at the end
	Leak             Defect = "leak"               // a client showed an entry of a time in which its user was no member
	AcceptedRemoved  Defect = "accepted-removed"   // a message stands where its user was no member, such as after the removal
	RecalledShown    Defect = "recalled-shown"     // the words of a recalled message are still read
	RevokedOpen      Defect = "revoked-open"       // a session went on for too long after its end was acknowledged
	MarkWentBack     Defect = "mark-went-back"     // a user read a smaller read mark than before, or one before a post of its own
	UnreadWrong      Defect = "unread-wrong"       // what a client reads as unread is not what others said after its mark
	ReturnLate       Defect = "return-late"        // a client that was away did not come to the head in time
	NotLimited       Defect = "not-limited"        // a client misbehaved and nothing limited it
	ReadyLied        Defect = "ready-lied"         // a process said that it is ready while no send could be stored
	BareTimeout      Defect = "bare-timeout"       // the store took nothing, and a client was not told so
	PresenceStale    Defect = "presence-stale"     // a user was shown for too long as what the user no longer was
	PresenceFlapped  Defect = "presence-flapped"   // a user who was connected all the time was shown as offline
	MemoryNotReturns Defect = "memory-not-returns" // a process kept more memory than it had at rest
)

// defects is all of them.
var defects = []Defect{
	NotQuiet, TruthDiffers, TruthGap, LostFirst, Lost, LostLast, Moved, Altered, Twice, Disagreed, Phantom, RejectedStored, RealTimeOrder, DeviceOrder,
	ViewHole, ViewRepeat, ViewAltered, ViewLate, ViewBehind, Leak, AcceptedRemoved, RecalledShown, RevokedOpen, MarkWentBack, UnreadWrong, ReturnLate, NotLimited,
	ReadyLied, BareTimeout, PresenceStale, PresenceFlapped, MemoryNotReturns,
}

// Finding is one defect in one place.
type Finding struct {
	Defect       Defect                `json:"defect"`
	Conversation subjects.Conversation `json:"conversation,omitempty"`
	Who          string                `json:"who,omitempty"` // user, or user/device
	Seq          wire.Seq              `json:"seq,omitempty"`
	At           time.Duration         `json:"at,omitempty"`
	Text         string                `json:"text"`
}

// Result is the outcome of a judgement in a word.
type Result string

// The results.
const (
	Pass       Result = "pass"
	Fail       Result = "fail"
	NotExposed Result = "not exposed" // nothing was found, and the faults did not hit what they were meant to
)

// Verdict is what a history shows.
type Verdict struct {
	Result   Result    `json:"result"`
	Findings []Finding `json:"findings,omitempty"` // in the order of conversations and times
	Missing  []string  `json:"missing,omitempty"`  // what exposure lacks, a sentence each
	Figures  Figures   `json:"figures"`
}

// Bounds says how long what may take, and what the run must have shown. The zero value of a field means its default.
type Bounds struct {
	Presence     time.Duration // until others see that a client is gone or back; default 15 s
	Heal         time.Duration // until a connected client shows what others have; default 10 s, twice what is promised, since two processors carry it all
	MemoryGrowth float64       // of a process at rest at the end, to its rest at the beginning; default 1.5
	MemorySlack  uint64        // bytes more than that; default 128 MiB, which two passwords take while they are hashed
	Revocation   time.Duration // from the acknowledged end of a session to the end of its connections; default 2 s
	Settles      time.Duration // until what has no place in the log, such as a signal, follows a change of membership; default 2 s
	Return       time.Duration // until a client that was away is at the head; default 60 s
	Limited      time.Duration // until a client that misbehaves is limited; default 60 s
	Ready        time.Duration // until readiness says that nothing can be stored; default 5 s
	AllowCalm    bool          // a run without faults is no failure: the tests of the driver itself
}

func (b Bounds) withDefaults() Bounds {
	b.Presence = cmp.Or(b.Presence, 15*time.Second)
	b.Heal = cmp.Or(b.Heal, 10*time.Second)
	b.Revocation = cmp.Or(b.Revocation, 2*time.Second)
	b.Settles = cmp.Or(b.Settles, 2*time.Second)
	b.Return = cmp.Or(b.Return, time.Minute)
	b.Limited = cmp.Or(b.Limited, time.Minute)
	b.Ready = cmp.Or(b.Ready, 5*time.Second)
	b.MemoryGrowth = cmp.Or(b.MemoryGrowth, 1.5)
	b.MemorySlack = cmp.Or(b.MemorySlack, 128<<20)
	return b
}

// judge collects what the checks find.
type judge struct {
	*run
	bounds   Bounds
	findings []Finding
	latest   time.Duration // the longest that a connected client waited for an entry that others had
	seen
}

// seen is what the checks measure on their way.
type seen struct {
	revoked, caughtUp, limited, alone, beside, denied, regained, offline, online []time.Duration
	marked, missed                                                               int
}

// History judges the records of one run, which must be in the order of time.
func History(records []history.Record, bounds Bounds) Verdict {
	records = restored(records)
	j := &judge{run: index(records), bounds: bounds.withDefaults()}
	if !j.quiet {
		j.find(Finding{Defect: NotQuiet, Text: "the run ended before every client was done"})
	}
	for _, id := range j.conversationIDs() {
		c := j.conversations[id]
		if !j.truth(id, c) {
			continue // what is to be compared with is not known
		}
		j.sends(id, c)
		j.order(id, c)
		j.views(id, c)
		j.late(id, c)
		j.membership(id, c)
	}
	j.heard()
	j.sessions()
	j.marks()
	j.unread()
	j.returns()
	j.abuse()
	j.readiness()
	j.presence()
	j.memory()
	slices.SortStableFunc(j.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Conversation, b.Conversation), cmp.Compare(a.At, b.At), cmp.Compare(a.Seq, b.Seq))
	})
	v := Verdict{Result: Pass, Findings: j.findings, Figures: j.figures()}
	if !bounds.AllowCalm {
		v.Missing = v.Figures.missing()
	}
	switch {
	case len(v.Findings) > 0:
		v.Result = Fail
	case len(v.Missing) > 0:
		v.Result = NotExposed
	}
	return v
}

func (j *judge) find(f Finding) { j.findings = append(j.findings, f) }

func (j *judge) findf(d Defect, c subjects.Conversation, seq wire.Seq, at time.Duration, who, format string, args ...any) {
	j.find(Finding{Defect: d, Conversation: c, Who: who, Seq: seq, At: at, Text: fmt.Sprintf(format, args...)})
}
