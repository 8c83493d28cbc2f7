package jetstream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxGap is how many entries in a row can have been erased; a seq farther on is none that was ever given.
const maxGap = 1 << 20

// ledger reads the stream of one partition once, from its first message to its last, and holds every entry against the one before in its
// conversation. What it keeps does not grow with the number of entries, but with that of conversations, of members that entries speak of, and of
// messages that later ones changed. One goroutine uses it.
type ledger struct {
	stream   string
	window   time.Duration // how long spent ids are kept at least
	only     func(subjects.Conversation) bool
	report   func(Finding)
	accounts map[subjects.Conversation]*account
	users    map[subjects.User]subjects.User // each name once
	entries  uint64
}

func newLedger(stream string, dedupe time.Duration, report func(Finding)) *ledger {
	return &ledger{
		stream: stream, window: min(dedupe, DefaultDedupe), report: report,
		accounts: map[subjects.Conversation]*account{}, users: map[subjects.User]subjects.User{},
	}
}

// account is what is known of a conversation up to its newest entry so far.
type account struct {
	id      subjects.Conversation
	head    wire.Mark
	epoch   wire.Seq
	at      wire.Time
	founded wire.Time     // of its first entry
	founder subjects.User // likewise
	title   string
	policy  wire.Policy
	members map[subjects.User]standing
	listed  [2]bool // of a direct conversation: whether the bucket of members lists it for its first and its second user
	*trail
}

// trail is what is known of a conversation only while its stream is read.
type trail struct {
	stream  uint64
	backs   backs
	posters posters
	spent   spentIDs
	missing map[wire.Seq]uint64 // entries that no message is; the value is where their successors say they were, 0 = they do not
	kept    []keptEntry         // what recalls erase and was there
	open    *amendment          // of the newest entry: it may not be recorded yet
	records map[uint64]*pageAmends
}

// standing is what the log says last about a user.
type standing struct {
	seq    wire.Seq // of the entry
	joined wire.Seq // of the one that began the membership; 0 = it began with the conversation
	count  uint64   // messages up to there
	role   wire.Role
	ended  bool
	known  bool // the bucket of members has a record of the user, or the note of a removal
}

// keptEntry is an entry that a recall erases and that was there.
type keptEntry struct {
	seq, recall wire.Seq
	stream      uint64
}

func (a *account) finding(d Defect, seq wire.Seq, format string, args ...any) Finding {
	return Finding{Defect: d, Conversation: a.id, Seq: seq, Text: fmt.Sprintf(format, args...)}
}

// take reads the next message of the stream.
func (l *ledger) take(m *rawMsg) {
	c, err := subjects.ParseMessage(m.Subject)
	if err == nil && l.only != nil && !l.only(c) {
		return
	}
	if err != nil {
		l.report(Finding{Defect: DefectForeign, Message: m.Sequence, Text: fmt.Sprintf("%s of %s is the subject of no conversation", m.Subject, l.stream)})
		return
	}
	e, err := parseEntry(m)
	if err != nil || !wire.IsEntryOf(c, m.Data) {
		l.report(Finding{Defect: DefectForeign, Conversation: c, Message: m.Sequence, Text: fmt.Sprintf("it is no entry of the conversation (%v)", cmp.Or(err, ErrNoEntry))})
		return
	}
	l.entries++
	a := l.accounts[c]
	if a == nil {
		a = &account{id: subjects.Conversation(strings.Clone(string(c))), trail: &trail{}} // c is a part of the message
		l.accounts[a.id] = a
	}
	l.entry(a, e)
}

// entry holds an entry against the account, which then knows it.
func (l *ledger) entry(a *account, e *logEntry) {
	find := func(d Defect, format string, args ...any) { l.report(a.finding(d, e.Seq, format, args...)) }
	if e.Seq <= a.head.Seq {
		find(DefectOrder, "message %d has this seq, behind entry %d", e.stream, a.head.Seq)
		return
	}
	gap := uint64(e.Seq - a.head.Seq - 1)
	if gap > maxGap {
		find(DefectOrder, "message %d has this seq, behind entry %d", e.stream, a.head.Seq)
		return
	}
	at, err := e.at()
	if err != nil {
		find(DefectBody, "its time cannot be read: %v", err)
	} else if at.Before(a.at.Time) {
		find(DefectOrder, "it is of %s, and the entry before of %s", at, a.at)
	}
	l.checkNumbers(a, e, gap)
	b, err := e.backs()
	if err != nil {
		find(DefectPointers, "%v", err)
		b = a.backs.follow(a.head.Seq, a.stream)
	} else {
		l.checkPointers(a, e, b)
	}
	a.miss(e.Seq, b)
	l.checkPosters(a, e, gap)
	entry, err := l.decode(e, a.id)
	if err != nil {
		find(DefectBody, "%v", err)
	}
	l.settle(a)
	var change *amendment
	if err == nil {
		change, err = e.amendment(entry)
		if err != nil {
			find(DefectErased, "%v", err)
		}
		l.note(a, e, entry)
	}
	l.checkSpent(a, e, change, at)
	a.head, a.epoch, a.at = wire.Mark{Seq: e.Seq, Count: e.Count}, e.Epoch, at
	a.stream, a.backs, a.open = e.stream, b, change
	if change != nil {
		l.checkErased(a, change)
	}
}

