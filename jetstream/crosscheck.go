package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// pair is a user in a conversation.
type pair struct {
	conversation subjects.Conversation
	user         subjects.User
}

// direct reports whether it is of a direct conversation, which is listed for its users and has no members.
func (p pair) direct() bool { return p.conversation.Kind() == subjects.KindDirect }

// sides is what a bucket has of a pair in its two directions, nil where it has nothing, and the newest message about it.
type sides[T any] struct {
	conversation, user *T
	message            uint64
}

// half is one direction of a membership whose other one has not been read yet.
type half struct {
	value    *Member // nil = the note of a removal
	message  uint64
	fromUser bool
}

// with returns both directions of a pair, of which the other one was read later.
func (h half) with(value *Member, message uint64) sides[Member] {
	if h.fromUser {
		return sides[Member]{conversation: value, user: h.value, message: max(h.message, message)}
	}
	return sides[Member]{conversation: h.value, user: value, message: max(h.message, message)}
}

// pairing reads the memberships, of which both directions are stored, but of direct conversations that of the user alone. They are written one after the
// other, so what is read first of a pair waits for its other direction only for a moment, and memory does not grow with the bucket. A pair that is written
// again meanwhile is checked again.
type pairing struct {
	look  *look
	end   uint64 // last sequence of the bucket when its reading began
	count int    // pairs that have something, as of the beginning
}

// errWaiting means that more waits for its other direction than is kept in memory.
var errWaiting = errors.New("too much waits for its other direction")

// read reads the bucket once, or where the directions of too many pairs are far from each other, once for each share of the conversations.
func (r *pairing) read(ctx context.Context) error {
	end, err := r.look.s.end(ctx, subjects.BucketStream(subjects.BucketMembers))
	if err != nil {
		return err
	}
	r.end = end.Last
	found := len(r.look.found)
	for shares := 1; ; shares *= 4 {
		r.look.found, r.count = r.look.found[:found], 0
		for share := range shares {
			if err = r.share(ctx, share, shares); err != nil {
				break
			}
		}
		if !errors.Is(err, errWaiting) {
			return err
		}
	}
}

// share reads what the bucket has of one share of the conversations.
func (r *pairing) share(ctx context.Context, share, shares int) error {
	l, stream := r.look, subjects.BucketStream(subjects.BucketMembers)
	ours := func(c subjects.Conversation) bool { return c.Partition()%shares == share && l.wanted(c) }
	waiting := map[pair]half{}
	_, err := l.s.scan(ctx, stream, 0, func(m *rawMsg) error {
		c, u, fromUser, err := subjects.ParsePairKey(strings.Clone(m.key(subjects.BucketMembers)))
		if err != nil {
			if l.only == nil && share == 0 {
				l.report(Finding{Defect: DefectMember, Message: m.Sequence, Text: "the key " + m.Subject + " is of no user and conversation"})
			}
			return nil
		}
		if !ours(c) {
			return nil
		}
		var value *Member
		if !m.gone() {
			value = new(Member)
			if err := json.Unmarshal(m.Data, value); err != nil {
				l.report(Finding{Defect: DefectMember, Conversation: c, User: u, Message: m.Sequence, Text: "its record cannot be read: " + err.Error()})
				return nil
			}
		}
		p := pair{c, u}
		if p.direct() {
			r.take(p, half{fromUser: !fromUser}.with(value, m.Sequence), m.Sequence)
			return nil
		}
		if first, waits := waiting[p]; waits && first.fromUser != fromUser {
			delete(waiting, p)
			r.take(p, first.with(value, m.Sequence), first.message)
			return nil
		}
		if waiting[p] = (half{value, m.Sequence, fromUser}); len(waiting) > l.waiting && shares < subjects.Partitions {
			return errWaiting
		}
		return nil
	})
	if err != nil {
		return err
	}
	for p, first := range waiting {
		r.take(p, first.with(nil, 0), first.message)
	}
	l.unknownMembers(ours)
	return nil
}

// take checks a pair; first is the older message about it.
func (r *pairing) take(p pair, have sides[Member], first uint64) {
	if (have.conversation != nil || have.user != nil) && first <= r.end { // a pair that was checked before has two newer ones
		r.count++
	}
	r.look.member(p, have)
}

