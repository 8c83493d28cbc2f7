package history

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// heads answers with the caller's conversations that have an entry, in ascending order of id. Which ones the user is in is read after the heads: so no head
// is newer than a removal.
func (r *reader) heads(ctx context.Context, call *functions.Call, in *wire.HeadsQuery) (json.RawMessage, error) {
	answer, err := r.list(ctx, call, in)
	if err != nil {
		return nil, err
	}
	size := 64
	for i := range answer.Conversations {
		size += sizeOf(&answer.Conversations[i])
	}
	return wire.AppendHeads(make([]byte, 0, size), &answer), nil
}

func (r *reader) list(ctx context.Context, call *functions.Call, in *wire.HeadsQuery) (wire.Heads, error) {
	answer := wire.Heads{Conversations: []wire.ConversationHead{}}
	listed, err := r.lists.Listed(ctx, call.User)
	if err != nil {
		return answer, unavailable("read the list", err)
	}
	listed, more := cut(listed, in.After, in.Limit)
	if len(listed) == 0 {
		return answer, nil
	}
	if more {
		answer.Next = listed[len(listed)-1].Conversation
	}
	l, err := r.look(ctx, call.User, listed)
	if err != nil {
		return answer, err
	}
	if answer.Conversations, err = r.shown(ctx, &l); err != nil {
		return answer, err
	}
	return fitHeads(answer), nil
}

// shown returns what a user sees of what was read.
func (r *reader) shown(ctx context.Context, l *looks) ([]wire.ConversationHead, error) {
	shown := make([]wire.ConversationHead, 0, len(l.members))
	for _, m := range l.members {
		tail := l.headOf(m.Conversation)
		if tail != nil && tail.Seq < m.JoinedSeq { // from a replica that was behind, or from before the user came
			var err error
			if m, tail, err = r.again(ctx, m); err != nil {
				return nil, err
			}
		}
		if tail != nil && takesPart(m) && tail.Seq >= m.JoinedSeq {
			shown = append(shown, head(m, tail, l.marks.Of(m.Conversation), l.titles[m.Conversation]))
		}
	}
	return shown, nil
}

// takesPart reports whether a membership is one: not about to begin, and not about to end.
func takesPart(m jetstream.Member) bool {
	return m.Role != "" || m.Conversation.Kind() == subjects.KindDirect
}

// again reads a head from the leader, and then the membership; one that has ended has no role.
func (r *reader) again(ctx context.Context, m jetstream.Member) (jetstream.Member, *jetstream.Head, error) {
	newest, err := r.store.Tail(ctx, m.Conversation)
	if err != nil {
		return m, nil, unavailable("read a head", err)
	}
	tail := newest.Head()
	if m.Conversation.Kind() == subjects.KindDirect {
		return m, tail, nil
	}
	now, err := r.store.Member(ctx, m.Conversation, m.User)
	switch {
	case errors.Is(err, jetstream.ErrNotFound):
		m.Role = ""
		return m, tail, nil
	case err != nil:
		return m, tail, unavailable("read a membership", err)
	}
	return now, tail, nil
}

// looks is what is read of many conversations for one user.
type looks struct {
	ids     []subjects.Conversation // ascending
	heads   []*jetstream.Head       // in the order of ids
	members []jetstream.Member
	marks   jetstream.Marks
	titles  map[subjects.Conversation]string
}

// headOf returns a head that was read, or nil.
func (l *looks) headOf(c subjects.Conversation) *jetstream.Head {
	if i, found := slices.BinarySearch(l.ids, c); found {
		return l.heads[i]
	}
	return nil
}

