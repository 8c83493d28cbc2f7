package jetstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Mend returns a message as it is to be restored; keep is false for one that is left out. A message that stays as it was is returned as it came.
func (m *Mender) Mend(stream string, msg Stored) (mended Stored, keep bool, err error) {
	if _, err := partitionOf(stream); err == nil {
		if m.erased[stream][msg.Sequence] {
			m.mended.Erased++
			return msg, false, nil
		}
		return msg, true, nil
	}
	raw, err := msg.raw()
	if err != nil || raw.gone() {
		return msg, err == nil, err
	}
	var next any
	switch stream {
	case subjects.BucketStream(subjects.BucketConfig):
		next, err = m.mendConfig(raw)
	case subjects.BucketStream(subjects.BucketConversations):
		next, err = m.mendConversation(raw)
	case subjects.BucketStream(subjects.BucketMembers):
		next, keep, err = m.mendMember(raw)
		if err == nil && !keep {
			return msg, false, nil
		}
	case subjects.BucketStream(subjects.BucketCursors):
		next, keep, err = m.mendMark(raw)
		if err == nil && !keep {
			return msg, false, nil
		}
	case subjects.BucketStream(subjects.BucketUsers):
		next, err = m.mendUser(raw)
	case subjects.BucketStream(subjects.BucketSessions):
		if key := raw.key(subjects.BucketSessions); !m.keepSessions && subjects.SignsIn(key) {
			m.mended.Sessions++
			return msg, false, nil
		}
	}
	if err == nil && next != nil {
		msg.Data, err = json.Marshal(next)
	}
	if err != nil {
		return msg, false, fmt.Errorf("mend message %d of %s: %w", msg.Sequence, stream, err)
	}
	return msg, true, nil
}

// mendConfig marks the store as one that is being restored, so that nobody opens or declares it before it is whole.
func (m *Mender) mendConfig(raw *rawMsg) (any, error) {
	if raw.key(subjects.BucketConfig) != subjects.LayoutKey {
		return nil, nil
	}
	var layout layoutRecord
	err := decode(raw, &layout)
	layout.Restoring = true
	return layout, err
}

func (m *Mender) mendConversation(raw *rawMsg) (any, error) {
	var record Conversation
	if err := decode(raw, &record); err != nil {
		return nil, err
	}
	a := m.accounts[record.Conversation]
	if a == nil {
		return nil, nil
	}
	before := record
	record.Title = a.title
	if record.Policy.History != wire.HistoryStart && a.policy.History == wire.HistoryStart {
		a.policy = record.Policy // what restricts is written to the record first
	}
	if record.Policy = a.policy; record == before {
		return nil, nil
	}
	m.mended.Conversations++
	return record, nil
}

// mendMember returns a membership as it was decided, the same in both directions.
func (m *Mender) mendMember(raw *rawMsg) (next any, keep bool, err error) {
	p, have, fromUser, err := readPair[Member](subjects.BucketMembers, raw)
	if err != nil {
		return nil, false, err
	}
	want := m.decided[p]
	sides := m.members[p]
	switch {
	case want == nil:
		m.mended.Memberships++
		return nil, false, nil
	case fromUser && sides.user == nil, !fromUser && sides.conversation == nil:
		return nil, false, nil // it came after the copy; Rest has it
	case want.same(have):
		return nil, true, nil
	}
	m.mended.Memberships++
	return want, true, nil
}

// mendMark returns a mark that is not beyond the newest entry. What an earlier build kept a second time is left out; where that was higher it has raised the mark.
func (m *Mender) mendMark(raw *rawMsg) (next any, keep bool, err error) {
	p, have, fromUser, err := readPair[Cursor](subjects.BucketCursors, raw)
	if err != nil || !fromUser {
		return nil, false, err
	}
	mark := m.markOf(p, *have)
	if mark == (Cursor{}) {
		m.mended.Marks++
		return nil, false, nil
	}
	if mark == *have {
		return nil, true, nil
	}
	m.mended.Marks++
	return mark, true, nil
}

