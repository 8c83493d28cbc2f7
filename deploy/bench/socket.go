package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of what a socket keeps until the rest of it comes.
const (
	longestHead    = 16 << 10 // bytes of the answer to an upgrade
	longestMessage = 64 << 20 // bytes
)

// errEnded is what open calls end with when the connection does.
var errEnded = errors.New("the connection ended before the answer came")

// answer is called once for each call, with what stands behind ok until it returns, or with an error; by the socket's reader, so it must not wait.
type answer func(ok []byte, err error)

// conn is where a socket writes. Write is called by one at a time and Close by anybody; the reader ends some time after Close.
type conn interface {
	io.Writer
	Close() error
}

// socket is a client that does as little as the protocol allows: what the generator costs is taken from the server, which runs on the same machine. Its
// reader, a goroutine of its own or a loop, calls heard and the answers; calls may be made by anybody.
type socket struct {
	conn    conn
	welcome wire.Welcome
	heard   func(event wire.Event, data []byte) // may be nil; data is valid until it returns
	ready   chan struct{}                       // closed when the upgrade was answered
	ended   chan struct{}
	err     error // why it ended; set before ended is closed

	upgraded bool   // of the reader: ready is closed
	rest     []byte // of the reader: the beginning of what has not come whole
	partial  []byte // of the reader: of a message in several frames

	mu   sync.Mutex // guards what follows, and writing
	open openCalls
	next uint64
	out  []byte
	over bool
}

func newSocket(heard func(wire.Event, []byte)) *socket {
	return &socket{heard: heard, ready: make(chan struct{}), ended: make(chan struct{})}
}

// hello signs in and keeps the answer.
func (s *socket) hello(ctx context.Context, token string, device subjects.Device) error {
	return s.do(ctx, wire.CallHello, wire.Hello{Token: token, Device: device}, &s.welcome)
}

// close ends the connection and waits for the reader.
func (s *socket) close() {
	_ = s.conn.Close()
	<-s.ended
}

// call sends a call with data, a JSON object. An error means that answer is never called.
func (s *socket) call(name string, data []byte, answer answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errEnded
	}
	s.next++
	s.out = begin(s.out[:0], len(`{"id":,"call":"","data":}`)+digits(s.next)+len(name)+len(data))
	s.out = append(strconv.AppendUint(append(s.out, `{"id":`...), s.next, 10), `,"call":"`...)
	s.out = append(append(append(append(s.out, name...), `","data":`...), data...), '}')
	s.open.put(s.next, answer)
	if _, err := s.conn.Write(s.out); err != nil {
		s.open.take(s.next)
		return err
	}
	return nil
}

// send sends text that is no call, to a server that is not confab.
func (s *socket) send(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errEnded
	}
	s.out = append(begin(s.out[:0], len(text)), text...)
	_, err := s.conn.Write(s.out)
	return err
}

// tell makes a call that wants no answer.
func (s *socket) tell(name string, data []byte) error {
	return s.send(fmt.Appendf(nil, `{"call":%q,"data":%s}`, name, data))
}

