package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func badFrames(t *testing.T, target Target) {
	ada := register(t, target, "ada")
	answered := func(message, id string, code wire.Code) {
		t.Helper()
		ada.mu.Lock()
		before := len(ada.events)
		ada.mu.Unlock()
		ada.raw(message)
		deadline := time.After(patience)
		for {
			ada.mu.Lock()
			fresh, news := ada.events[before:], ada.news
			ada.mu.Unlock()
			for _, frame := range fresh {
				if frame.Error != nil {
					if frame.Error.Code != code || string(frame.ID) != id {
						t.Errorf("%s is answered %s %v, want %s %s", message, frame.ID, frame.Error, id, code)
					}
					return
				}
			}
			select {
			case <-news:
			case <-deadline:
				t.Fatalf("%s is not answered", message)
			}
		}
	}
	answered(`{"id":71,"call":"ping","call":"ping"}`, "71", wire.BadFrame)
	answered(`{"id":72,"call":"ping"} {}`, "72", wire.BadFrame)
	answered(`{"id":73,"call":"ping","data":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+`}`, "73", wire.BadFrame)
	answered(`not json`, "", wire.BadFrame)
	answered(`{"id":"\ud800","call":"ping"}`, "", wire.BadFrame)
	answered(`{"id":76,"call":"no.such"}`, "76", wire.UnknownCall)
	ada.raw("{\"id\":80,\"call\":\"ping\"}\n\n{\"id\":81,\"call\":\"ping\"}\n")
	call[wire.Empty](ada, wire.CallPing, wire.Empty{})
	for range 10 { // some were sent above; when enough have come, a write fails
		ada.write.Lock()
		_ = ada.socket.WriteMessage(websocket.TextMessage, []byte("{"))
		ada.write.Unlock()
	}
	if code := ada.ended(); code != wire.CloseBadFrames {
		t.Errorf("ten bad lines closed with %d, want %d", code, wire.CloseBadFrames)
	}
}

// services returns the names of confab's micro services.
func services() map[string]bool {
	return map[string]bool{"im-auth": true, "im-send": true, "im-history": true, "im-conversations": true, "im-receipts": true, "im-presence": true}
}

// described asks the micro services that are up what they are, and takes those that answer out of wanted.
func described(t *testing.T, nc *nats.Conn, wanted map[string]bool) {
	t.Helper()
	inbox, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inbox.Unsubscribe() }() // fails only on a closed connection
	if err := nc.PublishRequest("$SRV.INFO", inbox.Subject, nil); err != nil {
		t.Fatal(err)
	}
	for len(wanted) > 0 {
		msg, err := inbox.NextMsg(time.Second)
		if err != nil {
			return // all that are up have answered
		}
		var info micro.Info
		if err := json.Unmarshal(msg.Data, &info); err != nil {
			t.Fatal(err)
		}
		if len(info.Description) == 0 || len(info.Description) > 30 || len(info.Endpoints) == 0 {
			t.Errorf("service %s is described by %q with %d endpoints", info.Name, info.Description, len(info.Endpoints))
		}
		delete(wanted, info.Name)
	}
}

func inspection(t *testing.T, target Target) {
	nc := target.operator(t)
	ada := register(t, target, "ada")
	for wanted, deadline := services(), time.Now().Add(patience); len(wanted) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("these services do not answer: %v", wanted)
		}
		// Functions may sleep: somebody who uses them all wakes them, and those that sleep again before they are asked are woken once more.
		posted := ada.say("g.general", "is everybody there?")
		call[wire.Page](ada, "history.page", wire.PageQuery{Conversation: "g.general", Limit: 1})
		call[wire.Readers](ada, "receipts.who", wire.ReadersQuery{Conversation: "g.general", Seq: posted.Seq})
		call[wire.Presences](ada, "presence.get", wire.UsersQuery{Users: []subjects.User{ada.user}})
		call[wire.ConversationInfo](ada, "conversations.get", wire.ConversationQuery{Conversation: "g.general"})
		issue(t, target, wire.Issue{User: ada.user})
		described(t, nc, wanted)
	}
	answer, err := nc.Request("$JS.API.STREAM.LIST", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Streams []struct {
			Config struct {
				Name, Description string
				Metadata          map[string]string
			}
		}
	}
	if err := json.Unmarshal(answer.Data, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Streams) < 16+8 {
		t.Errorf("there are %d streams and buckets", len(list.Streams))
	}
	for _, stream := range list.Streams {
		c := stream.Config
		if !strings.Contains(c.Name, "IM_") || c.Description == "" || len(c.Description) > 40 || !strings.HasPrefix(c.Metadata["confab.view"], "nats ") {
			t.Errorf("stream %s is described by %q and viewed by %q", c.Name, c.Description, c.Metadata["confab.view"])
		}
	}
}
