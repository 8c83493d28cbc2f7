package send

import (
	"context"
	"fmt"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// post appends a message.
func (s *sender) post(ctx context.Context, call *functions.Call, in *wire.Post) (wire.Posted, error) {
	conversation := in.Conversation
	if in.To != "" {
		if in.To == call.User {
			return wire.Posted{}, wire.Errorf(wire.BadData, "to is yourself; a direct conversation needs two users.")
		}
		var err error
		if conversation, err = subjects.Direct(call.User, in.To); err != nil {
			return wire.Posted{}, wire.Errorf(wire.BadID, "to is not of the allowed form.")
		}
	}
	if err := s.inWindow(in.ClientID); err != nil {
		return wire.Posted{}, err
	}
	at := seat{conversation, call.User}
	appended, err := s.put(ctx, entry{
		conversation: conversation,
		by:           call.User,
		draft:        jetstream.Draft{Kind: wire.KindMessage, From: call.User, ClientID: in.ClientID, Body: in.Body, ReplyTo: in.ReplyTo},
		allow: func(ctx context.Context, tail jetstream.Tail) error {
			return s.mayPost(ctx, at, tail, in)
		},
	})
	if err != nil {
		return wire.Posted{}, err
	}
	if appended.Entry.Seq == 1 {
		s.tellBegun(ctx, conversation)
	}
	return posted(conversation, appended), nil
}

// tellBegun tells the edges of both users of a direct conversation that there is one. They hear its entries without that; but where the live copy
// of the first one is lost, nothing else would make them look.
func (s *sender) tellBegun(ctx context.Context, c subjects.Conversation) {
	a, b, _ := c.Pair()
	event, err := wire.Marshal(wire.UserEvent{Change: wire.ChangeConversationAdded, Conversation: c, From: 1, Small: true})
	for _, u := range []subjects.User{a, b} {
		if err == nil {
			err = s.nats.Publish(subjects.UserEvents(u), event)
		}
	}
	if err != nil {
		s.log.WarnContext(ctx, "edges not told", "conv", string(c), "err", err)
	}
}

// mayPost decides about a message. Of the entry that it replies to it looks at the seq alone: an erased message can still be replied to.
func (s *sender) mayPost(ctx context.Context, at seat, tail jetstream.Tail, in *wire.Post) error {
	standing, err := s.standing(ctx, at, tail)
	if err != nil {
		return err
	}
	if tail.Seq == 0 {
		if err := s.begin(ctx, at, in.To != ""); err != nil {
			return err
		}
	}
	if err := s.posts(standing); err != nil {
		return err
	}
	if in.ReplyTo > 0 && (in.ReplyTo > tail.Seq || in.ReplyTo < standing.from) {
		return errNoEntry
	}
	return nil
}

// begin makes a direct conversation listed for both of its users before it has an entry, if the other one exists. The other kinds of
// conversation have an entry from the beginning.
func (s *sender) begin(ctx context.Context, at seat, byName bool) error {
	peer, direct := at.conversation.Peer(at.user)
	if !direct {
		return nil
	}
	switch exists, err := s.store.UserExists(ctx, peer); {
	case err != nil:
		return unavailable(fmt.Errorf("read a user: %w", err))
	case !exists && byName:
		return errNoUser
	case !exists:
		return errNoConversation
	}
	for _, u := range []subjects.User{at.user, peer} {
		listing := jetstream.Member{Conversation: at.conversation, User: u, Role: wire.RoleMember, JoinedSeq: 1}
		if err := s.store.PutListing(ctx, listing); err != nil {
			return unavailable(fmt.Errorf("list %s: %w", at.conversation, err))
		}
	}
	return nil
}

// inWindow refuses a client id that says itself that it is too old for a repeat of it to be recognised. A first try with such an id cannot be told from
// a late repeat, so it is refused as well. An id from the future, from a clock that is ahead, is taken.
func (s *sender) inWindow(clientID string) error {
	if at, ok := mintedAt(clientID); ok && s.now().Sub(at) > s.oldest {
		return wire.Errorf(wire.RetryWindowExpired, "This client_id is older than %v; look in history whether it was stored, then send with a new one.", s.oldest)
	}
	return nil
}
