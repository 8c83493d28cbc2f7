package send

import (
	"context"
	"errors"
	"fmt"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The sentences are the same for what does not exist and for what must not be seen.
var (
	errNoConversation = wire.Errorf(wire.NotFound, "There is no such conversation, or you are not in it.")
	errNoUser         = wire.Errorf(wire.NotFound, "There is no such user.")
	errNoEntry        = wire.Errorf(wire.NotFound, "There is no such message in the conversation.")
)

// seat is a user's place in a conversation.
type seat struct {
	conversation subjects.Conversation
	user         subjects.User
}

// standing is the decision that somebody is a member, as of an epoch. There is none for those who are not: only a yes may be remembered,
// because what permits changes the log first and the bucket second.
type standing struct {
	role  wire.Role
	muted *wire.Time // may not post until then
	from  wire.Seq   // the first seq that the user sees
	epoch wire.Seq
}

// standing decides whether a user is a member as of a tail; errNoConversation otherwise. The tail was read before the bucket is read here, from
// its leader; and what restricts changes the bucket before the log. So a restriction that is not in this answer is not in the log either at
// the time of the tail: its entry will carry a newer epoch, the conditional append to this tail will fail, and the next try decides anew.
func (s *sender) standing(ctx context.Context, at seat, tail jetstream.Tail) (standing, error) {
	if _, ok := at.conversation.Peer(at.user); !ok && at.conversation.Kind() == subjects.KindDirect {
		return standing{}, errNoConversation
	}
	if known, ok := s.decided(at, tail); ok {
		return known, nil
	}
	member, err := s.store.Member(ctx, at.conversation, at.user)
	if err != nil && !errors.Is(err, jetstream.ErrNotFound) {
		return standing{}, unavailable(fmt.Errorf("read the membership in %s: %w", at.conversation, err))
	}
	// A record without a role is a membership that is about to begin or to end. A conversation without an entry is still being made.
	if member.Role == "" || tail.Seq == 0 {
		s.decisions.drop(at)
		return standing{}, errNoConversation
	}
	decided := standing{role: member.Role, muted: member.Muted, from: member.JoinedSeq, epoch: tail.Epoch}
	if decided.from > 1 {
		conversation, err := s.store.Conversation(ctx, at.conversation)
		if err != nil {
			return standing{}, unavailable(fmt.Errorf("read %s: %w", at.conversation, err))
		}
		if conversation.Policy.History == wire.HistoryStart {
			decided.from = 1
		}
	}
	s.decisions.put(at, decided)
	return decided, nil
}

// decided returns a standing that follows from the conversation's name, or was decided as of the same epoch.
func (s *sender) decided(at seat, tail jetstream.Tail) (standing, bool) {
	if _, direct := at.conversation.Peer(at.user); direct {
		return standing{role: wire.RoleMember, from: 1, epoch: tail.Epoch}, true
	}
	if known, ok := s.decisions.get(at); ok && known.epoch == tail.Epoch {
		return known, true
	}
	return standing{}, false
}

// unavailable gives an error of the store the code that clients see. It is marked unknown: a write may have taken effect.
func unavailable(err error) error {
	return fmt.Errorf("%w (%w)", wire.Errorf(wire.StorageUnavailable, "The store did not confirm in time; send it again with the same client_id."), err)
}

// posts decides whether the user may post now.
func (s *sender) posts(by standing) error {
	if !by.role.Posts() {
		return wire.Errorf(wire.Forbidden, "Readers do not post here; ask an owner for the role of a member.")
	}
	if by.muted != nil && s.now().Before(by.muted.Time) {
		return wire.Errorf(wire.Forbidden, "You may not post here before %v.", by.muted)
	}
	return nil
}
