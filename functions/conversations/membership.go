package conversations

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// A membership's record passes through these states. The two in between tell whoever finds them which step is left to do, and count
// as no membership everywhere.
//
//	no record → beginning (no role, joined 0) → member (a role, joined at its entry) → ending (no role) → no record
//
// A beginning is written before the entry so that the entry's client id can name it: the same addition once more finds the same
// beginning, and its entry is a duplicate; an addition after a removal finds another.
func isMember(m jetstream.Member) bool { return m.Role != "" }
func isEnding(m jetstream.Member) bool { return m.Role == "" && m.JoinedSeq > 0 }

// place is a user in a conversation, and the call that wants something of it.
type place struct {
	call         *functions.Call // nil where no call of a user is behind it
	conversation subjects.Conversation
	user         subjects.User
	by           subjects.User
}

// begin makes a user a member with an entry of its own, and returns the entry's seq. Somebody who is a member already stays what they are, and
// the answer is the seq at which they joined.
func (s *service) begin(ctx context.Context, at place, change wire.MemberChange, role wire.Role) (wire.Seq, error) {
	m, err := s.store.Member(ctx, at.conversation, at.user)
	switch {
	case errors.Is(err, jetstream.ErrNotFound):
		m = jetstream.Member{Conversation: at.conversation, User: at.user}
	case err != nil:
		return 0, err
	case isMember(m):
		return m.JoinedSeq, nil
	case isEnding(m):
		if err := s.endFirst(ctx, at, m); err != nil {
			return 0, err
		}
		m = jetstream.Member{Conversation: at.conversation, User: at.user}
	}
	if m.Revision == 0 {
		if m.Revision, err = s.store.PutMember(ctx, m); err != nil { // the beginning
			return 0, err
		}
	}
	entry, err := s.memberEntry(ctx, at, wire.MemberBody{User: at.user, Change: change, Role: role, By: at.by}, m.Revision, 0)
	if err != nil {
		return 0, err
	}
	// The read mark of a later member starts at the own entry, before anybody can see the membership.
	mark := wire.Mark{Seq: entry.Seq, Count: entry.Count}
	if _, err := s.store.RaiseCursor(ctx, at.conversation, at.user, jetstream.Cursor{Read: mark}); err != nil {
		return 0, err
	}
	m.Role, m.JoinedSeq = role, entry.Seq
	if _, err := s.store.PutMember(ctx, m); err != nil {
		return 0, err
	}
	s.tellAdded(ctx, m)
	return entry.Seq, nil
}

// endFirst finishes an ending that somebody began and did not finish, or does not finish at this moment, before a new membership begins.
func (s *service) endFirst(ctx context.Context, at place, m jetstream.Member) error {
	tail, err := s.store.Tail(ctx, at.conversation)
	if err != nil {
		return err
	}
	now, err := s.store.Member(ctx, at.conversation, at.user)
	if err != nil && !errors.Is(err, jetstream.ErrNotFound) {
		return err
	}
	if now.Revision != m.Revision {
		return fmt.Errorf("end a membership: %w", jetstream.ErrConflict)
	}
	_, err = s.end(ctx, at, now, tail.Epoch, wire.ChangeRemoved)
	return err
}

// end makes a member none and returns the seq of the entry that says so. From the first write on, nothing is decided in the user's favour; the
// entry ends what was decided before. The epoch was read before m was: an entry that is late, because somebody else finished this ending and
// perhaps let the user in again, is not stored.
func (s *service) end(ctx context.Context, at place, m jetstream.Member, epoch wire.Seq, change wire.MemberChange) (wire.Seq, error) {
	var err error
	if isMember(m) {
		m.Role = ""
		if m.Revision, err = s.store.PutMember(ctx, m); err != nil {
			return 0, err
		}
	}
	entry, err := s.memberEntry(ctx, at, wire.MemberBody{User: at.user, Change: change, By: at.by}, uint64(m.JoinedSeq), epoch)
	if err != nil {
		return 0, err
	}
	if err := s.store.RemoveMember(ctx, m); err != nil {
		return 0, err
	}
	s.tell(ctx, at.user, wire.UserEvent{Change: wire.ChangeConversationRemoved, Conversation: at.conversation})
	return entry.Seq, nil
}

