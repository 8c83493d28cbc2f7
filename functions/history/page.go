package history

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// view is what a user may see of a conversation.
type view struct {
	from wire.Seq // the first visible seq
}

// page answers with a part of a conversation as its member sees it. What the membership allows is read after the tail: what was stored after a removal may
// be in the store by then, but not in the answer. Who was not seen in the conversation yet is looked at before as well: to others, one in use must not
// take another time to refuse them than one that does not exist.
func (r *reader) page(ctx context.Context, call *functions.Call, in *wire.PageQuery) (json.RawMessage, error) {
	if at := (seat{in.Conversation, call.User}); !r.seats.known(at) {
		if _, err := r.view(ctx, in.Conversation, call.User); err != nil {
			return nil, err
		}
		r.seats.add(at)
	}
	var refusal error
	page, err := r.pages.Page(ctx, *in, func(ctx context.Context) (wire.Seq, error) {
		seen, err := r.view(ctx, in.Conversation, call.User)
		refusal = err
		return seen.from, err
	})
	switch {
	case refusal != nil:
		return nil, refusal
	case errors.Is(err, jetstream.ErrErased):
		return nil, wire.Errorf(wire.Gone, "The entries were erased.")
	case err != nil:
		return nil, unavailable("read a page", err)
	}
	if page, err = fit(page, in); err != nil {
		return nil, err
	}
	return encodePage(page), nil
}

// encodePage writes a page as JSON. Its entries stand in the answer as they are: they are compact JSON already.
func encodePage(page wire.Page) json.RawMessage {
	size := 128
	for _, e := range page.Entries {
		size += len(e) + 1
	}
	data := append(make([]byte, 0, size), `{"entries":[`...)
	for i, e := range page.Entries {
		if i > 0 {
			data = append(data, ',')
		}
		data = append(data, e...)
	}
	data = strconv.AppendUint(append(data, `],"first":`...), uint64(page.First), 10)
	data = strconv.AppendUint(append(data, `,"last":`...), uint64(page.Last), 10)
	data = strconv.AppendBool(append(data, `,"more_before":`...), page.MoreBefore)
	data = strconv.AppendBool(append(data, `,"more_after":`...), page.MoreAfter)
	return append(data, '}')
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
	seen := view{from: member.JoinedSeq}
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
	if r.seats.known(seat{c, u}) { // a user that was there is for good
		return view{from: 1}, nil
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
