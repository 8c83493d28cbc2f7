package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects/wire"
)

// Sign in, follow a conversation and answer whoever says something.
func Example() {
	server := miniature()
	defer server.Close()
	ctx := context.Background()
	c, err := client.Dial(ctx, server.URL, client.WithToken("t"), client.WithDevice("bot"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	view, err := c.Follow("g.general", 0)
	if err != nil {
		log.Fatal(err)
	}
	for entry, err := range view.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if entry.From == c.User() {
			break
		}
		fmt.Printf("%d %s %s\n", entry.Seq, entry.From, entry.Body)
		if _, err := c.Post(ctx, wire.Post{Conversation: entry.Conversation, ReplyTo: entry.Seq, Body: json.RawMessage(`{"text":"pong"}`)}); err != nil {
			log.Fatal(err)
		}
	}
	// Output: 1 bob {"text":"ping"}
}

// Messages in a file outbox survive a crash between Post and its answer.
func ExampleOpenFileOutbox() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	outbox, err := client.OpenFileOutbox(filepath.Join(dir, "ada"))
	if err != nil {
		log.Fatal(err)
	}
	defer outbox.Close()
	server := miniature()
	defer server.Close()
	c, err := client.Dial(context.Background(), server.URL, client.WithToken("t"), client.WithOutbox(outbox))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	posted, err := c.Post(context.Background(), wire.Post{Conversation: "g.general", Body: json.RawMessage(`{"text":"hi"}`)})
	fmt.Println(posted.Seq, err)
	// Output: 2 <nil>
}

// Calls that this package does not know are made with Call.
func ExampleCall() {
	server := miniature()
	defer server.Close()
	c, err := client.Dial(context.Background(), server.URL, client.WithToken("t"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = client.Call[wire.Empty, wire.Empty](context.Background(), c, "weather.ask", wire.Empty{})
	fmt.Println(wire.CodeOf(err))
	// Output: unknown_call
}

// miniature is a server that holds one conversation with one message in it.
func miniature() *httptest.Server {
	entries := []json.RawMessage{json.RawMessage(`{"conversation":"g.general","seq":1,"count":1,"kind":"message","from":"bob","at":"2026-11-20T15:04:05.123Z","body":{"text":"ping"}}`)}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{wire.Protocol}}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			_, line, err := conn.ReadMessage()
			if err != nil {
				return
			}
			f, _ := wire.ParseFrame(line)
			var out any = wire.Empty{}
			switch f.Call {
			case wire.CallHello:
				out = wire.Welcome{User: "ada", Device: "bot", PingSeconds: 25}
			case "history.heads":
				out = wire.Heads{}
			case "history.page":
				var q wire.PageQuery
				_ = wire.Decode(f.Data, &q)
				after := min(int(*q.After), len(entries))
				out = wire.Page{Entries: entries[after:]}
			case "send.post":
				var post wire.Post
				_ = wire.Decode(f.Data, &post)
				seq := wire.Seq(len(entries) + 1)
				entry, _ := wire.Marshal(wire.Entry{Conversation: "g.general", Seq: seq, Kind: wire.KindMessage, From: "ada", ClientID: post.ClientID, Body: post.Body})
				entries = append(entries, entry)
				_ = conn.WriteMessage(websocket.TextMessage, wire.AppendEvent(nil, wire.EventEntry, entry))
				out = wire.Posted{Conversation: "g.general", Seq: seq}
			default:
				_ = conn.WriteMessage(websocket.TextMessage, wire.AppendError(nil, f.ID, wire.Errorf(wire.UnknownCall, "There is no such call.")))
				continue
			}
			answer, _ := wire.Marshal(out)
			_ = conn.WriteMessage(websocket.TextMessage, wire.AppendOK(nil, f.ID, answer))
		}
	}))
}