// look reads what the list says of conversations: the heads first, and then everything else at once. Who has posted what is the head has read all, whatever
// the cursor says, so only the other cursors are read.
func (r *reader) look(ctx context.Context, u subjects.User, listed []jetstream.Member) (l looks, err error) {
	l.ids = make([]subjects.Conversation, len(listed))
	for i, m := range listed {
		l.ids[i] = m.Conversation
	}
	if l.heads, err = r.lists.Heads(ctx, l.ids); err != nil {
		return l, unavailable("read the heads", err)
	}
	var reading []subjects.Conversation
	for i, h := range l.heads {
		if h == nil {
			continue
		}
		if mayLag(h, u) {
			reading = append(reading, l.ids[i])
		}
	}
	var (
		failures [3]error
		all      sync.WaitGroup
	)
	if groups := grouped(l.ids); len(groups) > 0 {
		all.Go(func() { l.titles, failures[0] = r.lists.Titles(ctx, groups) })
		all.Go(func() { l.members, failures[1] = r.store.Confirm(ctx, u, listed) })
	} else {
		l.members = listed
	}
	if len(reading) > 0 {
		l.marks, failures[2] = r.lists.Marks(ctx, u, reading)
	}
	all.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		return l, unavailable("read the list", err)
	}
	return l, nil
}

// mayLag reports whether a user may have read less than a head: its newest entry is not the user's own post.
func mayLag(h *jetstream.Head, u subjects.User) bool {
	own, posted := h.Poster(u)
	return !posted || own.Seq < h.Seq
}

// cut returns at most limit of the members after a conversation, and whether there are more. They are in ascending order of conversation.
func cut(members []jetstream.Member, after subjects.Conversation, limit int) ([]jetstream.Member, bool) {
	start, found := slices.BinarySearchFunc(members, after, func(m jetstream.Member, c subjects.Conversation) int {
		switch {
		case m.Conversation < c:
			return -1
		case m.Conversation > c:
			return 1
		}
		return 0
	})
	if found {
		start++
	}
	members = members[start:]
	return members[:min(limit, len(members))], len(members) > limit
}

// grouped returns the conversations that have a record: all but the direct ones.
func grouped(ids []subjects.Conversation) []subjects.Conversation {
	return slices.DeleteFunc(slices.Clone(ids), func(c subjects.Conversation) bool { return c.Kind() == subjects.KindDirect })
}

// head is what a member sees of a conversation in the list. The newest entry is as it was stored: what would change it would be newer. A post
// marks the conversation as read for its author, so the mark is the higher one of the cursor and the own newest post.
func head(m jetstream.Member, tail *jetstream.Head, cursor jetstream.Cursor, title string) wire.ConversationHead {
	read := cursor.Read
	if own, ok := tail.Poster(m.User); ok && own.Seq > read.Seq {
		read = own
	}
	h := wire.ConversationHead{
		Conversation: m.Conversation,
		Kind:         m.Conversation.Kind(),
		Title:        title,
		Head:         wire.Head{Seq: tail.Seq, Count: tail.Count, Entry: tail.Payload},
		Read:         read,
		Role:         m.Role,
	}
	if h.Kind == subjects.KindDirect {
		h.Role = wire.RoleMember
	}
	if tail.Count > read.Count { // at more than one replica the head may be a moment older than the mark
		h.Unread = tail.Count - read.Count
	}
	return h
}

// check answers an edge with the heads that differ from those it saw. The tails of the partitions are read first: what is stored in between
// shows in both or in the heads alone, never in the tails alone, which would hide it from the next check.
func (r *reader) check(ctx context.Context, _ *functions.Call, in *wire.HeadCheck) (wire.HeadsChecked, error) {
	answer := wire.HeadsChecked{Heads: map[subjects.Conversation]wire.Seq{}}
	var err error
	if answer.Tails, err = r.store.Tails(ctx); err != nil {
		return answer, unavailable("read the tails", err)
	}
	if len(in.Heads) == 0 {
		return answer, nil
	}
	ids := make([]subjects.Conversation, 0, len(in.Heads))
	for c := range in.Heads {
		ids = append(ids, c)
	}
	seqs, err := r.lists.Seqs(ctx, ids)
	if err != nil {
		return answer, unavailable("read the heads", err)
	}
	for i, c := range ids {
		if in.Heads[c] != seqs[i] {
			answer.Heads[c] = seqs[i]
		}
	}
	return answer, nil
}
