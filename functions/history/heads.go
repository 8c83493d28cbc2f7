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
	listed, err := r.store.Listed(ctx, call.User)
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
	for _, m := range l.members {
		tail, begun := l.tails[m.Conversation]
		if begun && tail.Seq < m.JoinedSeq { // from a replica that was behind, or from before the user came
			if m, tail, err = r.again(ctx, m); err != nil {
				return answer, err
			}
		}
		if begun && takesPart(m) && tail.Seq >= m.JoinedSeq {
			answer.Conversations = append(answer.Conversations, head(m, tail, l.cursors[m.Conversation], l.records[m.Conversation].Title))
		}
	}
	return fitHeads(answer), nil
}

// takesPart reports whether a membership is one: not about to begin, and not about to end.
func takesPart(m jetstream.Member) bool {
	return m.Role != "" || m.Conversation.Kind() == subjects.KindDirect
}

// again reads a head from the leader, and then the membership; one that has ended has no role.
func (r *reader) again(ctx context.Context, m jetstream.Member) (jetstream.Member, jetstream.Tail, error) {
	tail, err := r.store.Tail(ctx, m.Conversation)
	if err != nil {
		return m, tail, unavailable("read a head", err)
	}
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
	tails   map[subjects.Conversation]jetstream.Tail
	members []jetstream.Member
	cursors map[subjects.Conversation]jetstream.Cursor
	records map[subjects.Conversation]jetstream.Conversation
}

// look reads what the list says of conversations: the heads first, and then everything else at once. Who has posted what is the head has read all, whatever
// the cursor says, so only the other cursors are read.
func (r *reader) look(ctx context.Context, u subjects.User, listed []jetstream.Member) (l looks, err error) {
	ids := make([]subjects.Conversation, len(listed))
	for i, m := range listed {
		ids[i] = m.Conversation
	}
	if l.tails, err = r.store.Heads(ctx, ids); err != nil {
		return l, unavailable("read the heads", err)
	}
	var reading []subjects.Conversation
	for c, tail := range l.tails {
		if own, ok := tail.Poster(u); !ok || own.Seq < tail.Seq {
			reading = append(reading, c)
		}
	}
	var (
		failures [3]error
		all      sync.WaitGroup
	)
	all.Go(func() { l.cursors, failures[0] = r.store.Cursors(ctx, u, reading) })
	all.Go(func() { l.records, failures[1] = r.store.Conversations(ctx, grouped(ids)) })
	l.members, failures[2] = r.store.Confirm(ctx, u, listed)
	all.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		return l, unavailable("read the list", err)
	}
	return l, nil
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
func head(m jetstream.Member, tail jetstream.Tail, cursor jetstream.Cursor, title string) wire.ConversationHead {
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
	tails, err := r.store.Heads(ctx, ids)
	if err != nil {
		return answer, unavailable("read the heads", err)
	}
	for c, seen := range in.Heads {
		if now := tails[c].Seq; now != seen {
			answer.Heads[c] = now
		}
	}
	return answer, nil
}
