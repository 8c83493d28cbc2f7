package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// swamp is a group in which one client floods and another does not read.
const swamp subjects.Conversation = "g.swamp"

// Bounds of who misbehaves.
const (
	floodPad  = 15 << 10         // bytes of a message beside its words
	floodMost = 2000             // messages of one connection, should nothing limit it
	deafMost  = 70 * time.Second // without reading, should nothing end it
	badTurn   = 3 * time.Second  // between two times, in which others are alone
)

// common is the limits of a run in which somebody misbehaves: the default ones, but for what all people of a run share, as they come from one address,
// and for what waits for a client, so that it takes seconds to be too slow.
var common = []string{"--limits", "default", "--limit-address-rate", "{per_second: 10000, burst: 10000}", "--limit-address-connections", "10000",
	"--limit-queue-bytes", "262144"}

// limits returns the limits of the edges.
func (s *system) limits() []string {
	if slices.Contains(s.lab.config.Beside, "swamp") {
		return common
	}
	return []string{"--limits", "none"}
}

func prepareSwamp(ctx context.Context, l *Lab) (work, error) {
	var rude []*rudeClient
	for i, user := range []subjects.User{"fay", "sam"} {
		tokens, err := client.Register(ctx, l.url(0), wire.Register{User: user, Password: password})
		if err != nil {
			return nil, err
		}
		rude = append(rude, &rudeClient{person: l.newPerson(user, "d0", i), token: tokens.Token})
	}
	run := func(ctx, done context.Context) error {
		for once := true; once || ctx.Err() == nil; once = false {
			sleep(done, badTurn)
			var both together
			flooding, enough := context.WithCancel(done)
			both.do(func() error {
				defer enough()
				return rude[1].ignore(done)
			})
			both.do(func() error {
				for flooding.Err() == nil { // as often as it takes until the other is cut off
					if err := rude[0].flood(done); err != nil {
						return err
					}
				}
				return nil
			})
			err := both.wait()
			if enough(); err != nil {
				return err
			}
		}
		return nil
	}
	return run, l.found(ctx, swamp, "fay", "sam")
}

// rudeClient speaks the protocol without the client's manners.
type rudeClient struct {
	*person
	token string
	conn  *websocket.Conn
}

// open connects past the networks, whose buffers would read in the client's place, and signs in. A receive buffer of 0 is that of the system.
func (r *rudeClient) open(ctx context.Context, number, buffer int) error {
	dialer := websocket.Dialer{Subprotocols: []string{wire.Protocol}, NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, r.lab.system.fronts[number%len(r.lab.system.fronts)].destination())
		if tcp, ok := conn.(*net.TCPConn); ok && buffer > 0 {
			err = errors.Join(err, tcp.SetReadBuffer(buffer))
		}
		return conn, err
	}}
	conn, response, err := dialer.DialContext(ctx, strings.Replace(r.lab.url(number), "http", "ws", 1)+"/v1/ws", nil)
	if response != nil {
		_ = response.Body.Close()
	}
	if err != nil {
		return err
	}
	hello, _ := json.Marshal(wire.Hello{Token: r.token, Device: r.device}) // strings always encode
	if err := conn.WriteJSON(wire.Frame{ID: json.RawMessage("0"), Call: wire.CallHello, Data: hello}); err != nil {
		return errors.Join(err, conn.Close())
	}
	var answer wire.ServerFrame
	if err := conn.ReadJSON(&answer); err != nil || answer.OK == nil {
		return errors.Join(fmt.Errorf("hello is answered with %v", answer.Error), err, conn.Close())
	}
	r.conn = conn
	r.record(history.Record{Kind: history.Connect})
	return nil
}

// try opens a connection until that succeeds, or ctx ends.
func (r *rudeClient) try(ctx context.Context, number, buffer int) bool {
	for ctx.Err() == nil {
		err := r.open(ctx, number, buffer)
		if err == nil {
			return true
		}
		sleep(ctx, tryPause)
	}
	return false
}

