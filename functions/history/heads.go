package history

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// heads answers with the caller's conversations that have an entry, in ascending order of id. The memberships are read once more after the
// heads, and only what both readings agree on is answered: so no head is newer than a removal.
func (r *reader) heads(ctx context.Context, call *functions.Call, in *wire.HeadsQuery) (wire.Heads, error) {
	answer := wire.Heads{Conversations: []wire.ConversationHead{}}
	members, err := r.memberships(ctx, call.User)
	if err != nil {
		return answer, err
	}
	members, more := cut(members, in.After, in.Limit)
	if len(members) == 0 {
		return answer, nil
	}
	if more {
		answer.Next = members[len(members)-1].Conversation
	}
	l, err := r.look(ctx, call.User, members)
	if err != nil {
		return answer, err
	}
	now, err := r.memberships(ctx, call.User)
	if err != nil {
		return answer, err
	}
	still := make(map[subjects.Conversation]jetstream.Member, len(now))
	for _, m := range now {
		still[m.Conversation] = m
	}
	for _, m := range members {
		tail, begun := l.tails[m.Conversation]
		if after, ok := still[m.Conversation]; !begun || !ok || after.JoinedSeq != m.JoinedSeq {
			continue
		}
		answer.Conversations = append(answer.Conversations, head(m, tail, l.cursors[m.Conversation], l.records[m.Conversation].Title))
	}
	return fitHeads(answer), nil
}

// looks is what is read of many conversations for one user.
type looks struct {
	tails   map[subjects.Conversation]jetstream.Tail
	cursors map[subjects.Conversation]jetstream.Cursor
	records map[subjects.Conversation]jetstream.Conversation
}

// look reads what the list says of conversations, all at once.
func (r *reader) look(ctx context.Context, u subjects.User, members []jetstream.Member) (l looks, err error) {
	ids := make([]subjects.Conversation, len(members))
	for i, m := range members {
		ids[i] = m.Conversation
	}
	var (
		failures [3]error
		all      sync.WaitGroup
	)
	all.Go(func() { l.tails, failures[0] = r.store.Heads(ctx, ids) })
	all.Go(func() { l.cursors, failures[1] = r.store.Cursors(ctx, u, ids) })
	all.Go(func() { l.records, failures[2] = r.store.Conversations(ctx, grouped(ids)) })
	all.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		return l, unavailable("read the list", err)
	}
	for _, m := range members {
		if tail, begun := l.tails[m.Conversation]; begun && tail.Seq < m.JoinedSeq { // from a replica that was behind
			if l.tails[m.Conversation], err = r.store.Tail(ctx, m.Conversation); err != nil {
				return l, unavailable("read a head", err)
			}
		}
	}
	return l, nil
}

// memberships returns the conversations of a user, without those that the user is only about to be in or not to be in any more.
func (r *reader) memberships(ctx context.Context, u subjects.User) ([]jetstream.Member, error) {
	members, err := r.store.Memberships(ctx, u)
	if err != nil {
		return nil, unavailable("read the memberships", err)
	}
	return slices.DeleteFunc(members, func(m jetstream.Member) bool {
		return m.Role == "" && m.Conversation.Kind() != subjects.KindDirect
	}), nil
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