// conversations compares the records of conversations with what their logs say.
func (l *look) conversations(ctx context.Context) error {
	records := map[subjects.Conversation]Conversation{}
	_, err := l.s.scan(ctx, subjects.BucketStream(subjects.BucketConversations), 0, func(m *rawMsg) error {
		c, err := subjects.ParseConversation(m.key(subjects.BucketConversations))
		if err == nil && !l.wanted(c) {
			return nil
		}
		var record Conversation
		if err == nil {
			err = decode(m, &record)
		}
		if err != nil {
			l.report(Finding{Defect: DefectConversation, Conversation: c, Message: m.Sequence, Text: err.Error()})
			return nil
		}
		record.Revision = m.Sequence
		records[record.Conversation] = record
		return nil
	})
	if err != nil {
		return err
	}
	for c, a := range l.accounts {
		record, there := records[c]
		switch {
		case c.Kind() == subjects.KindDirect: // has none
		case !there:
			l.report(Finding{Defect: DefectConversation, Conversation: c, Text: fmt.Sprintf("it has %d entries and no record", a.head.Seq)})
		case record.Title != a.title || record.Policy != a.policy:
			// The record is written before the entry.
			l.report(Finding{Defect: DefectConversation, Conversation: c, Message: record.Revision, Unfinished: true,
				Text: fmt.Sprintf("its record has title %q and policy %q, its log %q and %q", record.Title, record.Policy.History, a.title, a.policy.History)})
		}
	}
	for c, record := range records {
		if l.accounts[c] == nil {
			l.report(Finding{Defect: DefectConversation, Conversation: c, Message: record.Revision, Unfinished: true, Text: "its record is there, and its log has not begun"})
		}
	}
	return nil
}

// members compares both directions of all memberships, and what the logs say about them.
func (l *look) members(ctx context.Context) error {
	r := pairing{look: l}
	err := r.read(ctx)
	l.audit.Memberships = r.count
	return err
}

// member compares the two directions of one membership, and notes that the bucket knows of it.
func (l *look) member(p pair, have sides[Member]) {
	if a := l.accounts[p.conversation]; a != nil {
		x, _, direct := p.conversation.Pair()
		st, spoken := a.members[p.user]
		switch {
		case direct && have.user != nil && p.user == x:
			a.listed[0] = true
		case direct && have.user != nil:
			a.listed[1] = true
		case spoken:
			st.known = true
			a.members[p.user] = st
		}
	}
	for _, f := range l.membership(p, have) {
		f.Conversation, f.User, f.Message = p.conversation, p.user, have.message
		l.report(f)
	}
}

// unknownMembers reports those whom the logs know and the bucket does not.
func (l *look) unknownMembers(ours func(subjects.Conversation) bool) {
	for c, a := range l.accounts {
		if !ours(c) {
			continue
		}
		for u, st := range a.members {
			if !st.known && !st.ended {
				l.report(Finding{Defect: DefectMember, Conversation: c, User: u, Seq: st.seq, Text: "the log says that the user is a member, and there is no record"})
			}
		}
		x, y, direct := c.Pair()
		for i, u := range []subjects.User{x, y} {
			if direct && !a.listed[i] {
				l.report(Finding{Defect: DefectListing, Conversation: c, User: u, Text: "the conversation has entries, and is not listed for the user"})
			}
		}
	}
}

// membership returns what is wrong about one membership.
func (l *look) membership(p pair, have sides[Member]) []Finding {
	a := l.accounts[p.conversation]
	if a == nil {
		a = &account{}
	}
	st, spoken := a.members[p.user]
	m := have.conversation
	switch {
	case p.conversation.Kind() == subjects.KindDirect: // is listed only
		return nil
	case m == nil && spoken && !st.ended:
		return []Finding{{Defect: DefectMember, Seq: st.seq, Text: "the log says that the user is a member, and there is no record"}}
	case m == nil && have.user == nil:
		return nil
	case m == nil:
		return []Finding{{Defect: DefectListing, Unfinished: spoken, Text: "the conversation is listed for the user, and there is no membership"}}
	case m.Role == "" && m.JoinedSeq == 0:
		return []Finding{{Defect: DefectMember, Unfinished: true, Text: "a membership was begun"}}
	case m.Role == "":
		return []Finding{{Defect: DefectMember, Unfinished: true, Text: "the end of a membership was begun"}}
	case a.head.Seq == 0:
		return []Finding{{Defect: DefectMember, Unfinished: true, Text: "there is a membership, and the log has not begun"}}
	}
	return append(againstLog(m, st, spoken), againstListing(m, have.user)...)
}