// markOf returns what a mark is to be.
func (m *Mender) markOf(p pair, have Cursor) Cursor {
	both := m.marks[p]
	for _, side := range []*Cursor{both.conversation, both.user} {
		if side != nil {
			have, _ = have.raise(*side)
		}
	}
	if mark, ok := m.raised[p]; ok {
		have, _ = have.raise(Cursor{Read: mark})
	}
	head := m.head(p.conversation)
	if have.Read.Seq > head.Seq {
		have.Read = head
	}
	have.Delivered = min(have.Delivered, head.Seq)
	return have
}

// mendUser has somebody enrolled again whose enrolment came after the logs were copied: users are copied later.
func (m *Mender) mendUser(raw *rawMsg) (any, error) {
	key := raw.key(subjects.BucketUsers)
	if strings.Contains(key, ".") {
		return nil, nil
	}
	var u User
	if err := decode(raw, &u); err != nil {
		return nil, err
	}
	p := pair{subjects.General, u.User}
	spoken := false
	if a := m.accounts[subjects.General]; a != nil {
		_, spoken = a.members[u.User]
	}
	if !u.Enrolled || spoken || m.decided[p] != nil {
		return nil, nil
	}
	m.mended.Users++
	u.Enrolled = false
	return u, nil
}

// Rest returns the records that no copy has, to be stored behind those of a stream; their sequences are the caller's to give.
func (m *Mender) Rest(stream string) ([]Stored, error) {
	var all []Stored
	var failure error
	add := func(bucket, key string, value any) {
		data, err := json.Marshal(value)
		if err != nil {
			failure = err
		}
		all = append(all, Stored{Subject: subjects.BucketSubject(bucket, key), Data: data})
	}
	switch stream {
	case subjects.BucketStream(subjects.BucketAmends):
		return m.amends, nil
	case subjects.BucketStream(subjects.BucketConversations):
		for c, a := range m.accounts {
			if c.Kind() != subjects.KindDirect && !m.records[c] {
				add(subjects.BucketConversations, subjects.ConversationKey(c), Conversation{
					Conversation: c, Kind: c.Kind(), Title: a.title, Policy: a.policy, Created: a.founded, CreatedBy: a.founder,
				})
			}
		}
		m.mended.Conversations += len(all)
	case subjects.BucketStream(subjects.BucketMembers):
		for p, want := range m.decided {
			have := m.members[p]
			if _, found := m.founders[p]; found && !m.peopled[p.conversation] {
				have = sides[Member]{} // not of the copy that Mend saw
			}
			if want != nil && have.conversation == nil && p.conversation.Kind() != subjects.KindDirect {
				add(subjects.BucketMembers, want.key(), want)
			}
			if want != nil && have.user == nil {
				add(subjects.BucketMembers, want.listingKey(), want)
			}
		}
		m.mended.Memberships += len(all)
	case subjects.BucketStream(subjects.BucketCursors):
		all, failure = m.restMarks()
	}
	slices.SortFunc(all, func(a, b Stored) int { return strings.Compare(a.Subject, b.Subject) })
	return all, failure
}

// restMarks returns the marks that are missing: those that memberships begin with which nobody has marked yet, and those of which there is only what an earlier
// build kept a second time.
func (m *Mender) restMarks() ([]Stored, error) {
	missing := map[pair]bool{}
	for p, have := range m.marks {
		if have.user == nil {
			missing[p] = true
		}
	}
	for p := range m.raised {
		if !m.marked[p] {
			missing[p] = true
		}
	}
	var all []Stored
	for p := range missing {
		mark := m.markOf(p, Cursor{})
		if mark == (Cursor{}) {
			continue
		}
		data, err := json.Marshal(mark)
		if err != nil {
			return nil, err
		}
		all = append(all, Stored{Subject: subjects.BucketSubject(subjects.BucketCursors, subjects.CursorKey(p.user, p.conversation)), Data: data})
	}
	m.mended.Marks += len(all)
	return all, nil
}
