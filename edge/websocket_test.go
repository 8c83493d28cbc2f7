package edge

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects/wire"
)

// rawFrame builds one masked frame with any first byte.
func rawFrame(first byte, payload []byte) []byte {
	frame := []byte{first}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	default:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	}
	var key [4]byte
	_, _ = rand.Read(key[:])
	frame = append(frame, key[:]...)
	for i, b := range payload {
		frame = append(frame, b^key[i%4])
	}
	return frame
}

// First bytes of frames.
const (
	fin, textFrame, binaryFrame, closeFrame8, pingFrame, pongFrame = 0x80, 0x1, 0x2, 0x8, 0x9, 0xa
)

// closeCode reads frames of the server until a close frame and returns its code, or 0 where the connection ends without one.
func closeCode(t testing.TB, conn net.Conn) int {
	t.Helper()
	for {
		var head [2]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return 0
		}
		n := int(head[1] & 0x7f)
		if n == 126 {
			var more [2]byte
			if _, err := io.ReadFull(conn, more[:]); err != nil {
				return 0
			}
			n = int(binary.BigEndian.Uint16(more[:]))
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return 0
		}
		if head[0]&0xf == closeFrame8 && n >= 2 {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

func TestViolationsOfTheProtocolClose(t *testing.T) {
	t.Parallel()
	bothWays(t, testViolations)
}

func testViolations(t *testing.T, keep func(*Config)) {
	w := newWorld(t)
	r := w.edge(keep)
	hugeClaim := append([]byte{fin | textFrame, 0x80 | 127}, binary.BigEndian.AppendUint64(nil, math.MaxInt64)...)
	hugeClaim = append(hugeClaim, 1, 2, 3, 4, 'x')
	smile := []byte("\xf0\x9f\x98\x80")
	for _, c := range []struct {
		name  string
		bytes []byte
		code  wire.CloseCode
	}{
		{"binary", rawFrame(fin|binaryFrame, []byte("{}")), wire.CloseBinary},
		{"not masked", []byte{fin | textFrame, 2, '{', '}'}, wire.CloseProtocol},
		{"reserved bit", rawFrame(fin|0x40|textFrame, []byte("{}")), wire.CloseProtocol},
		{"compressed", rawFrame(fin|0x40|textFrame, []byte("\xaa\x56\x4a")), wire.CloseProtocol},
		{"reserved opcode", rawFrame(fin|0x3, nil), wire.CloseProtocol},
		{"fragmented ping", rawFrame(pingFrame, nil), wire.CloseProtocol},
		{"long ping", rawFrame(fin|pingFrame, bytes.Repeat([]byte("x"), 126)), wire.CloseProtocol},
		{"bad close code", rawFrame(fin|closeFrame8, []byte{0x03, 0xed}), wire.CloseProtocol},
		{"continuation of nothing", rawFrame(fin, []byte("x")), wire.CloseProtocol},
		{"message in a message", append(rawFrame(textFrame, []byte("a")), rawFrame(fin|textFrame, []byte("b"))...), wire.CloseProtocol},
		{"invalid UTF-8", rawFrame(fin|textFrame, []byte("\"\xff\"")), wire.CloseInvalidUTF8},
		{"half a character", append(rawFrame(textFrame, smile[:2]), rawFrame(fin, nil)...), wire.CloseInvalidUTF8},
		{"too big a frame", rawFrame(fin|textFrame, bytes.Repeat([]byte(" "), 65_000)), 0},
		{"too big in fragments", append(rawFrame(textFrame, bytes.Repeat([]byte(" "), 40_000)), rawFrame(fin, bytes.Repeat([]byte(" "), 40_000))...), wire.CloseTooBig},
		{"a claim of 2^63-1", hugeClaim, wire.CloseTooBig},
		{"a claim of 2^64-1", append([]byte{fin | textFrame, 0x80 | 127}, bytes.Repeat([]byte{0xff}, 12)...), wire.CloseTooBig},
		{"very many fragments", append(rawFrame(textFrame, nil), bytes.Repeat(rawFrame(0, nil), 50_000)...), wire.CloseTooBig},
		{"very many pings", bytes.Repeat(rawFrame(fin|pingFrame, nil), 10_000), wire.CloseRateLimited},
		{"very many pings in a message", append(rawFrame(textFrame, nil), bytes.Repeat(rawFrame(fin|pingFrame, nil), 10_000)...), wire.CloseRateLimited},
		{"very many empty messages", bytes.Repeat(rawFrame(fin|textFrame, nil), 10_000), wire.CloseRateLimited},
		{"ten bad lines", rawFrame(fin|textFrame, bytes.Repeat([]byte("x\n"), 10)), wire.CloseBadFrames},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := r.rawConn(t)
			go func() { _, _ = conn.Write(c.bytes) }() // the edge may stop reading
			if c.code == 0 {
				c.code = wire.CloseUnauthenticated // nothing was wrong; the hello is missing
			}
			if code := closeCode(t, conn); code != int(c.code) {
				t.Errorf("closed with %d, want %d", code, c.code)
			}
		})
	}
	// A character in two fragments is whole, and a ping may stand between them.
	conn := r.rawConn(t)
	message := []byte(`{"id":"` + string(smile) + `","call":"ping"}`)
	_, _ = conn.Write(rawFrame(textFrame, message[:9]))
	_, _ = conn.Write(rawFrame(fin|pingFrame, []byte("now")))
	_, _ = conn.Write(rawFrame(fin, message[9:]))
	got := make([]byte, 200)
	n, _ := io.ReadAtLeast(conn, got, 60)
	if !bytes.Contains(got[:n], smile) || !bytes.Contains(got[:n], []byte("now")) {
		t.Errorf("the answer is %q", got[:n])
	}
}