// checkNumbers compares count and epoch with those of the entry before. Only messages and their edits are ever erased, so over a gap the epoch stays and
// the count may have grown.
func (l *ledger) checkNumbers(a *account, e *logEntry, gap uint64) {
	least := a.head.Count
	if e.Kind == wire.KindMessage {
		least++
	}
	if e.Count < least || e.Count > least+gap {
		l.report(a.finding(DefectCount, e.Seq, "it counts %d messages, and entry %d before it %d", e.Count, a.head.Seq, a.head.Count))
	}
	switch {
	case e.Kind == wire.KindMember || e.Kind == wire.KindPolicy:
		if e.Epoch != e.Seq {
			l.report(a.finding(DefectEpoch, e.Seq, "it changes membership or policy, and says %d did", e.Epoch))
		}
	case gap == 0 && e.Epoch != a.epoch, e.Epoch < a.epoch:
		l.report(a.finding(DefectEpoch, e.Seq, "it names entry %d, and the one before it %d", e.Epoch, a.epoch))
	}
}

// checkPointers compares the back pointers with what is known of the entries before.
func (l *ledger) checkPointers(a *account, e *logEntry, b backs) {
	want := a.backs.follow(a.head.Seq, a.stream)
	known, page := pageOf(e.Seq), pageOf(max(1, a.head.Seq))
	sound := true
	switch {
	case a.head.Seq == 0: // whatever was before it is missing
	case e.Seq == a.head.Seq+1:
		sound = slices.Equal(b.page, want.page) && slices.Equal(b.before, want.before)
	case known == page:
		n := len(a.backs.page)
		sound = slices.Equal(b.page[:n], a.backs.page) && b.page[n] == a.stream && slices.Equal(b.before, a.backs.before)
	default: // pages that were ended before the gap are reached as before
		for level := range min(len(b.before), len(a.backs.before)) {
			if pointee(known, level) == pointee(page, level) && b.before[level] != a.backs.before[level] {
				sound = false
			}
		}
	}
	if sound && len(b.page) > 0 {
		sound = b.page[len(b.page)-1] < e.stream
	}
	if !sound {
		l.report(a.finding(DefectPointers, e.Seq, "they are %q, and %q would lead to the entries before", b, want))
	}
}

// miss notes the entries between the newest one and a later one, with where the later one says they were.
func (a *account) miss(next wire.Seq, b backs) {
	if a.missing == nil && next > a.head.Seq+1 {
		a.missing = map[wire.Seq]uint64{}
	}
	first := firstOf(pageOf(next))
	for seq := a.head.Seq + 1; seq < next; seq++ {
		switch {
		case seq >= first && int(seq-first) < len(b.page):
			a.missing[seq] = b.page[seq-first]
		case seq == first-1 && len(b.before) > 0:
			a.missing[seq] = b.before[0]
		default:
			a.missing[seq] = 0
		}
	}
}

func (l *ledger) checkPosters(a *account, e *logEntry, gap uint64) {
	have, err := parsePosters(e.header.Get(subjects.HeaderPosters))
	if err != nil {
		l.report(a.finding(DefectPosters, e.Seq, "%v", err))
		return
	}
	want := a.posters
	if e.Kind == wire.KindMessage {
		want, _ = a.posters.follow(e.From, wire.Mark{Seq: e.Seq, Count: e.Count})
	}
	switch {
	case gap == 0 && !slices.Equal(have, want),
		gap > 0 && e.Kind == wire.KindMessage && (len(have) == 0 || have[0] != want[0]): // authors of erased messages stand between
		l.report(a.finding(DefectPosters, e.Seq, "they are %q, and follow from the entry before as %q", have, want))
	}
	for i := range have {
		have[i].user = l.user(have[i].user)
	}
	a.posters = have
}

// checkSpent makes sure that no id came from nowhere, and none went before its time.
func (l *ledger) checkSpent(a *account, e *logEntry, change *amendment, at wire.Time) {
	have, err := parseSpent(e.header.Get(subjects.HeaderSpent))
	if err != nil {
		l.report(a.finding(DefectSpent, e.Seq, "%v", err))
		return
	}
	var erased []remnant
	if change != nil {
		erased = change.erased
	}
	all := a.spent.follow(a.id, erased, at, 1<<62)      // as if nothing were ever too old
	least := a.spent.follow(a.id, erased, at, l.window) // what must still be there
	unknown := func(of, in spentIDs) bool {
		return slices.ContainsFunc(of, func(one spentID) bool { return !slices.Contains(in, one) })
	}
	if unknown(have, all) || len(all) < maxSpent && unknown(least, have) {
		l.report(a.finding(DefectSpent, e.Seq, "they are %q, and follow from the entry before as %q", have, least))
	}
	a.spent = have
}

