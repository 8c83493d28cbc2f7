package send

import (
	"context"
	"errors"
	"fmt"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

var (
	errErased        = wire.Errorf(wire.Gone, "The message was erased.")
	errRecalled      = wire.Errorf(wire.Gone, "The message was recalled.")
	errRecalledTwice = wire.Errorf(wire.Conflict, "The message was recalled already.")
	errTooManyEdits  = wire.Errorf(wire.Conflict, "The message, or those around it, have too many edits and reactions to take another.")
)

// edit replaces the body of a message of one's own. Moderators recall; they do not put words into others' mouths.
func (s *sender) edit(ctx context.Context, call *functions.Call, in *wire.Edit) (wire.Posted, error) {
	at := seat{in.Conversation, call.User}
	draft := jetstream.Draft{Kind: wire.KindEdit, From: call.User, ClientID: in.ClientID, Target: in.Seq, Body: in.Body}
	return s.amend(ctx, at, draft, func(by standing, author subjects.User) error {
		if author != call.User {
			return wire.Errorf(wire.Forbidden, "Only its author edits a message.")
		}
		return s.posts(by)
	})
}

// recall takes a message back: one's own, or as an owner or moderator anybody's.
func (s *sender) recall(ctx context.Context, call *functions.Call, in *wire.Recall) (wire.Posted, error) {
	at := seat{in.Conversation, call.User}
	draft := jetstream.Draft{Kind: wire.KindRecall, From: call.User, ClientID: in.ClientID, Target: in.Seq}
	posted, err := s.amend(ctx, at, draft, func(by standing, author subjects.User) error {
		if author != call.User && !by.role.Moderates() {
			return wire.Errorf(wire.Forbidden, "Only its author, an owner or a moderator recalls a message.")
		}
		return nil
	})
	if err == errRecalled { // and no other error of its code
		return posted, errRecalledTwice
	}
	return posted, err
}

// react adds or removes a reaction. Every member may, the readers of a channel too.
func (s *sender) react(ctx context.Context, call *functions.Call, in *wire.React) (wire.Posted, error) {
	body, err := wire.Marshal(wire.ReactionBody{Emoji: in.Emoji, Remove: in.Remove})
	if err != nil {
		return wire.Posted{}, fmt.Errorf("encode a reaction: %w", err)
	}
	at := seat{in.Conversation, call.User}
	draft := jetstream.Draft{Kind: wire.KindReaction, From: call.User, ClientID: in.ClientID, Target: in.Seq, Body: body}
	return s.amend(ctx, at, draft, func(standing, subjects.User) error { return nil })
}

// amend appends an entry that changes an earlier message, if the user sees that message and may is nil. That the target was not recalled
// before is for the store to see, which knows a repeat of what was stored before the recall.
func (s *sender) amend(ctx context.Context, at seat, draft jetstream.Draft, may func(by standing, author subjects.User) error) (wire.Posted, error) {
	if err := s.inWindow(draft.ClientID); err != nil {
		return wire.Posted{}, err
	}
	var author subjects.User // of the target, once it was read; it never changes
	appended, err := s.put(ctx, entry{
		conversation: at.conversation,
		by:           at.user,
		draft:        draft,
		allow: func(ctx context.Context, tail jetstream.Tail) error {
			by, err := s.standing(ctx, at, tail)
			if err != nil {
				return err
			}
			if draft.Target < by.from || draft.Target > tail.Seq {
				return errNoEntry
			}
			if author == "" {
				if author, err = s.author(ctx, at.conversation, draft.Target); err != nil {
					return err
				}
			}
			return may(by, author)
		},
	})
	if err != nil {
		return wire.Posted{}, err
	}
	return posted(at.conversation, appended), nil
}

// author returns who wrote a message, also one that was recalled.
func (s *sender) author(ctx context.Context, c subjects.Conversation, seq wire.Seq) (subjects.User, error) {
	e, err := s.store.Entry(ctx, c, seq)
	switch {
	case errors.Is(err, jetstream.ErrNoEntry):
		return "", errNoEntry
	case errors.Is(err, jetstream.ErrErased):
		return "", errErased
	case err != nil:
		return "", unavailable(fmt.Errorf("read entry %d of %s: %w", seq, c, err))
	case e.Kind != wire.KindMessage:
		return "", errNoEntry
	}
	return e.From, nil
}
