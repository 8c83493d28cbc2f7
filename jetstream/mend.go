package jetstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// CopyOrder returns the assets that a backup copies, in the order in which it must: what the logs decide about first, then the logs, then what follows from
// them. What Mender does rests on it. IM_PRESENCE is of the moment, and IM_AMENDS follows from the logs, so neither is copied.
func CopyOrder() []Asset {
	first := []string{subjects.BucketConfig, subjects.BucketConversations, subjects.BucketMembers, subjects.StreamJobs}
	last := []string{subjects.BucketCursors, subjects.BucketUsers, subjects.BucketSessions, subjects.StreamDeadLetters}
	of := map[string]Asset{}
	var logs []Asset
	for _, a := range Assets() {
		if _, err := partitionOf(a.Stream); err == nil {
			logs = append(logs, a)
		}
		of[a.Stream], of[a.Bucket] = a, a
	}
	var all []Asset
	for _, name := range first {
		all = append(all, of[name])
	}
	all = append(all, logs...)
	for _, name := range last {
		all = append(all, of[name])
	}
	return all
}

// CopyAgain returns the streams that a backup reads on in once all others are copied: founders of conversations that have begun meanwhile, and jobs that
// entries have led to meanwhile.
func CopyAgain() []string {
	return []string{subjects.BucketStream(subjects.BucketMembers), subjects.StreamJobs}
}

