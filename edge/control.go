package edge

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// listenControl answers the requests of operators until the edge ends. drain begins the end of the edge.
func (e *Edge) listenControl(drain func()) error {
	requests := make(chan *nats.Msg, 16) // beyond it requests are dropped, and whoever asked asks again
	var subs []*nats.Subscription
	for _, verb := range []subjects.EdgeVerb{subjects.EdgeDrain, subjects.EdgeKick, subjects.EdgeStats} {
		sub, err := e.cfg.NATS.ChanSubscribe(subjects.EdgeRequest(e.cfg.Name, verb), requests)
		if err != nil {
			return err
		}
		subs = append(subs, sub)
	}
	relay, err := e.caller.Relay(string(e.cfg.Name))
	if err != nil {
		return err
	}
	e.start(relay.Run)
	e.start(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				for _, sub := range subs {
					_ = sub.Unsubscribe() // fails only on a closed connection
				}
				return
			case msg := <-requests:
				e.control(msg, drain)
			}
		}
	})
	return nil
}

func (e *Edge) control(msg *nats.Msg, drain func()) {
	var answer any = wire.Empty{}
	switch msg.Subject {
	case subjects.EdgeRequest(e.cfg.Name, subjects.EdgeDrain):
		drain()
	case subjects.EdgeRequest(e.cfg.Name, subjects.EdgeStats):
		answer = wire.EdgeStats{
			Edge: e.cfg.Name, Connections: int(e.count.Load()), Users: e.users.count(), Conversations: e.conversations.count(), Draining: e.draining.Load(),
		}
	default:
		var kick wire.Kick
		if err := json.Unmarshal(msg.Data, &kick); err != nil || kick.User == "" {
			answer = wire.Errorf(wire.BadData, "user is missing or not of the allowed form.")
			break
		}
		answer = wire.Kicked{Connections: e.kick(kick)}
	}
	body, err := wire.Marshal(answer)
	if err == nil && msg.Reply != "" {
		err = msg.Respond(body)
	}
	if err != nil {
		e.log.Warn("request not answered", "err", err)
	}
}

// kick closes sockets of a user and returns how many. It revokes nothing: a client may come back.
func (e *Edge) kick(k wire.Kick) int {
	u := e.users.find(k.User)
	if u == nil {
		return 0
	}
	n := 0
	for _, s := range u.list() {
		sess := s.session.Load()
		if (k.Device == "" || k.Device == sess.device) && (k.Session == "" || k.Session == sess.id) {
			s.close(wire.CloseResync)
			n++
		}
	}
	return n
}
