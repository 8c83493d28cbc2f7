package edge

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Lengths of the channels that the connection's reader fills. When one is full, what comes is dropped, and the edge checks everything anew.
const (
	liveLength     = 16_384
	signalLength   = 4096
	userLength     = 16_384
	presenceLength = 16_384
)

// feeds are the channels that all subscriptions of one sort share: a channel costs a subscription 280 bytes, a callback 3 KB and a goroutine.
type feeds struct {
	live, signals, users, presence feed
}

type feed struct {
	name     string
	messages chan *nats.Msg
}

func newFeeds() feeds {
	make := func(name string, length int) feed { return feed{name, make(chan *nats.Msg, length)} }
	return feeds{make("live", liveLength), make("signals", signalLength), make("users", userLength), make("presence", presenceLength)}
}

// drain handles messages one after another until ctx ends. The connection drops a message only while the channel is full, and then it is
// still full, or one short of it, when the next is taken: overflow is called whenever a message may have been dropped.
func (f *feed) drain(ctx context.Context, handle func(*nats.Msg), overflow func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-f.messages:
			if len(f.messages) >= cap(f.messages)-1 {
				overflow()
			}
			handle(msg)
		}
	}
}

// onUserEvent applies what functions tell of a user, where he has sockets here.
func (e *Edge) onUserEvent(msg *nats.Msg) {
	name, err := subjects.ParseUserEvents(msg.Subject)
	u := e.users.find(name)
	if u == nil && err == nil {
		return
	}
	var event wire.UserEvent
	if err == nil {
		err = json.Unmarshal(msg.Data, &event)
	}
	if err != nil {
		e.log.Warn("user event cannot be read", "err", err)
		return
	}
	switch event.Change {
	case wire.ChangeRevoked:
		if event.Revocation != nil && event.Revocation.User == name {
			e.revoke(*event.Revocation)
		}
	case wire.ChangeMarks:
		if event.Receipt != nil {
			u.event(wire.EventReceipt, event.Receipt)
		}
	case wire.ChangeConversationAdded, wire.ChangeConversationRemoved, wire.ChangeConversationUpdated:
		if event.Conversation == "" {
			return
		}
		u.event(wire.EventConversation, wire.ConversationChange{Conversation: event.Conversation, Change: event.Change})
		e.membershipEvent(u, event)
	}
}

// onSignal passes a signal or a receipt on to the other members of its conversation.
func (e *Edge) onSignal(msg *nats.Msg) {
	id, err := subjects.ParseSignal(msg.Subject)
	var said wire.Signalled
	if err == nil {
		err = json.Unmarshal(msg.Data, &said)
	}
	if err != nil || (said.Event != wire.EventSignal && said.Event != wire.EventReceipt) {
		e.log.Warn("signal cannot be read", "err", err)
		return
	}
	frame := eventFrame(said.Event, said.Data)
	if a, b, direct := id.Pair(); direct {
		for _, name := range []subjects.User{a, b} {
			if u := e.users.find(name); u != nil && name != said.User {
				u.push(frame)
			}
		}
		return
	}
	if c := e.conversations.find(id); c != nil {
		c.signal(said.User, frame)
	}
}
