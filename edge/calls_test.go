package edge

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

func TestHelloSignsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	c := r.dial(t)
	for _, name := range []string{"echo.say", "ping", "signal", "presence.watch", "no.such"} {
		if _, err := c.call(name, wire.Empty{}); err == nil || err.Code != wire.Unauthenticated {
			t.Errorf("%s before hello: %v", name, err)
		}
	}
	if _, err := c.call("auth.login", wire.Empty{}); err != nil {
		t.Errorf("auth.login before hello: %v", err)
	}
	ok, err := c.call("hello", map[string]any{"token": w.token("ada", time.Hour), "device": "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	var welcome wire.Welcome
	if err := json.Unmarshal(ok, &welcome); err != nil {
		t.Fatal(err)
	}
	if welcome.User != "ada" || welcome.Device != "web-1" || welcome.Session == "" || welcome.PingSeconds != 25 || welcome.Limits.FrameBytes != 65536 {
		t.Errorf("welcome is %s", ok)
	}
	if !slices.IsSorted(welcome.Calls) || !slices.Contains(welcome.Calls, "send.post") || slices.Contains(welcome.Calls, "echo.secret") {
		t.Errorf("calls are %v", welcome.Calls)
	}
	if ok, err := c.call("echo.say", map[string]any{"a": 1}); err != nil || string(ok) != `{"a":1}` {
		t.Errorf("echo.say answers %s, %v", ok, err)
	}
	if seen := w.seen[0]; seen.User != "ada" || seen.Device != "web-1" || seen.Session != welcome.Session || seen.Address != "127.0.0.1" {
		t.Errorf("the function saw %+v", seen)
	}
	if _, err := c.call("echo.fail", wire.Empty{}); err == nil || err.Code != wire.Conflict || err.Message != "Taken." || err.RetryAfterMS != 1000 {
		t.Errorf("echo.fail answers %v", err)
	}
	for _, name := range []string{"echo.secret", "echo.nothing", "auth.verify", "no.such", "", "send", "a>.b", "echo.say.x"} {
		if name == "" {
			continue
		}
		if _, err := c.call(name, wire.Empty{}); err == nil || (err.Code != wire.UnknownCall && err.Code != wire.Unavailable) {
			t.Errorf("%s answers %v", name, err)
		}
	}
}

func TestHelloThatFailsCloses(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	good := w.token("ada", time.Hour)
	for _, c := range []struct {
		name  string
		hello any
		code  wire.Code
		close wire.CloseCode
	}{
		{"no token", map[string]any{"device": "web"}, wire.Unauthenticated, wire.CloseUnauthenticated},
		{"unknown token", map[string]any{"token": "x", "device": "web"}, wire.Unauthenticated, wire.CloseUnauthenticated},
		{"expired token", map[string]any{"token": w.token("ada", -time.Minute), "device": "web"}, wire.TokenExpired, wire.CloseUnauthenticated},
		{"huge token", map[string]any{"token": strings.Repeat(".", 8000), "device": "web"}, wire.Unauthenticated, wire.CloseUnauthenticated},
		{"no device", map[string]any{"token": good}, wire.BadData, wire.CloseUnauthenticated},
		{"bad device", map[string]any{"token": good, "device": "a.>"}, wire.BadID, wire.CloseUnauthenticated},
		{"auth is broken", map[string]any{"token": "broken", "device": "web"}, wire.Unavailable, wire.CloseInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := r.dial(t)
			if _, err := cl.call("hello", c.hello); err == nil || err.Code != c.code {
				t.Errorf("hello answers %v, want %s", err, c.code)
			}
			if code := cl.closed(); code != int(c.close) {
				t.Errorf("closed with %d, want %d", code, c.close)
			}
		})
	}
}

func TestHelloAgain(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	c := r.connect(t, w, "ada", "web")
	fresh := w.token("ada", 2*time.Hour)
	if ok, err := c.call("hello", map[string]any{"token": fresh, "device": "web"}); err != nil || !strings.Contains(string(ok), w.tokens[fresh].Session) {
		t.Errorf("a fresh token answers %s, %v", ok, err)
	}
	if _, err := c.call("hello", map[string]any{"token": "rubbish", "device": "web"}); err == nil || err.Code != wire.Unauthenticated {
		t.Errorf("a bad token answers %v", err)
	}
	if _, err := c.call("ping", wire.Empty{}); err != nil {
		t.Errorf("after a bad second hello: %v", err)
	}
	if _, err := c.call("hello", map[string]any{"token": w.token("bob", time.Hour), "device": "web"}); err == nil || err.Code != wire.Forbidden {
		t.Errorf("another user answers %v", err)
	}
	if code := c.closed(); code != int(wire.CloseForbidden) {
		t.Errorf("closed with %d", code)
	}
}

