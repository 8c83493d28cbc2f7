package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects/wire"
)

// FuzzBytes writes any bytes behind the upgrade. The socket must end soon after its peer has said all, and others must not notice.
func FuzzBytes(f *testing.F) {
	w := newWorld(f)
	r := w.edge(func(c *Config) { c.Limits = None(); c.Limits.Hello, c.Limits.Message = time.Second, time.Second })
	for _, seed := range [][]byte{
		nil, rawFrame(fin|textFrame, []byte(`{"id":1,"call":"ping"}`)), rawFrame(fin|binaryFrame, []byte("x")), rawFrame(textFrame, []byte("{")),
		append(rawFrame(textFrame, []byte(`{"id":1,`)), rawFrame(fin, []byte(`"call":"hello"}`))...), rawFrame(fin|pingFrame, []byte("x")), rawFrame(fin|closeFrame8, []byte{3, 232}),
		rawFrame(fin|0x70|textFrame, []byte("x")), {fin | textFrame, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat(rawFrame(0, nil), 9),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<17 {
			return
		}
		good := r.connect(t, w, "ada", "web")
		conn := r.rawConn(t)
		_ = conn.SetDeadline(time.Now().Add(patience))
		go func() {
			_, _ = conn.Write(data) // the edge may have closed already
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the socket does not end: %v", err)
		}
		if _, err := good.call("ping", wire.Empty{}); err != nil {
			t.Errorf("another socket is disturbed: %v", err)
		}
	})
}

// FuzzLines sends any text as a message of a signed-in client. Every line that comes back must be a frame with a code of the closed set.
func FuzzLines(f *testing.F) {
	w := newWorld(f)
	r := w.edge(func(c *Config) { c.Limits = None() })
	for _, seed := range []string{
		`{"id":1,"call":"ping"}`, `{"id":"a","call":"echo.say","data":{"x":[1,2,{}]}}`, `{"call":"signal","data":{"conversation":"g.x","kind":"typing"}}`, "\n\n",
		`{"id":1,"call":"send.post","data":{"to":"bob","client_id":"c","body":{"text":"hi"}}}`, `{"id":1,"call":"presence.watch","data":{"users":["bob"]}}`,
		`{"id":9007199254740993,"call":"ping"}`, `{"id":1,"id":2,"call":"ping"}`, "\ufeff{}", `{"id":1,"call":"a>.b"}`, `{"id":1,"call":"hello","data":{"token":"x"}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || len(text) > 60_000 {
			return
		}
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+r.addr+"/v1/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		hello, _ := json.Marshal(map[string]any{"token": w.token("ada", time.Hour), "device": "web"})
		for _, m := range []string{`{"id":"hello","call":"hello","data":` + string(hello) + "}", text, `{"id":"the end","call":"ping"}`} {
			if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
				break // ten bad lines close
			}
		}
		_ = ws.SetReadDeadline(time.Now().Add(patience))
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				if !websocket.IsCloseError(err, int(wire.CloseBadFrames), int(wire.CloseForbidden), int(wire.CloseReplaced)) {
					t.Errorf("%q ends with %v", text, err)
				}
				return
			}
			for line := range bytes.SplitSeq(bytes.TrimSpace(message), []byte("\n")) {
				var frame wire.ServerFrame
				if err := json.Unmarshal(line, &frame); err != nil || frame.Error != nil && !frame.Error.Code.Known() {
					t.Errorf("%q is answered %q", text, line)
				}
				if string(frame.ID) == `"the end"` {
					return
				}
			}
		}
	})
}