// rawHello signs a raw connection in, with a device of its own.
func rawHello(t *testing.T, w *world, conn net.Conn, user string) {
	t.Helper()
	line := fmt.Sprintf(`{"id":1,"call":"hello","data":{"token":%q,"device":%q}}`, w.token(user, time.Hour), strings.ToLower(rand.Text()))
	_, _ = conn.Write(rawFrame(fin|textFrame, []byte(line)))
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	if head[0] != fin|textFrame || head[1] != 126 {
		t.Fatalf("a frame that begins with %x answers the hello", head)
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint16(head[2:]))); err != nil {
		t.Fatal(err)
	}
}

func TestSlowClientsAreClosed(t *testing.T) {
	t.Parallel()
	bothWays(t, testSlowClients)
}

func testSlowClients(t *testing.T, keep func(*Config)) {
	w := newWorld(t)
	unknown := w.edge(keep, func(c *Config) { c.Limits.Hello = 400 * time.Millisecond })
	known := w.edge(keep, func(c *Config) { c.Limits.Message = 600 * time.Millisecond }) // whoever says hello has the usual time for it
	drip := func(conn net.Conn, bytes []byte, ended chan struct{}) {
		for _, b := range bytes {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ended:
				return
			}
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name  string
		hello bool
		drip  []byte
		code  wire.CloseCode
		least time.Duration
	}{
		{"silence", false, nil, wire.CloseUnauthenticated, 300 * time.Millisecond},
		{"pongs and no hello", false, bytes.Repeat(rawFrame(fin|pongFrame, nil), 40), wire.CloseUnauthenticated, 300 * time.Millisecond},
		{"a byte at a time before hello", false, rawFrame(fin|textFrame, bytes.Repeat([]byte(" "), 400)), wire.CloseUnauthenticated, 300 * time.Millisecond},
		{"a byte at a time after hello", true, rawFrame(fin|textFrame, bytes.Repeat([]byte(" "), 400)), wire.CloseTooSlow, 500 * time.Millisecond},
		{"empty fragments with pings in between", true, append(rawFrame(textFrame, nil), bytes.Repeat(append(rawFrame(fin|pingFrame, nil), rawFrame(0, nil)...), 40)...), wire.CloseTooSlow, 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := unknown
			if c.hello {
				r = known
			}
			conn := r.rawConn(t)
			if c.hello {
				rawHello(t, w, conn, "ada")
			}
			begun := time.Now()
			ended := make(chan struct{})
			defer close(ended)
			go drip(conn, c.drip, ended)
			if code := closeCode(t, conn); code != int(c.code) {
				t.Errorf("closed with %d, want %d", code, c.code)
			}
			if took := time.Since(begun); took < c.least || took > 10*time.Second {
				t.Errorf("closed after %s", took)
			}
		})
	}
}