// partitionOf returns the partition whose messages a stream holds.
func partitionOf(stream string) (int, error) {
	for p := range subjects.Partitions {
		if stream == subjects.MessagesStream(p) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%s holds no messages: %w", stream, ErrNotFound)
}

// Mended is what Mender changed, for people.
type Mended struct {
	Erased        int // entries that a recall erases, and that the copy still had
	Conversations int // records of conversations
	Memberships   int
	Marks         int
	Users         int
	Sessions      int // left out
	Amends        int // records that were made of the logs
}

// Mender makes one state out of copies of the streams that were taken one after the other, in the order of CopyOrder, while others wrote. The logs decide: what
// the buckets say of an earlier moment is brought up to them, and what they say of a later one is brought back.
//
// Every message of every copy is shown to Look, with a Decide behind the logs, then once more to Mend. It needs memory for each conversation, membership and
// changed message. One goroutine uses it.
type Mender struct {
	keepSessions bool
	dedupe       time.Duration
	logs         map[string]*ledger

	accounts map[subjects.Conversation]*account
	records  map[subjects.Conversation]bool // conversations that have a record
	members  map[pair]sides[Member]
	peopled  map[subjects.Conversation]bool // conversations with a member when members were copied
	founders map[pair]Member                // members from the beginning that came after that
	decided  map[pair]*Member               // what a membership is to be; nil = none
	twice    bool                           // the copy may have marks that an earlier build kept a second time
	marks    map[pair]sides[Cursor]         // of such a copy, those whose directions differ
	raised   map[pair]wire.Mark             // marks that a membership begins with
	marked   map[pair]bool                  // those of them for which there is a record
	amends   []Stored
	erased   map[string]map[uint64]bool // by stream: what recalls erase
	mended   Mended
}

// NewMender returns a Mender for a store with a dedupe window. Sessions are left out unless they are to be kept: what was signed out since the copy would be
// signed in again.
func NewMender(dedupe time.Duration, keepSessions bool) *Mender {
	return &Mender{
		keepSessions: keepSessions, dedupe: dedupe, logs: map[string]*ledger{}, accounts: map[subjects.Conversation]*account{}, records: map[subjects.Conversation]bool{},
		members: map[pair]sides[Member]{}, peopled: map[subjects.Conversation]bool{}, founders: map[pair]Member{}, decided: map[pair]*Member{},
		marks: map[pair]sides[Cursor]{}, raised: map[pair]wire.Mark{}, marked: map[pair]bool{},
		erased: map[string]map[uint64]bool{},
	}
}

// Mended returns what was changed; it is complete after the last Rest.
func (m *Mender) Mended() Mended { return m.mended }

// Look reads a message of a copy; the messages of a stream come in their order, of a bucket the newest of each key alone.
func (m *Mender) Look(stream string, msg Stored) error {
	if _, err := partitionOf(stream); err == nil {
		return m.lookLog(stream, msg)
	}
	raw, err := msg.raw()
	if err != nil {
		return err
	}
	if raw.gone() {
		return nil
	}
	switch stream {
	case subjects.BucketStream(subjects.BucketConfig):
		return m.lookConfig(raw)
	case subjects.BucketStream(subjects.BucketConversations):
		m.records[subjects.Conversation(raw.key(subjects.BucketConversations))] = true
	case subjects.BucketStream(subjects.BucketMembers):
		p, have, fromUser, err := readPair[Member](subjects.BucketMembers, raw)
		if err != nil {
			return err
		}
		m.members[p] = m.members[p].with(have, fromUser)
		m.peopled[p.conversation] = m.peopled[p.conversation] || !fromUser
	case subjects.BucketStream(subjects.BucketCursors):
		p, have, fromUser, err := readPair[Cursor](subjects.BucketCursors, raw)
		if err != nil {
			return err
		}
		if _, ok := m.raised[p]; ok && fromUser {
			m.marked[p] = true
		}
		if !m.twice {
			return nil
		}
		// Both directions were written one after the other, so few wait for the other one.
		both := m.marks[p].with(have, fromUser)
		if both.conversation != nil && both.user != nil && *both.conversation == *both.user {
			delete(m.marks, p)
		} else {
			m.marks[p] = both
		}
	}
	return nil
}

// lookConfig notes what the layout says about the rest.
func (m *Mender) lookConfig(raw *rawMsg) error {
	if raw.key(subjects.BucketConfig) != subjects.LayoutKey {
		return nil
	}
	var layout layoutRecord
	err := decode(raw, &layout)
	m.twice = !layout.MarksOnce
	return err
}

// LookLater reads a message of a stream of CopyAgain that was copied after all others.
func (m *Mender) LookLater(stream string, msg Stored) error {
	raw, err := msg.raw()
	if err != nil || raw.gone() || stream != subjects.BucketStream(subjects.BucketMembers) {
		return err
	}
	p, have, fromUser, err := readPair[Member](subjects.BucketMembers, raw)
	if err == nil && !fromUser && have.JoinedSeq == 1 && have.Role != "" {
		m.founders[p] = *have
	}
	return err
}

func (m *Mender) lookLog(stream string, msg Stored) error {
	l := m.logs[stream]
	if l == nil {
		// What is wrong in the log was wrong before: Verify names it afterwards.
		l = newLedger(stream, m.dedupe, func(Finding) {})
		m.logs[stream] = l
	}
	raw, err := msg.raw()
	if err == nil {
		l.take(raw)
	}
	return err
}

// with returns both sides with one of them set.
func (s sides[T]) with(value *T, fromUser bool) sides[T] {
	if fromUser {
		s.user = value
	} else {
		s.conversation = value
	}
	return s
}

// readPair reads a record that stands under a conversation and a user, in one direction or the other.
func readPair[T any](bucket string, raw *rawMsg) (p pair, value *T, fromUser bool, err error) {
	p.conversation, p.user, fromUser, err = subjects.ParsePairKey(raw.key(bucket))
	if err == nil {
		value = new(T)
		err = decode(raw, value)
	}
	if err != nil {
		return p, nil, fromUser, fmt.Errorf("read %s: %w", raw.Subject, err)
	}
	return p, value, fromUser, nil
}

// Decide is called once all logs and what stands before them in CopyOrder were looked at, before what follows.
func (m *Mender) Decide() error {
	var failure error
	for stream, l := range m.logs {
		m.erased[stream] = map[uint64]bool{}
		for c, a := range l.accounts {
			for _, k := range a.kept {
				m.erased[stream][k.stream] = true
			}
			m.accounts[c] = a
			l.finish(a, func(a *account, page uint64, settled, open *pageAmends) {
				record := settled
				if open != nil {
					record = open
				}
				data, err := json.Marshal(record)
				if err != nil {
					failure = err
				}
				m.amends = append(m.amends, Stored{Subject: amendsSubject(a.id, page), Data: data})
			})
		}
		l.users = nil
	}
	m.mended.Amends = len(m.amends)
	slices.SortFunc(m.amends, func(a, b Stored) int { return strings.Compare(a.Subject, b.Subject) })
	for p, member := range m.founders {
		if m.head(p.conversation).Seq > 0 && !m.peopled[p.conversation] {
			m.members[p] = sides[Member]{conversation: &member}
		}
	}
	for p, have := range m.members {
		m.decided[p] = m.decide(p, have)
	}
	for c, a := range m.accounts {
		x, y, direct := c.Pair()
		for _, u := range []subjects.User{x, y} {
			if p := (pair{c, u}); direct && m.decided[p] == nil {
				m.decided[p] = &Member{Conversation: c, User: u, Role: wire.RoleMember, JoinedSeq: 1}
			}
		}
		for u := range a.members {
			if p := (pair{c, u}); m.decided[p] == nil {
				m.decided[p] = m.decide(p, m.members[p])
			}
		}
	}
	return failure
}

func (m *Mender) head(c subjects.Conversation) wire.Mark {
	if a := m.accounts[c]; a != nil {
		return a.head
	}
	return wire.Mark{}
}

// decide returns what a membership is to be. Memberships were copied before the logs: where both differ the log is newer, or a crash came between two
// writes, and what restricts is written to the bucket first.
func (m *Mender) decide(p pair, have sides[Member]) *Member {
	a, member := m.accounts[p.conversation], have.conversation
	if p.conversation.Kind() == subjects.KindDirect {
		return have.user
	}
	if a == nil || a.head.Seq == 0 {
		return member // its creator may begin again
	}
	st, spoken := a.members[p.user]
	begun := member != nil && member.Role == "" && member.JoinedSeq == 0
	switch {
	case st.ended, begun && st.joined == 0: // what has only begun begins again
		return nil
	case !spoken, member == nil && st.joined == 0: // the latter is a founder whose record is gone: nothing says what it was
		return member
	}
	next := Member{Conversation: p.conversation, User: p.user, Role: st.role, JoinedSeq: max(1, st.joined)}
	if member == nil || begun || member.JoinedSeq != next.JoinedSeq {
		m.raised[p] = wire.Mark{Seq: st.joined, Count: st.count}
		return &next
	}
	next = *member
	if st.role != "" && st.role.Below(member.Role) {
		next.Role = st.role
	}
	return &next
}