// leave closes the connection and notes its end.
func (r *rudeClient) leave(err error) {
	_ = r.conn.Close() // it is of no use any more
	closed := history.Record{Kind: history.Close}
	if why, ok := errors.AsType[*websocket.CloseError](err); ok {
		closed.Closed = wire.CloseCode(why.Code)
	}
	r.record(closed)
}

// ignore is told everything and reads nothing, until its connection is gone: then what it writes fails.
func (r *rudeClient) ignore(ctx context.Context) error {
	if !r.try(ctx, 1, 4<<10) {
		return nil
	}
	r.record(history.Record{Kind: history.Abuse, Fault: "reads nothing"})
	begun := time.Now()
	for ctx.Err() == nil && time.Since(begun) < deafMost {
		if err := r.conn.WriteJSON(wire.Frame{Call: wire.CallPing}); err != nil {
			r.record(history.Record{Kind: history.Limited})
			break
		}
		sleep(ctx, tryPause)
	}
	r.leave(nil)
	return nil
}

// flood sends as fast as the connection takes it, until the connection is ended.
func (r *rudeClient) flood(ctx context.Context) error {
	if !r.try(ctx, 0, 0) {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = r.conn.Close() })()
	r.record(history.Record{Kind: history.Abuse, Fault: "floods"})
	var mu sync.Mutex
	open := map[string]string{} // client ids by the number of the call
	var reading sync.WaitGroup
	var ended error
	reading.Go(func() { ended = r.hearOf(&mu, open) })
	pad := strings.Repeat("x", floodPad)
	for n := 1; n <= floodMost; n++ {
		r.count++
		words := fmt.Sprintf("%s %s/%s/%d", swamp, r.user, r.device, r.count)
		post := wire.Post{Conversation: swamp, ClientID: client.NewClientID(), Body: paddedBody(words, pad)}
		data, err := wire.Marshal(&post)
		if err != nil {
			return err
		}
		mu.Lock()
		open[strconv.Itoa(n)] = post.ClientID
		mu.Unlock()
		r.record(history.Record{Kind: history.Invoke, Conversation: swamp, ClientID: post.ClientID, Body: words})
		if err := r.conn.WriteJSON(wire.Frame{ID: json.RawMessage(strconv.Itoa(n)), Call: "send.post", Data: data}); err != nil {
			break
		}
	}
	_ = r.conn.SetReadDeadline(time.Now().Add(tryWithin)) // what has no answer by then has none
	reading.Wait()
	r.leave(ended)
	for _, id := range open { // nobody answers these any more
		r.record(history.Record{Kind: history.Unknown, Conversation: swamp, ClientID: id})
	}
	return nil
}

// hearOf notes what becomes of the messages of a flood until the connection ends, and returns how it did.
func (r *rudeClient) hearOf(mu *sync.Mutex, open map[string]string) error {
	limited := false
	limit := func(l history.Record) {
		if l.Kind = history.Limited; !limited {
			limited = true
			r.record(l)
		}
	}
	for {
		_, text, err := r.conn.ReadMessage()
		if err != nil {
			if why, ok := errors.AsType[*websocket.CloseError](err); ok && why.Code == int(wire.CloseRateLimited) {
				limit(history.Record{Closed: wire.CloseRateLimited})
			}
			return err
		}
		for line := range strings.Lines(string(text)) {
			var frame wire.ServerFrame
			if json.Unmarshal([]byte(line), &frame) != nil || len(frame.ID) == 0 {
				continue
			}
			mu.Lock()
			id := open[string(frame.ID)]
			delete(open, string(frame.ID))
			mu.Unlock()
			outcome := history.Record{Kind: history.OK, Conversation: swamp, ClientID: id}
			switch {
			case frame.Error == nil:
				var posted wire.Posted
				if err := json.Unmarshal(frame.OK, &posted); err != nil {
					return err
				}
				outcome.Seq, outcome.Duplicate = posted.Seq, posted.Duplicate
			case frame.Error.Code.Info().Unknown:
				outcome.Kind, outcome.Code = history.Unknown, frame.Error.Code
			default:
				outcome.Kind, outcome.Code = history.Reject, frame.Error.Code
				if outcome.Code == wire.RateLimited {
					limit(history.Record{Code: outcome.Code})
				}
			}
			r.record(outcome)
		}
	}
}