func TestAMessageThatBeganBehindAnotherHasItsTimeToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits.Message = 300 * time.Millisecond })
	conn := r.rawConn(t)
	rawHello(t, w, conn, "ada")
	begun := time.Now()
	// Both frames come with one read, so that no byte comes after the second message has begun.
	_, _ = conn.Write(append(rawFrame(fin|textFrame, []byte(`{"call":"ping"}`)), rawFrame(textFrame, []byte(" "))...))
	if code := closeCode(t, conn); code != int(wire.CloseTooSlow) || time.Since(begun) > 5*time.Second {
		t.Errorf("closed with %d after %s", code, time.Since(begun))
	}
}

func TestAClientThatAnswersNoPingIsClosed(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, keep func(*Config)) {
		w := newWorld(t)
		r := w.edge(keep, func(c *Config) { c.Limits.Ping, c.Limits.Pong = time.Second, 5*time.Second }) // a pong may wait for a busy machine
		lively := r.connect(t, w, "ada", "web")
		dead := r.rawConn(t)
		rawHello(t, w, dead, "bob")
		if code := closeCode(t, dead); code != int(wire.CloseNoPong) {
			t.Errorf("closed with %d", code)
		}
		if _, err := lively.call("ping", wire.Empty{}); err != nil {
			t.Errorf("one that does answer: %v", err)
		}
	})
}

func TestAClientThatDoesNotReadIsClosedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits.QueueFrames, c.Limits.QueueBytes, c.Limits.Write = 64, 1<<20, 5*time.Second })
	w.add("g.one", "ada")
	w.add("g.one", "bob")
	bob := r.connect(t, w, "bob", "web")
	dialer := websocket.Dialer{NetDial: func(network, addr string) (net.Conn, error) {
		conn, err := net.Dial(network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return conn, err
	}}
	ada, _, err := dialer.Dial("ws://"+r.addr+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ada.Close()
	hello, _ := json.Marshal(map[string]any{"id": 1, "call": "hello", "data": map[string]any{"token": w.token("ada", time.Hour), "device": "web"}})
	_ = ada.WriteMessage(websocket.TextMessage, hello)
	eventually(t, "ada is there", func() bool { return r.users.find("ada") != nil && len(r.users.find("ada").list()) == 1 })
	big := strings.Repeat("x", 16_000)
	full := func() bool {
		u := r.users.find("ada")
		return u == nil || len(u.list()) == 0 || u.list()[0].out.code() != 0
	}
	last := wire.Seq(2)
	for ; !full() && last < 5000; last++ {
		w.say("g.one", "bob", big)
		bob.expect("g.one", last+1)
	}
	w.say("g.one", "bob", "last")
	bob.expect("g.one", last+1)
	// What was on the way is read; then comes the reason.
	_ = ada.SetReadDeadline(time.Now().Add(patience))
	for err == nil {
		_, _, err = ada.ReadMessage()
	}
	if closed, ok := errors.AsType[*websocket.CloseError](err); !ok || closed.Code != int(wire.CloseTooSlow) {
		t.Errorf("after %d entries: %v", last, err)
	}
}

func TestOriginsTokensAndVersionsAreCheckedBeforeTheUpgrade(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Origins = []string{"https://chat.example", "http://localhost:3000"} })
	for _, c := range []struct {
		name   string
		path   string
		header map[string][]string
		status int
		code   wire.Code
	}{
		{"no origin", "/v1/ws", nil, 101, ""},
		{"own origin", "/v1/ws", map[string][]string{"Origin": {"http://" + r.addr}}, 101, ""},
		{"configured origin", "/v1/ws", map[string][]string{"Origin": {"https://chat.example"}}, 101, ""},
		{"configured origin in capitals", "/v1/ws", map[string][]string{"Origin": {"HTTPS://CHAT.example:443"}}, 101, ""},
		{"foreign origin", "/v1/ws", map[string][]string{"Origin": {"https://evil.example"}}, 403, wire.Forbidden},
		{"prefix", "/v1/ws", map[string][]string{"Origin": {"https://evilchat.example"}}, 403, wire.Forbidden},
		{"suffix", "/v1/ws", map[string][]string{"Origin": {"https://chat.example.evil"}}, 403, wire.Forbidden},
		{"other port", "/v1/ws", map[string][]string{"Origin": {"https://chat.example:8443"}}, 403, wire.Forbidden},
		{"other scheme", "/v1/ws", map[string][]string{"Origin": {"http://chat.example"}}, 403, wire.Forbidden},
		{"own host, other port", "/v1/ws", map[string][]string{"Origin": {"http://127.0.0.1:1"}}, 403, wire.Forbidden},
		{"null", "/v1/ws", map[string][]string{"Origin": {"null"}}, 403, wire.Forbidden},
		{"empty", "/v1/ws", map[string][]string{"Origin": {""}}, 403, wire.Forbidden},
		{"with a user", "/v1/ws", map[string][]string{"Origin": {"https://x@chat.example"}}, 403, wire.Forbidden},
		{"two", "/v1/ws", map[string][]string{"Origin": {"https://chat.example", "https://evil.example"}}, 403, wire.Forbidden},
		{"token in query", "/v1/ws?token=x", nil, 400, wire.TokenInQuery},
		{"other token in query", "/v1/ws?a=b&Access_Token=x", nil, 400, wire.TokenInQuery},
		{"something like a token in query", "/v1/ws?x=eyJhbGciOi.J9.s", nil, 400, wire.TokenInQuery},
		{"version 8", "/v1/ws", map[string][]string{"Sec-WebSocket-Version": {"8"}}, 426, wire.BadData},
		{"no version", "/v1/ws", map[string][]string{"Sec-WebSocket-Version": {}}, 426, wire.BadData},
		{"no upgrade", "/v1/ws", map[string][]string{"Upgrade": {}}, 426, wire.BadData},
		{"bad key", "/v1/ws", map[string][]string{"Sec-WebSocket-Key": {"x"}}, 400, wire.BadData},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := "GET " + c.path + " HTTP/1.1\r\nHost: " + r.addr + "\r\n"
			header := map[string][]string{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-WebSocket-Version": {"13"}, "Sec-WebSocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
				"Sec-WebSocket-Extensions": {"permessage-deflate; client_max_window_bits"}}
			for name, values := range c.header {
				header[name] = values
			}
			for name, values := range header {
				for _, v := range values {
					request += name + ": " + v + "\r\n"
				}
			}
			response := exchange(t, r.addr, request+"\r\n")
			var problem wire.Problem
			if c.status != 101 {
				if err := json.NewDecoder(response.Body).Decode(&problem); err != nil || response.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("the answer is no problem: %v", err)
				}
			}
			if response.StatusCode != c.status || problem.Code != c.code {
				t.Errorf("answered %d %s, want %d %s", response.StatusCode, problem.Code, c.status, c.code)
			}
			if c.status == 101 && response.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Error("an extension was negotiated")
			}
			if c.status == 426 && response.Header.Get("Sec-WebSocket-Version") != "13" {
				t.Error("the version is not named")
			}
		})
	}
}