// againstLog compares a membership with what the log says last about the user, if it says anything: founders are members without an entry.
func againstLog(m *Member, st standing, spoken bool) []Finding {
	joined := max(1, st.joined)
	switch {
	case st.ended:
		return []Finding{{Defect: DefectMember, Seq: st.seq, Text: "the log says that the user is no member any more, and there is a membership"}}
	case m.JoinedSeq != joined && !spoken:
		return []Finding{{Defect: DefectMember, Seq: m.JoinedSeq, Text: "the membership began with an entry that says nothing about it"}}
	case m.JoinedSeq != joined:
		return []Finding{{Defect: DefectMember, Seq: joined, Text: fmt.Sprintf("the membership began with this entry, and its record says %d", m.JoinedSeq)}}
	case spoken && st.role != "" && m.Role != st.role:
		// What restricts changes the record first.
		return []Finding{{Defect: DefectMember, Seq: st.seq, Unfinished: m.Role.Below(st.role), Text: fmt.Sprintf("the log says %s, and the record %s", st.role, m.Role)}}
	}
	return nil
}

// againstListing compares both directions of a membership. That of the user only lists, so what else it says is read by nobody.
func againstListing(m, listing *Member) []Finding {
	switch {
	case listing == nil:
		return []Finding{{Defect: DefectListing, Text: "there is a membership, and it is not listed for the user"}}
	case !m.same(listing):
		return []Finding{{Defect: DefectListing, Unfinished: true, Text: fmt.Sprintf("the membership is %s from %d, and listed as %s from %d", m.Role, m.JoinedSeq, listing.Role, listing.JoinedSeq)}}
	}
	return nil
}

// same reports whether two records of a membership say the same.
func (m *Member) same(other *Member) bool {
	a, b := *m, *other
	a.Revision, b.Revision = 0, 0
	if a.Muted != nil && b.Muted != nil && a.Muted.Equal(b.Muted.Time) {
		a.Muted, b.Muted = nil, nil
	}
	return a == b
}

// marks compares all marks with the newest entries. What earlier builds kept of them a second time is read by nobody, and no news.
func (l *look) marks(ctx context.Context) error {
	stream := subjects.BucketStream(subjects.BucketCursors)
	end, err := l.s.end(ctx, stream)
	if err != nil {
		return err
	}
	_, err = l.s.scan(ctx, stream, 0, func(m *rawMsg) error {
		c, u, fromUser, err := subjects.ParsePairKey(m.key(subjects.BucketCursors))
		switch {
		case err != nil && l.only == nil:
			l.report(Finding{Defect: DefectMark, Message: m.Sequence, Text: "the key " + m.Subject + " is of no user and conversation"})
			return nil
		case err != nil, !fromUser, m.gone(), !l.wanted(c):
			return nil
		}
		var mark Cursor
		if err := json.Unmarshal(m.Data, &mark); err != nil {
			l.report(Finding{Defect: DefectMark, Conversation: c, User: u, Message: m.Sequence, Text: "its record cannot be read: " + err.Error()})
			return nil
		}
		if m.Sequence <= end.Last { // what has risen meanwhile comes again
			l.audit.Marks++
		}
		l.mark(pair{c, u}, mark, m.Sequence)
		return nil
	})
	return err
}

// mark compares the marks of a user in a conversation with its newest entry.
func (l *look) mark(p pair, mark Cursor, message uint64) {
	head := wire.Mark{}
	if a := l.accounts[p.conversation]; a != nil {
		head = a.head
	}
	if !mark.within(head) {
		l.report(Finding{Defect: DefectMark, Conversation: p.conversation, User: p.user, Message: message,
			Text: fmt.Sprintf("it has read %d with %d messages and received %d, of %d with %d", mark.Read.Seq, mark.Read.Count, mark.Delivered, head.Seq, head.Count)})
	}
}

// within reports whether a conversation with this newest entry can have the marks.
func (c Cursor) within(head wire.Mark) bool {
	return c.Read.Seq <= head.Seq && c.Delivered <= head.Seq && c.Read.Count <= head.Count && c.Read.Count <= uint64(c.Read.Seq) &&
		head.Count-c.Read.Count <= uint64(head.Seq-c.Read.Seq)
}
