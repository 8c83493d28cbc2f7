package jetstream

import (
	"context"
	"encoding/json"
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

// sides is what a bucket has of a pair in its two directions, nil where it has nothing, and the newest message about it.
type sides[T any] struct {
	conversation, user *T
	message            uint64
}

// pairs reads a bucket that has everything in both directions, a share of the conversations at a time, and calls check with each share.
func pairs[T any](ctx context.Context, l *look, bucket string, check func(all map[pair]sides[T], ours func(subjects.Conversation) bool)) error {
	stream := subjects.BucketStream(bucket)
	end, err := l.s.end(ctx, stream)
	if err != nil {
		return err
	}
	shards := min(subjects.Partitions, int(end.Messages/bucketShard)+1)
	for shard := range shards {
		all := map[pair]sides[T]{}
		ours := func(c subjects.Conversation) bool { return c.Partition()%shards == shard && l.wanted(c) }
		_, err := l.s.scan(ctx, stream, 0, func(m *rawMsg) error {
			c, u, fromUser, err := subjects.ParsePairKey(strings.Clone(m.key(bucket)))
			if err != nil {
				if l.only == nil && shard == 0 {
					l.report(Finding{Defect: strange[bucket], Message: m.Sequence, Text: "the key " + m.Subject + " is of no user and conversation"})
				}
				return nil
			}
			if !ours(c) {
				return nil
			}
			var value *T
			if !m.gone() {
				value = new(T)
				if err := json.Unmarshal(m.Data, value); err != nil {
					l.report(Finding{Defect: strange[bucket], Conversation: c, User: u, Message: m.Sequence, Text: "its record cannot be read: " + err.Error()})
					return nil
				}
			}
			have := all[pair{c, u}]
			have.message = m.Sequence
			if fromUser {
				have.user = value
			} else {
				have.conversation = value
			}
			all[pair{c, u}] = have
			return nil
		})
		if err != nil {
			return err
		}
		check(all, ours)
	}
	return nil
}

// strange is what a key or a record that nobody can read is reported as.
var strange = map[string]Defect{subjects.BucketMembers: DefectMember, subjects.BucketCursors: DefectMark}

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
	return pairs(ctx, l, subjects.BucketMembers, func(all map[pair]sides[Member], ours func(subjects.Conversation) bool) {
		for p, have := range all {
			if have.conversation != nil || have.user != nil { // and no note of a removal
				l.audit.Memberships++
			}
			for _, f := range l.membership(p, have) {
				f.Conversation, f.User, f.Message = p.conversation, p.user, have.message
				l.report(f)
			}
		}
		for c, a := range l.accounts { // those whom the bucket does not know at all
			if !ours(c) {
				continue
			}
			for u, st := range a.members {
				if _, known := all[pair{c, u}]; !known && !st.ended {
					l.report(Finding{Defect: DefectMember, Conversation: c, User: u, Seq: st.seq, Text: "the log says that the user is a member, and there is no record"})
				}
			}
			x, y, direct := c.Pair()
			for _, u := range []subjects.User{x, y} {
				if direct && all[pair{c, u}].user == nil {
					l.report(Finding{Defect: DefectListing, Conversation: c, User: u, Text: "the conversation has entries, and is not listed for the user"})
				}
			}
		}
	})
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

// marks compares both directions of all marks, and the marks with the newest entries.
func (l *look) marks(ctx context.Context) error {
	return pairs(ctx, l, subjects.BucketCursors, func(all map[pair]sides[Cursor], _ func(subjects.Conversation) bool) {
		l.audit.Marks += len(all) // none is ever removed
		for p, have := range all {
			head := wire.Mark{}
			if a := l.accounts[p.conversation]; a != nil {
				head = a.head
			}
			report := func(d Defect, unfinished bool, format string, args ...any) {
				l.report(Finding{Defect: d, Conversation: p.conversation, User: p.user, Message: have.message, Unfinished: unfinished, Text: fmt.Sprintf(format, args...)})
			}
			for _, mark := range []*Cursor{have.conversation, have.user} {
				if mark != nil && !mark.within(head) {
					report(DefectMark, false, "it has read %d with %d messages and received %d, of %d with %d", mark.Read.Seq, mark.Read.Count, mark.Delivered, head.Seq, head.Count)
					break
				}
			}
			switch x, y := have.conversation, have.user; {
			case x == nil && y == nil:
			case y == nil:
				report(DefectMarkSides, true, "there is a mark in the conversation, and none of the user")
			case x == nil || x.Read.Seq < y.Read.Seq || x.Delivered < y.Delivered: // the conversation's is written first
				report(DefectMarkSides, false, "the user's mark is beyond that in the conversation")
			case *x != *y:
				report(DefectMarkSides, true, "the user's mark is behind that in the conversation")
			}
		}
	})
}

// within reports whether a conversation with this newest entry can have the marks.
func (c Cursor) within(head wire.Mark) bool {
	return c.Read.Seq <= head.Seq && c.Delivered <= head.Seq && c.Read.Count <= head.Count && c.Read.Count <= uint64(c.Read.Seq) &&
		head.Count-c.Read.Count <= uint64(head.Seq-c.Read.Seq)
}