func TestSubprotocols(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	token := w.token("ada", time.Hour)
	for _, c := range []struct {
		offer  string
		answer string
		code   int
	}{
		{"", "", 0},
		{"confab.v1", "confab.v1", 0},
		{"confab.v1, bearer." + token, "confab.v1", 0},
		{"confab.v9, confab.v1", "confab.v1", 0},
		{"confab.v9, other", "", int(wire.CloseVersion)},
	} {
		header := http.Header{}
		if c.offer != "" {
			header.Set("Sec-Websocket-Protocol", c.offer)
		} else {
			header.Set("Authorization", "Bearer "+token)
		}
		ws, response, err := websocket.DefaultDialer.Dial("ws://"+r.addr+"/v1/ws", header)
		if err != nil {
			t.Fatal(err)
		}
		if got := response.Header.Get("Sec-Websocket-Protocol"); got != c.answer {
			t.Errorf("%q is answered with %q", c.offer, got)
		}
		if c.code != 0 {
			_, _, err := ws.ReadMessage()
			if !websocket.IsCloseError(err, c.code) {
				t.Errorf("%q: %v", c.offer, err)
			}
		} else if c.offer == "" || strings.Contains(c.offer, "bearer") {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"call":"hello","data":{"device":"web"}}`))
			if _, answer, err := ws.ReadMessage(); err != nil || !bytes.Contains(answer, []byte(`"ok"`)) {
				t.Errorf("%q: hello without token: %s %v", c.offer, answer, err)
			}
		}
		_ = ws.Close()
	}
}

// exchange sends a request as it is written and reads the answer.
func exchange(t testing.TB, addr, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(newReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestSlowHeadersAreClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	begun := time.Now()
	_ = conn.SetReadDeadline(begun.Add(patience))
	if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(begun) > headersWithin+2*time.Second {
		t.Errorf("closed after %s with %v", time.Since(begun), err)
	}
}