// setRole gives a member another role. A role that the member has already only gets its entry once more, since a crash may have left it out.
func (s *service) setRole(ctx context.Context, at place, m jetstream.Member, role wire.Role) (wire.Seq, error) {
	body := wire.MemberBody{User: at.user, Change: wire.ChangeRole, Role: role, By: at.by}
	if restricts(m.Role, role) {
		m.Role = role
		var err error
		if m.Revision, err = s.store.PutMember(ctx, m); err != nil {
			return 0, err
		}
	}
	entry, err := s.memberEntry(ctx, at, body, m.Revision, 0)
	if err != nil {
		return 0, err
	}
	if m.Role != role {
		m.Role = role
		if _, err := s.store.PutMember(ctx, m); err != nil {
			return 0, err
		}
	}
	s.tell(ctx, at.user, wire.UserEvent{Change: wire.ChangeConversationUpdated, Conversation: at.conversation})
	return entry.Seq, nil
}

// memberEntry appends a member entry. The state that it follows from is part of the client id, so that the same change is stored once and a later
// one like it again. With an epoch the entry is stored only as of that one; ErrConflict otherwise.
func (s *service) memberEntry(ctx context.Context, at place, body wire.MemberBody, state uint64, epoch wire.Seq) (wire.Posted, error) {
	id := changeID("member", string(at.user), string(body.Change), string(body.Role), number(state))
	entry, err := s.append(ctx, at.call, wire.Append{Conversation: at.conversation, Kind: wire.KindMember, From: at.by, ClientID: id, Epoch: epoch}, body)
	if epoch > 0 && wire.CodeOf(err) == wire.Conflict {
		return entry, fmt.Errorf("%w: %w", jetstream.ErrConflict, err)
	}
	return entry, err
}

// append asks function send to put an entry into the log.
func (s *service) append(ctx context.Context, call *functions.Call, entry wire.Append, body any) (wire.Posted, error) {
	var err error
	if entry.Body, err = wire.Marshal(body); err != nil {
		return wire.Posted{}, fmt.Errorf("encode the body of a %s entry: %w", entry.Kind, err)
	}
	return functions.Invoke[wire.Append, wire.Posted](ctx, s.env.Caller, call, sender, senderAppend, entry)
}

// changeID returns a client id that is the same for the same parts and for no others.
func changeID(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// tellAdded tells the edges that hold a user of a conversation that came.
func (s *service) tellAdded(ctx context.Context, m jetstream.Member) {
	record, err1 := s.store.Conversation(ctx, m.Conversation)
	count, err2 := s.store.CountMembers(ctx, m.Conversation)
	if err := errors.Join(err1, err2); err != nil {
		// The membership stands: told of it with the least that is certain, the edge shows less than it might until it asks again.
		s.env.Log.WarnContext(ctx, "conversation not read", "conv", string(m.Conversation), "err", err)
		count = wire.SmallConversation + 1
	}
	s.tell(ctx, m.User, wire.UserEvent{
		Change: wire.ChangeConversationAdded, Conversation: m.Conversation,
		From: visibleFrom(m, record.Policy), Small: count <= wire.SmallConversation,
	})
}

// tell says something to the edges that hold a user. Nobody waits for it: an edge that misses it reads the memberships again when it
// reconnects, so what is stored stands even if this fails.
func (s *service) tell(ctx context.Context, u subjects.User, event wire.UserEvent) {
	data, err := wire.Marshal(event)
	if err == nil {
		err = s.env.NATS.Publish(subjects.UserEvents(u), data)
	}
	if err != nil {
		s.env.Log.WarnContext(ctx, "edges not told", "change", event.Change, "conv", string(event.Conversation), "err", err)
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// visibleFrom returns the first seq that a member sees.
func visibleFrom(m jetstream.Member, policy wire.Policy) wire.Seq {
	if policy.History == wire.HistoryStart {
		return 1
	}
	return m.JoinedSeq
}