func TestCallsOfOneConversationKeepTheirOrder(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	c := r.connect(t, w, "ada", "web")
	// The first waits; the second, of the same conversation, must not pass it, nor the third, to the same user; the fourth may.
	first := c.begin("echo.wait", map[string]any{"gate": "one", "conversation": "d.ada.bob"})
	second := c.begin("echo.say", map[string]any{"conversation": "d.ada.bob"})
	third := c.begin("echo.say", map[string]any{"to": "bob"})
	if _, err := c.call("echo.say", map[string]any{"conversation": "g.other"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second:
		t.Error("the second passed the first")
	case <-third:
		t.Error("the third passed the first")
	default:
	}
	close(w.gate("one"))
	for _, answer := range []chan wire.ServerFrame{first, second, third} {
		if f := <-answer; f.Error != nil {
			t.Error(f.Error)
		}
	}
	for i := range 50 {
		c.raw(fmt.Sprintf(`{"call":"send.post","data":{"conversation":"g.x","client_id":"c-%d","body":{}}}`, i))
	}
	eventually(t, "all posts are stored", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.logs["g.x"]) == 50 })
	for i, payload := range w.logs["g.x"] {
		if !strings.Contains(string(payload), fmt.Sprintf(`"client_id":"c-%d"`, i)) {
			t.Fatalf("entry %d is %s", i+1, payload)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) > 0 {
		t.Errorf("calls without id were answered: %v", c.frames)
	}
}

func TestFrames(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits.OpenCalls = 3 })
	c := r.connect(t, w, "ada", "web")
	c.raw(`{"id":50,"call":"echo.wait","data":{"gate":"g"}}`)
	for _, f := range []struct {
		line, id string
		code     wire.Code
	}{
		{`{"id":50,"call":"echo.say"}`, "50", wire.BadFrame}, // still open
		{`{"id":50,"call":"hello"}`, "50", wire.BadFrame},
		{`nonsense`, "", wire.BadFrame},
		{`{"call":""}`, "", wire.BadFrame},
		{`{"id":"` + strings.Repeat("x", 65) + `","call":"ping"}`, "", wire.BadFrame},
		{`{"id":9,"call":"echo.say","data":{"a":"` + strings.Repeat("x", 20<<10) + `"}}`, "9", wire.TooLarge},
		{`{"id":9,"call":"echo.say","data":{"a":1,"a":2}}`, "9", wire.BadFrame},
	} {
		c.raw(f.line)
		for {
			got := c.next()
			if got.Error == nil {
				continue
			}
			if got.Error.Code != f.code || string(got.ID) != f.id {
				t.Errorf("%.60s is answered %s %v", f.line, got.ID, got.Error)
			}
			break
		}
	}
	one, two := c.begin("echo.wait", map[string]any{"gate": "g"}), c.begin("echo.wait", map[string]any{"gate": "g"})
	if _, err := c.call("echo.say", wire.Empty{}); err == nil || err.Code != wire.RateLimited || err.RetryAfterMS == 0 {
		t.Errorf("a fourth open call is answered %v", err)
	}
	close(w.gate("g"))
	for _, answer := range []chan wire.ServerFrame{one, two} {
		if f := <-answer; f.Error != nil {
			t.Error(f.Error)
		}
	}
	if f := c.next(); string(f.ID) != "50" || f.Error != nil {
		t.Errorf("the call that was open is answered %+v", f)
	}
	c.raw("\n\n{\"id\":\"a\",\"call\":\"ping\"}\n\n\r\n{\"call\":\"ping\"}\n{\"call\":\"no.such\"}\n{\"id\":\"b\",\"call\":\"ping\"}\n")
	for range 2 {
		if f := c.next(); f.Error != nil || string(f.OK) != "{}" {
			t.Errorf("a batched ping is answered %+v", f)
		}
	}
	for range 10 {
		c.raw("{")
	}
	if code := c.closed(); code != int(wire.CloseBadFrames) {
		t.Errorf("closed with %d", code)
	}
}
