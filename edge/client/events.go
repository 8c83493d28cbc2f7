package client

import (
	"encoding/json"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Event is something that the server said unasked, or that happened to the client. It is one of *wire.Entry, *wire.Receipt,
// *wire.PresenceChange, *wire.Signal, *wire.ConversationChange, *wire.HeadMoved, *wire.Resync, *wire.SessionChange, *wire.Draining,
// *Connected, *Disconnected, *Sent and *Missed.
type Event any

// Connected says that the client is signed in. Whatever happened while it was not is being fetched: views deliver it.
type Connected struct {
	Welcome wire.Welcome
}

// Disconnected says that the connection ended. Unless Final, the client connects again by itself.
type Disconnected struct {
	Err   error // why, such as a *CloseError
	Final bool  // the client has ended
}

// Sent says that a draft left the outbox: Posted is the server's answer, or Err says why it was refused for good. It also tells of drafts
// of an earlier process, which no Post waits for.
type Sent struct {
	Draft  Draft
	Posted wire.Posted
	Err    error
}

// Missed says that Events was full and this many events were dropped just before. Views miss nothing; receipts and presence are as
// of now after presence.get and receipts.who.
type Missed struct {
	Count int
}

// events decode the data of each event of the protocol.
var events = map[wire.Event]func(json.RawMessage) (Event, error){
	wire.EventEntry:        decodeEvent[wire.Entry],
	wire.EventReceipt:      decodeEvent[wire.Receipt],
	wire.EventPresence:     decodeEvent[wire.PresenceChange],
	wire.EventSignal:       decodeEvent[wire.Signal],
	wire.EventConversation: decodeEvent[wire.ConversationChange],
	wire.EventHead:         decodeEvent[wire.HeadMoved],
	wire.EventResync:       decodeEvent[wire.Resync],
	wire.EventSession:      decodeEvent[wire.SessionChange],
	wire.EventDraining:     decodeEvent[wire.Draining],
}

func decodeEvent[T any](data json.RawMessage) (Event, error) {
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, err
	}
	return v, nil
}

// Events returns the channel of events, which holds 256 or as many as WithEventBuffer says. When it is full, events are dropped, and a
// *Missed takes their place as soon as there is room, so a program that reads slowly, or not at all, holds up nothing. The channel is
// closed when the client has ended.
func (c *Client) Events() <-chan Event { return c.events }

// emit hands an event to the callback and the channel.
func (c *Client) emit(e Event) {
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if c.eventsClosed {
		return
	}
	if c.config.onEvent != nil {
		c.config.onEvent(e)
	}
	if c.missed > 0 {
		select {
		case c.events <- &Missed{Count: c.missed}:
			c.missed = 0
		default:
		}
	}
	if c.missed == 0 {
		select {
		case c.events <- e:
			return
		default:
		}
	}
	c.missed++
}

// receive acts on an event of the server, then hands it on. It runs on the goroutine that reads the connection and never waits.
func (c *Client) receive(l *link, name wire.Event, data json.RawMessage) {
	decode, known := events[name]
	if !known {
		return // of a later release
	}
	event, err := decode(data)
	if err != nil {
		c.config.log.Warn("event not understood", "event", string(name), "err", fmt.Sprintf("%.200v", err))
		return
	}
	switch e := event.(type) {
	case *wire.Entry:
		c.see(e.Conversation, e.Seq, e)
	case *wire.HeadMoved:
		c.see(e.Conversation, e.Seq, nil)
	case *wire.ConversationChange:
		if e.Change == wire.ChangeConversationRemoved {
			c.recheck(e.Conversation)
		}
	case *wire.Resync:
		poke(l.resync)
	case *wire.SessionChange:
		l.expires(e.ExpiresAt)
	case *wire.Draining:
		l.drain(e)
	}
	c.emit(event)
}

// see notes that a conversation reaches to seq, and gives a live entry to the conversation's view.
func (c *Client) see(id subjects.Conversation, seq wire.Seq, live *wire.Entry) {
	c.mu.Lock()
	if seq > c.seen[id] {
		c.seen[id] = seq
	}
	view := c.views[id]
	c.mu.Unlock()
	if view != nil {
		view.see(seq, live)
	}
}

// recheck makes the view of a conversation ask history, which says so when the user is no member any more.
func (c *Client) recheck(id subjects.Conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if view := c.views[id]; view != nil {
		view.check()
	}
}

// poke leaves a token in a channel of capacity one: whoever reads it looks at everything that happened until then.
func poke(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}