// checkErased compares what a recall says about what it erased with the gaps it explains.
func (l *ledger) checkErased(a *account, change *amendment) {
	if change.kind == wire.KindRecall && !slices.ContainsFunc(change.erased, func(r remnant) bool { return r.Seq == change.target }) {
		l.report(a.finding(DefectErased, change.seq, "it recalls entry %d, and does not say what that was", change.target))
	}
	for _, r := range change.erased {
		where, gone := a.missing[r.Seq]
		switch {
		case r.Seq >= change.seq || gone && where != 0 && where != r.Stream:
			l.report(a.finding(DefectErased, change.seq, "it says that entry %d was message %d, and its successors say %d", r.Seq, r.Stream, where))
		case gone:
			delete(a.missing, r.Seq)
		default:
			a.kept = append(a.kept, keptEntry{r.Seq, change.seq, r.Stream})
		}
	}
}

// settle folds what the newest entry so far changed into the records, since another one follows it.
func (l *ledger) settle(a *account) {
	if a.open == nil {
		return
	}
	if a.records == nil {
		a.records = map[uint64]*pageAmends{}
	}
	for _, page := range a.open.pages() {
		if a.records[page] == nil {
			a.records[page] = &pageAmends{}
		}
		a.records[page].fold(page, a.open)
	}
	a.open = nil
}

// decode returns the entry of a stored one, whole where its kind says more than its header, and makes sure that both say the same.
func (l *ledger) decode(e *logEntry, c subjects.Conversation) (wire.Entry, error) {
	if !json.Valid(e.payload) {
		return wire.Entry{}, fmt.Errorf("it is no JSON")
	}
	if e.Kind == wire.KindMessage && bytes.HasPrefix(e.payload, e.opening(c)) {
		return wire.Entry{}, nil
	}
	entry, err := e.decode()
	if err == nil && (entry.Conversation != c || entry.Seq != e.Seq || entry.Count != e.Count || entry.Kind != e.Kind || entry.From != e.From) {
		err = fmt.Errorf("it says seq=%d count=%d kind=%s from=%s, and its header %s", entry.Seq, entry.Count, entry.Kind, entry.From, e.EntryHeader)
	}
	return entry, err
}

// opening returns what the stored form of an entry with this header begins with.
func (e *logEntry) opening(c subjects.Conversation) []byte {
	return fmt.Appendf(nil, `{"conversation":"%s","seq":%d,"count":%d,"kind":"%s","from":"%s","at":"`, c, e.Seq, e.Count, e.Kind, e.From)
}

// note keeps what an entry says about the conversation and its members.
func (l *ledger) note(a *account, e *logEntry, entry wire.Entry) {
	if a.head.Seq == 0 && entry.Seq != 0 {
		a.founded, a.founder = entry.At, l.user(entry.From)
	}
	switch e.Kind {
	case wire.KindPolicy:
		var body struct {
			Title  *string      `json:"title"`
			Policy *wire.Policy `json:"policy"`
		}
		if err := json.Unmarshal(entry.Body, &body); err != nil {
			l.report(a.finding(DefectBody, e.Seq, "its policy cannot be read: %v", err))
			return
		}
		if body.Title != nil {
			a.title = *body.Title
		}
		if body.Policy != nil {
			a.policy = *body.Policy
		}
	case wire.KindMember:
		var body wire.MemberBody
		if err := json.Unmarshal(entry.Body, &body); err != nil {
			l.report(a.finding(DefectBody, e.Seq, "its change of membership cannot be read: %v", err))
			return
		}
		a.change(l.user(body.User), wire.Mark{Seq: e.Seq, Count: e.Count}, body)
	}
}

func (a *account) change(u subjects.User, at wire.Mark, body wire.MemberBody) {
	s := a.members[u]
	s.seq = at.Seq
	switch {
	case body.Change.Begins():
		s.joined, s.count, s.role, s.ended = at.Seq, at.Count, body.Role, false
	case body.Change.Ends():
		s.role, s.ended = "", true
	case body.Change == wire.ChangeRole:
		s.role = body.Role
	default:
		return
	}
	if a.members == nil {
		a.members = map[subjects.User]standing{}
	}
	a.members[u] = s
}

// user returns a name that does not keep the message alive in which it stood.
func (l *ledger) user(u subjects.User) subjects.User {
	if one, ok := l.users[u]; ok {
		return one
	}
	one := subjects.User([]byte(u))
	l.users[one] = one
	return one
}

// holes reports the entries that are missing and that no recall explains.
func (l *ledger) holes(a *account) {
	seqs := slices.Sorted(maps.Keys(a.missing))
	for i := 0; i < len(seqs); {
		end := i + 1
		for end < len(seqs) && seqs[end] == seqs[end-1]+1 {
			end++
		}
		l.report(a.finding(DefectHole, seqs[i], "%d entries are not there, and no recall erased them", end-i))
		i = end
	}
}
