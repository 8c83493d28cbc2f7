package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of one connection.
const (
	writeWithin  = 10 * time.Second // for one message to leave
	preludeFor   = 20 * time.Second // of silence before the answer to hello says how often the server pings
	mostOpen     = 64               // calls open at once, where the server does not say less
	defaultFrame = 64 << 10         // bytes of a message, until the server says
)

// link is one connection. Its reader goroutine, started by newLink, owns reading and ends with done closed; writes take turns.
type link struct {
	conn    *websocket.Conn
	receive func(*link, wire.Event, json.RawMessage)
	done    chan struct{} // closed when nothing more comes
	slots   chan struct{} // one for each open call
	resync  chan struct{} // pokes of the goroutine that tends the connection
	replan  chan struct{}
	drained chan time.Duration // what a draining event said

	writing sync.Mutex // before mu where both are held

	mu      sync.Mutex // guards what follows
	open    map[string]chan wire.ServerFrame
	next    uint64
	err     error // why it ended, set before done is closed
	welcome wire.Welcome
	renewAt time.Time     // when to renew the token; zero = never
	ahead   time.Duration // how far the server's clock is ahead
	silence time.Duration // after which the connection counts as dead
}

func newLink(conn *websocket.Conn, receive func(*link, wire.Event, json.RawMessage)) *link {
	l := &link{
		conn: conn, receive: receive, done: make(chan struct{}), slots: make(chan struct{}, mostOpen), resync: make(chan struct{}, 1), replan: make(chan struct{}, 1),
		drained: make(chan time.Duration, 1), open: map[string]chan wire.ServerFrame{}, silence: preludeFor,
	}
	conn.SetReadLimit(maxAnswer)
	conn.SetPongHandler(func(string) error { return l.heard() })
	conn.SetPingHandler(func(data string) error {
		if err := l.heard(); err != nil {
			return err
		}
		err := conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeWithin))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	go l.read()
	return l
}

// heard extends the time within which the server must say something.
func (l *link) heard() error {
	l.mu.Lock()
	silence := l.silence
	l.mu.Unlock()
	return l.conn.SetReadDeadline(time.Now().Add(silence))
}

// read hands on what comes until the connection ends.
func (l *link) read() {
	err := l.heard()
	for err == nil {
		var message []byte
		if _, message, err = l.conn.ReadMessage(); err != nil {
			break
		}
		err = l.heard()
		for text := range bytes.Lines(message) {
			l.frame(bytes.TrimSpace(text))
		}
	}
	if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code != websocket.CloseAbnormalClosure {
		err = &CloseError{Code: wire.CloseCode(closed.Code), Reason: closed.Text}
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		err = errors.New("the server fell silent")
	} else {
		err = fmt.Errorf("connection lost: %w", err)
	}
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	l.conn.Close()
	close(l.done)
}

// over reports whether nothing more comes.
func (l *link) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// frame acts on one line. What is not understood is passed over: a later release may say more.
func (l *link) frame(text []byte) {
	var f wire.ServerFrame
	if len(text) == 0 || json.Unmarshal(text, &f) != nil {
		return
	}
	if f.Event != "" {
		l.receive(l, f.Event, f.Data)
		return
	}
	l.mu.Lock()
	answer := l.open[string(f.ID)]
	delete(l.open, string(f.ID))
	l.mu.Unlock()
	if answer != nil {
		answer <- f // has room for the one answer
	}
}

// call makes a call and waits for the answer: ErrInterrupted if the connection ends first.
func (l *link) call(ctx context.Context, name string, data []byte) (json.RawMessage, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-l.done:
		return nil, ErrInterrupted
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer := make(chan wire.ServerFrame, 1)
	l.mu.Lock()
	l.next++
	id := strconv.FormatUint(l.next, 10)
	l.open[id] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.open, id)
		l.mu.Unlock()
	}()
	if err := l.write(json.RawMessage(id), name, data); err != nil {
		if errors.Is(err, ErrInterrupted) {
			<-l.done
		}
		return nil, err
	}
	select {
	case f := <-answer:
		return answered(f)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
	}
	select {
	case f := <-answer: // it came with the end
		return answered(f)
	default:
		return nil, ErrInterrupted
	}
}

func answered(f wire.ServerFrame) (json.RawMessage, error) {
	if f.Error != nil {
		return nil, f.Error
	}
	return f.OK, nil
}

// write sends one call; without an id nothing is answered.
func (l *link) write(id json.RawMessage, name string, data []byte) error {
	text, err := wire.Marshal(wire.Frame{ID: id, Call: name, Data: data})
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	l.mu.Lock()
	limit := l.welcome.Limits.FrameBytes
	l.mu.Unlock()
	if limit <= 0 {
		limit = defaultFrame
	}
	if len(text) > limit {
		return wire.Errorf(wire.TooLarge, "The message has %d bytes; the server takes %d.", len(text), limit)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		l.end(fmt.Errorf("write: %w", err))
		return ErrInterrupted
	}
	if err := l.conn.WriteMessage(websocket.TextMessage, text); err != nil {
		l.end(fmt.Errorf("write: %w", err))
		return ErrInterrupted
	}
	return nil
}

// end closes the connection; the reader then ends too, with this reason.
func (l *link) end(reason error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = reason
	}
	l.mu.Unlock()
	l.conn.Close()
}

// leave ends the connection in good manners: the server learns that this device goes.
func (l *link) leave(reason error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = reason
	}
	l.mu.Unlock()
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	select {
	case <-l.done:
	case <-time.After(time.Second):
		l.conn.Close()
	}
}

// reason returns why the connection ended.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// welcomed takes over what an answer to hello says. The token is renewed after four fifths of its remaining life, by the server's clock.
func (l *link) welcomed(w wire.Welcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.welcome.User == "" && w.Limits.OpenCalls > 0 {
		for range mostOpen - max(1, w.Limits.OpenCalls) { // nobody else calls yet
			l.slots <- struct{}{}
		}
	}
	l.welcome, l.renewAt = w, time.Time{}
	if !w.ServerTime.IsZero() {
		l.ahead = time.Until(w.ServerTime.Time)
	}
	if life := w.ExpiresAt.Sub(w.ServerTime.Time); !w.ExpiresAt.IsZero() && !w.ServerTime.IsZero() {
		l.renewAt = time.Now().Add(max(0, life*4/5))
	}
	if w.PingSeconds > 0 {
		l.silence = time.Duration(w.PingSeconds)*2*time.Second + 5*time.Second
	}
}

// expires plans the renewal anew when the server names another time.
func (l *link) expires(at *wire.Time) {
	if at == nil {
		return
	}
	l.mu.Lock()
	left := max(0, max(-24*time.Hour, time.Until(at.Time))-l.ahead) // Until of no time at all is as low as can be
	if planned := time.Now().Add(left * 4 / 5); l.renewAt.IsZero() || planned.Before(l.renewAt) {
		l.renewAt = planned
	}
	l.mu.Unlock()
	poke(l.replan)
}

// drain notes that the server wants the client elsewhere.
func (l *link) drain(e *wire.Draining) {
	select {
	case l.drained <- time.Duration(min(max(e.ReconnectAfterMS, 0), 60_000)) * time.Millisecond:
	default:
	}
}