// do makes a call and waits for the answer, which it reads into out; nil = not wanted.
func (s *socket) do(ctx context.Context, name string, in, out any) error {
	data, err := wire.Marshal(in)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	err = s.call(name, data, func(ok []byte, err error) {
		if err == nil && out != nil {
			err = json.Unmarshal(ok, out)
		}
		done <- err
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
}

// ask is do within the time that every answer must come in.
func (s *socket) ask(ctx context.Context, name string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return s.do(ctx, name, in, out)
}

// end is the last that the reader does; nobody writes from then on.
func (s *socket) end(err error) {
	s.mu.Lock()
	s.over, s.err = true, err
	open := s.open
	s.open = openCalls{}
	s.mu.Unlock()
	open.each(func(answer answer) { answer(nil, errEnded) })
	close(s.ended)
}

// came takes in bytes in the order in which they came. It is called by the reader alone and keeps nothing of data.
func (s *socket) came(data []byte) error {
	if len(s.rest) == 0 {
		used, err := s.take(data)
		if used < len(data) {
			s.rest = append(s.rest, data[used:]...)
		}
		return err
	}
	s.rest = append(s.rest, data...)
	used, err := s.take(s.rest)
	if left := copy(s.rest, s.rest[used:]); left > 0 {
		s.rest = s.rest[:left]
	} else {
		s.rest = nil // most sockets hear little, and there are many
	}
	return err
}

// take handles all that is whole and says how many bytes that was.
func (s *socket) take(data []byte) (used int, err error) {
	if !s.upgraded {
		used, err = s.head(data)
		if used == 0 || err != nil {
			return used, err
		}
		s.upgraded = true
		close(s.ready)
	}
	for {
		head, payload, length, ok := frame(data[used:])
		if !ok {
			if length > longestMessage {
				err = errors.New("the server sends a frame without end")
			}
			return used, err
		}
		used += length
		switch op := head & 0x0f; {
		case op >= frameClose:
			err = s.control(op, payload)
		case head&frameLast == 0:
			s.partial = append(s.partial, payload...)
		case len(s.partial) > 0:
			s.message(append(s.partial, payload...))
			s.partial = nil
		default:
			s.message(payload)
		}
		if err != nil {
			return used, err
		}
	}
}

// head reads the answer to the upgrade.
func (s *socket) head(data []byte) (used int, err error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(data) > longestHead:
		return 0, errors.New("the answer to the upgrade has no end")
	case end < 0:
		return 0, nil
	case !bytes.HasPrefix(data, []byte("HTTP/1.1 101 ")):
		line, _, _ := bytes.Cut(data, []byte("\r\n"))
		return 0, fmt.Errorf("the upgrade was refused: %s", line)
	}
	return end + 4, nil
}

func (s *socket) control(op byte, payload []byte) error {
	switch op {
	case framePing:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.out = append(s.out[:0], frameLast|framePong, 0x80|byte(len(payload)), 0, 0, 0, 0)
		_, err := s.conn.Write(append(s.out, payload...))
		return err
	case frameClose:
		if len(payload) >= 2 {
			return closed(binary.BigEndian.Uint16(payload))
		}
		return io.EOF
	}
	return nil
}

// closed is the code with which the server closed a connection.
type closed uint16

// Error returns the code and its meaning.
func (c closed) Error() string { return fmt.Sprintf("closed by the server with %d", uint16(c)) }

// message handles the lines of one message.
func (s *socket) message(text []byte) {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if len(line) > 0 {
			s.line(line)
		}
	}
}

// line handles one line. What confab writes today is taken apart without a JSON decoder; whatever else the protocol allows goes through one.
func (s *socket) line(line []byte) {
	if event, data, ok := splitEvent(line); ok {
		if s.heard != nil {
			s.heard(event, data)
		}
		return
	}
	if id, data, ok := splitOK(line); ok {
		s.answered(id, data, nil)
		return
	}
	var f wire.ServerFrame
	if json.Unmarshal(line, &f) != nil {
		return
	}
	if f.Event != "" {
		if s.heard != nil {
			s.heard(f.Event, f.Data)
		}
		return
	}
	id, err := strconv.ParseUint(string(f.ID), 10, 64)
	if err != nil {
		return
	}
	if f.Error != nil {
		s.answered(id, nil, f.Error)
		return
	}
	s.answered(id, f.OK, nil)
}

func (s *socket) answered(id uint64, ok []byte, err error) {
	s.mu.Lock()
	answer := s.open.take(id)
	s.mu.Unlock()
	if answer != nil {
		answer(ok, err)
	}
}

// openCalls are the calls of a socket that wait for their answers, by ids that ascend: a table with a place for each, which grows while two of them meet.
type openCalls struct {
	places []openCall // as many as a power of two
}

type openCall struct {
	id     uint64
	answer answer // nil = the place is free
}

// put keeps a call whose id was not used before.
func (c *openCalls) put(id uint64, answer answer) {
	for len(c.places) == 0 || c.places[id%uint64(len(c.places))].answer != nil {
		old := c.places
		c.places = make([]openCall, max(1, 2*len(old)))
		for _, call := range old { // they meet nowhere, for they did not in half as many places
			if call.answer != nil {
				c.places[call.id%uint64(len(c.places))] = call
			}
		}
	}
	c.places[id%uint64(len(c.places))] = openCall{id, answer}
}

// take returns what waits for an answer, and forgets it; nil = nothing does.
func (c *openCalls) take(id uint64) answer {
	if len(c.places) == 0 {
		return nil
	}
	place := &c.places[id%uint64(len(c.places))]
	if place.id != id {
		return nil
	}
	answer := place.answer
	*place = openCall{}
	return answer
}

// each calls do with all that wait.
func (c *openCalls) each(do func(answer)) {
	for _, call := range c.places {
		if call.answer != nil {
			do(call.answer)
		}
	}
}
