package edge

import (
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// signal tells the other members of a conversation something that is never stored, such as that the user is typing.
func (s *socket) signal(sess *session, data []byte, now time.Time) ([]byte, error) {
	var in wire.Signal
	if err := wire.Decode(data, &in); err != nil {
		return nil, err
	}
	if wait, ok := s.signals.take(s.edge.paces.signal, momentOf(now)); !ok {
		return nil, tooMany(wait)
	}
	user := sess.user.name
	if !s.edge.isMember(sess.user, in.Conversation) {
		return nil, wire.Errorf(wire.NotFound, "There is no such conversation.")
	}
	body, err := wire.Marshal(wire.Signal{Conversation: in.Conversation, User: user, Kind: in.Kind})
	if err != nil {
		return nil, err
	}
	message, err := wire.Marshal(wire.Signalled{Event: wire.EventSignal, User: user, Data: body})
	if err != nil {
		return nil, err
	}
	if err := s.edge.cfg.NATS.Publish(subjects.Signal(in.Conversation), message); err != nil {
		return nil, errNoNATS
	}
	return nil, nil
}

// isMember reports whether a user with a socket here is a member, as far as the edge knows.
func (e *Edge) isMember(u *user, id subjects.Conversation) bool {
	if id.Kind() == subjects.KindDirect {
		_, member := id.Peer(u.name)
		return member
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	_, member := u.placeLocked(id)
	return member
}
