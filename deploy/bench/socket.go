package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Opcodes of WebSocket frames (RFC 6455), and the bit of the last frame of a message.
const (
	frameText  = 1
	frameClose = 8
	framePing  = 9
	framePong  = 10
	frameLast  = 0x80
)

const (
	dialWithin = 30 * time.Second
	atRest     = 512 // bytes of the buffer of a socket that hears little
)

// errEnded is what open calls end with when the connection does.
var errEnded = errors.New("the connection ended before the answer came")

// answer is called once for each call, with what stands behind ok until it returns, or with an error; by the socket's reader, so it must not wait.
type answer func(ok []byte, err error)

// socket is a client that does as little as the protocol allows: what the generator costs is taken from the server, which runs on the same machine. Its
// reader goroutine calls heard and the answers; calls may be made by anybody.
type socket struct {
	conn    net.Conn
	welcome wire.Welcome
	heard   func(event wire.Event, data []byte) // may be nil; data is valid until it returns
	ended   chan struct{}
	err     error // why it ended; set before ended is closed

	mu   sync.Mutex // guards what follows, and writing
	open map[uint64]answer
	next uint64
	out  []byte
	over bool
}

// dial opens a WebSocket at the path of a base URL, such as http://127.0.0.1:8080. The reader runs from the first call of listen on.
func dial(ctx context.Context, base, path string, from net.Addr) (*socket, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", hostPort(u))
	if err != nil {
		return nil, err
	}
	if u.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	s := &socket{conn: conn, ended: make(chan struct{}), open: map[uint64]answer{}}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	err = s.upgrade(u.Host, path)
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// upgrade asks for the WebSocket and reads the answer byte by byte, so that nothing of the first frame is taken.
func (s *socket) upgrade(host, path string) error {
	_, err := fmt.Fprintf(s.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Protocol: %s\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path, host, wire.Protocol)
	if err != nil {
		return err
	}
	head := make([]byte, 0, 512)
	var buffer [512]byte
	for !bytes.Contains(head, []byte("\r\n\r\n")) {
		// The server says nothing before the client has said hello, so what comes is the head alone.
		n, err := s.conn.Read(buffer[:])
		if err != nil {
			return fmt.Errorf("read the answer to the upgrade: %w", err)
		}
		if head = append(head, buffer[:n]...); len(head) > 16<<10 {
			return errors.New("the answer to the upgrade has no end")
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return fmt.Errorf("the upgrade was refused: %s", line)
	}
	return nil
}

// hello signs in and keeps the answer; listen must have been called.
func (s *socket) hello(ctx context.Context, token string, device subjects.Device) error {
	return s.do(ctx, wire.CallHello, wire.Hello{Token: token, Device: device}, &s.welcome)
}

// listen starts the reader.
func (s *socket) listen() { go s.read() }

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
	s.out = s.out[:0]
	s.begin(len(`{"id":,"call":"","data":}`) + digits(s.next) + len(name) + len(data))
	s.out = append(strconv.AppendUint(append(s.out, `{"id":`...), s.next, 10), `,"call":"`...)
	s.out = append(append(append(append(s.out, name...), `","data":`...), data...), '}')
	s.open[s.next] = answer
	if _, err := s.conn.Write(s.out); err != nil {
		delete(s.open, s.next)
		return err
	}
	return nil
}

// begin appends the head of a masked text frame to out. The mask is zero, which a server cannot tell from another one by what it costs.
func (s *socket) begin(length int) {
	s.out = append(s.out, frameLast|frameText)
	switch {
	case length < 126:
		s.out = append(s.out, 0x80|byte(length))
	case length < 1<<16:
		s.out = binary.BigEndian.AppendUint16(append(s.out, 0x80|126), uint16(length))
	default:
		s.out = binary.BigEndian.AppendUint64(append(s.out, 0x80|127), uint64(length))
	}
	s.out = append(s.out, 0, 0, 0, 0)
}

func digits(n uint64) int {
	count := 1
	for ; n > 9; n /= 10 {
		count++
	}
	return count
}

// send sends text that is no call, to a server that is not confab.
func (s *socket) send(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = s.out[:0]
	s.begin(len(text))
	_, err := s.conn.Write(append(s.out, text...))
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

// read handles what comes until the connection ends.
func (s *socket) read() {
	err := s.frames()
	_ = s.conn.Close()
	s.mu.Lock()
	s.over, s.err = true, err
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for _, answer := range open {
		answer(nil, errEnded)
	}
	close(s.ended)
}

func (s *socket) frames() error {
	buffer := make([]byte, atRest)
	var have int
	var partial []byte // of a message in several frames
	for {
		if have == len(buffer) {
			buffer = append(buffer, make([]byte, len(buffer))...)
		}
		n, err := s.conn.Read(buffer[have:])
		if err != nil {
			return err
		}
		have += n
		at := 0
		for {
			head, payload, length, ok := frame(buffer[at:have])
			if !ok {
				if need := length; need > len(buffer) && need < 64<<20 {
					buffer = append(buffer, make([]byte, need-len(buffer))...)
				}
				break
			}
			at += length
			switch op := head & 0x0f; {
			case op >= frameClose:
				err = s.control(op, payload)
			case head&frameLast == 0:
				partial = append(partial, payload...)
			case len(partial) > 0:
				s.message(append(partial, payload...))
				partial = partial[:0]
			default:
				s.message(payload)
			}
			if err != nil {
				return err
			}
		}
		have = copy(buffer, buffer[at:have])
	}
}

// frame splits the first frame off; length is that of the whole frame where it is known, 0 else.
func frame(data []byte) (head byte, payload []byte, length int, ok bool) {
	if len(data) < 2 {
		return 0, nil, 0, false
	}
	size, begin := int(data[1]&0x7f), 2
	switch size {
	case 126:
		begin = 4
		if len(data) < begin {
			return 0, nil, 0, false
		}
		size = int(binary.BigEndian.Uint16(data[2:]))
	case 127:
		begin = 10
		if len(data) < begin {
			return 0, nil, 0, false
		}
		size = int(binary.BigEndian.Uint64(data[2:]) & (1<<40 - 1))
	}
	if length = begin + size; len(data) < length {
		return 0, nil, length, false
	}
	return data[0], data[begin:length], length, true
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
	answer := s.open[id]
	delete(s.open, id)
	s.mu.Unlock()
	if answer != nil {
		answer(ok, err)
	}
}

// splitEvent takes {"event":"NAME","data":DATA} apart, if it looks exactly so.
func splitEvent(line []byte) (event wire.Event, data []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"event":"`))
	if !ok || line[len(line)-1] != '}' {
		return "", nil, false
	}
	name, data, ok := bytes.Cut(rest, []byte(`","data":`))
	if !ok || len(name) > 32 {
		return "", nil, false
	}
	if string(name) == string(wire.EventEntry) { // the one that comes in masses costs no allocation
		return wire.EventEntry, data[:len(data)-1], true
	}
	return wire.Event(name), data[:len(data)-1], true
}

// splitOK takes {"id":NUMBER,"ok":DATA} apart, if it looks exactly so.
func splitOK(line []byte) (id uint64, data []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	if !ok || line[len(line)-1] != '}' {
		return 0, nil, false
	}
	i := 0
	for ; i < len(rest) && rest[i] >= '0' && rest[i] <= '9' && i < 19; i++ {
		id = id*10 + uint64(rest[i]-'0')
	}
	data, ok = bytes.CutPrefix(rest[i:], []byte(`,"ok":`))
	if !ok || i == 0 {
		return 0, nil, false
	}
	return id, data[:len(data)-1], true
}
