package history

import (
	"context"
	"errors"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// viewTries bounds how often a page is read again because the membership changed meanwhile.
const viewTries = 4

// view is what a user may see of a conversation.
type view struct {
	from     wire.Seq // the first visible seq
	revision uint64   // of the membership; 0 in direct conversations, where nothing changes it
}

// page answers with a part of a conversation as its member sees it. The membership is read before and after the entries: what was stored
// after a removal may be in the second of these moments' store, but not in the answer.
func (r *reader) page(ctx context.Context, call *functions.Call, in *wire.PageQuery) (wire.Page, error) {
	seen, err := r.view(ctx, in.Conversation, call.User)
	if err != nil {
		return wire.Page{}, err
	}
	for range viewTries {
		page, err := r.store.Page(ctx, *in, seen.from)
		switch {
		case errors.Is(err, jetstream.ErrErased):
			return wire.Page{}, wire.Errorf(wire.Gone, "The entries were erased.")
		case err != nil:
			return wire.Page{}, unavailable("read a page", err)
		}
		if seen.revision == 0 {
			return fit(page, in)
		}
		now, err := r.view(ctx, in.Conversation, call.User)
		if err != nil {
			return wire.Page{}, err
		}
		if now == seen {
			return fit(page, in)
		}
		seen = now
	}
	return wire.Page{}, wire.RetryAfter(wire.Unavailable, 0, "The membership changes too often; try again.")
}

// view decides what a user may see, from the leader; errNoConversation for nothing.
func (r *reader) view(ctx context.Context, c subjects.Conversation, u subjects.User) (view, error) {
	if c.Kind() == subjects.KindDirect {
		return r.directView(ctx, c, u)
	}
	member, err := r.store.Member(ctx, c, u)
	if err != nil && !errors.Is(err, jetstream.ErrNotFound) {
		return view{}, unavailable("read a membership", err)
	}
	if member.Role == "" { // none, or one that is about to begin or to end
		return view{}, errNoConversation
	}
	seen := view{from: member.JoinedSeq, revision: member.Revision}
	if seen.from <= 1 {
		return seen, nil
	}
	record, err := r.store.Conversation(ctx, c)
	if err != nil {
		return view{}, unavailable("read a conversation", err)
	}
	if record.Policy.History == wire.HistoryStart {
		seen.from = 1
	}
	return seen, nil
}

// directView is view for a direct conversation: the id says who takes part, if the other one exists.
func (r *reader) directView(ctx context.Context, c subjects.Conversation, u subjects.User) (view, error) {
	peer, ok := c.Peer(u)
	if !ok {
		return view{}, errNoConversation
	}
	switch exists, err := r.store.UserExists(ctx, peer); {
	case err != nil:
		return view{}, unavailable("read a user", err)
	case !exists:
		return view{}, errNoConversation
	}
	return view{from: 1}, nil
}

// fill answers an edge with entries as they were stored.
func (r *reader) fill(ctx context.Context, _ *functions.Call, in *wire.FillQuery) (wire.Filled, error) {
	filled, err := r.store.Fill(ctx, in.Conversation, in.After, in.Limit)
	if err != nil {
		return wire.Filled{}, unavailable("fill a hole", err)
	}
	return fitFilled(filled)
}
