package send

import (
	"context"
	"fmt"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// post appends a message.
func (s *sender) post(ctx context.Context, call *functions.Call, in *wire.Post) (wire.Posted, error) {
	e, err := s.message(call, in)
	if err != nil {
		return wire.Posted{}, err
	}
	appended, err := s.put(ctx, e)
	if err != nil {
		return wire.Posted{}, err
	}
	if appended.Entry.Seq == 1 {
		s.tellBegun(ctx, e.conversation)
	}
	return posted(e.conversation, appended), nil
}

// message returns what a post appends.
func (s *sender) message(call *functions.Call, in *wire.Post) (entry, error) {
	conversation := in.Conversation
	if in.To != "" {
		if in.To == call.User {
			return entry{}, wire.Errorf(wire.BadData, "to is yourself; a direct conversation needs two users.")
		}
		var err error
		if conversation, err = subjects.Direct(call.User, in.To); err != nil {
			return entry{}, wire.Errorf(wire.BadID, "to is not of the allowed form.")
		}
	}
	if err := s.inWindow(in.ClientID); err != nil {
		return entry{}, err
	}
	at := seat{conversation, call.User}
	return entry{
		conversation: conversation,
		by:           call.User,
		draft:        jetstream.Draft{Kind: wire.KindMessage, From: call.User, ClientID: in.ClientID, Body: in.Body, ReplyTo: in.ReplyTo},
		allow: func(ctx context.Context, tail jetstream.Tail) error {
			return s.mayPost(ctx, at, tail, in)
		},
	}, nil
}

// beginPost begins a post to which nothing needs to be read, so that it needs no goroutine while the store works: the tail and the author's standing are
// remembered, and allow it. What a remembered tail refuses is decided by post, as is what the first try leaves open.
func (s *sender) beginPost(ctx context.Context, call *functions.Call, in *wire.Post, ready func(functions.Handler, bool)) bool {
	e, err := s.message(call, in)
	if err != nil {
		return false
	}
	tail, known := s.remembered(e)
	if !known || tail.Seq == 0 {
		return false
	}
	by, known := s.decided(seat{e.conversation, e.by}, tail)
	if !known || s.allowed(by, tail, in) != nil {
		return false
	}
	most := tryTimeout
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)-answerMargin)
	}
	return most > 0 && s.store.Begin(e.conversation, tail, e.draft, most, func(appended jetstream.Appended, err error) {
		ready(s.counted(func(ctx context.Context, _ *functions.Call) (any, error) {
			if err == nil {
				s.settle(e.conversation, appended, false)
				return posted(e.conversation, appended), nil
			}
			appended, err := s.afterAll(ctx, e, tail, err)
			if err != nil {
				return nil, err
			}
			return posted(e.conversation, appended), nil
		}), err != nil)
	})
}

// afterAll goes on with an entry whose first try, behind a remembered tail, failed.
func (s *sender) afterAll(ctx context.Context, e entry, tail jetstream.Tail, failure error) (jetstream.Appended, error) {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	t := tries{tail: tail, known: true}
	if err := s.failed(ctx, e, &t, failure); err != nil {
		return jetstream.Appended{}, err
	}
	return s.goOn(ctx, e, &t)
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
	return s.allowed(standing, tail, in)
}

// allowed decides about a message of somebody whose standing is known.
func (s *sender) allowed(standing standing, tail jetstream.Tail, in *wire.Post) error {
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
