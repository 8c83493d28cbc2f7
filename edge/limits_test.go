package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits.PerAddress, c.Limits.PerUser = 6, 2 })
	first := r.connect(t, w, "ada", "one")
	r.connect(t, w, "ada", "two")
	third := r.dial(t)
	if _, err := third.call("hello", map[string]any{"token": w.token("ada", time.Hour), "device": "three"}); err == nil || err.Code != wire.RateLimited {
		t.Errorf("a third device is answered %v", err)
	}
	if code := third.closed(); code != int(wire.CloseTooMany) {
		t.Errorf("a third device is closed with %d", code)
	}
	again := r.connect(t, w, "ada", "one")
	if code := first.closed(); code != int(wire.CloseReplaced) {
		t.Errorf("the older socket of a device is closed with %d", code)
	}
	if _, err := again.call("ping", wire.Empty{}); err != nil {
		t.Error(err)
	}
	eventually(t, "two sockets are left", func() bool { return r.count.Load() == 2 })
	for range 4 {
		r.dial(t)
	}
	_, response, err := websocket.DefaultDialer.Dial("ws://"+r.addr+"/v1/ws", nil)
	if err == nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("a seventh socket of the address is answered %v", response)
	}
	// Whoever is not trusted cannot be somebody else.
	_, response, _ = websocket.DefaultDialer.Dial("ws://"+r.addr+"/v1/ws", http.Header{"X-Forwarded-For": {"192.0.2.9"}})
	if response == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a made-up address is answered %v", response)
	}
}

func TestForwardedAddresses(t *testing.T) {
	e := &Edge{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	for _, c := range []struct {
		remote, forwarded, want string
	}{
		{"192.0.2.1:5", "198.51.100.1", "192.0.2.1"},
		{"10.0.0.1:5", "198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:5", "203.0.113.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"},
		{"10.0.0.1:5", "10.1.1.1, 10.2.2.2", "10.1.1.1"},
		{"10.0.0.1:5", "rubbish", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"[::1]:5", "2001:db8::1", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", "198.51.100.1", "198.51.100.1"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": {c.forwarded}}}
		if got := e.clientAddress(r).String(); got != c.want {
			t.Errorf("%s with %q is %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
	if a, b := limitKey(netip.MustParseAddr("2001:db8::1")), limitKey(netip.MustParseAddr("2001:db8::ffff:2")); a != b || strings.Contains(a, "::1") {
		t.Errorf("one /64 counts as %s and %s", a, b)
	}
}

func TestCallsAreLimited(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Limits)
	}{
		{"a connection", func(l *Limits) { l.Connection = Rate{1, 10} }},
		{"a user", func(l *Limits) { l.User = Rate{1, 10} }},
		{"a call", func(l *Limits) { l.Call = Rate{1, 10} }},
		{"a named call", func(l *Limits) { l.Calls = map[string]Rate{"send.post": {1, 10}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.edge(func(cfg *Config) { c.change(&cfg.Limits); cfg.Limits.Refused = Rate{1, 40} })
			ada := r.connect(t, w, "ada", "web")
			stored, refused := 0, 0
			for i := range 30 {
				_, err := ada.call("send.post", map[string]any{"conversation": "g.x", "client_id": fmt.Sprint(i), "body": map[string]any{}})
				switch {
				case err == nil:
					stored++
				case err.Code == wire.RateLimited && err.RetryAfterMS > 0:
					refused++
				default:
					t.Error(err)
				}
			}
			if len(w.logs["g.x"]) != stored || stored < 9 || stored > 14 || refused < 16 {
				t.Errorf("%d of 30 are stored, %d answered ok and %d refused", len(w.logs["g.x"]), stored, refused)
			}
			for range 60 {
				ada.raw(`{"call":"send.post","data":{"conversation":"g.x","client_id":"z","body":{}}}`)
			}
			if code := ada.closed(); code != int(wire.CloseRateLimited) {
				t.Errorf("whoever goes on is closed with %d", code)
			}
			ada = r.connect(t, w, "ada", "web")
			for range 45 { // more than the rate of a new connection and what time has given back, and fewer than a fresh one is forgiven
				ada.raw(`{"call":"send.post","data":{"conversation":"g.x","client_id":"z","body":{}}}`)
			}
			if code := ada.closed(); code != int(wire.CloseRateLimited) {
				t.Errorf("whoever goes on with another connection is closed with %d", code)
			}
		})
	}
}

// Whoever has used up a rate cannot have a new one by connecting anew, nor over HTTP.
func TestANewConnectionIsNoNewBurst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Limits)
	}{
		{"a user", func(l *Limits) { l.User = Rate{0.001, 10} }},
		{"a call", func(l *Limits) { l.Call = Rate{0.001, 10} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.edge(func(cfg *Config) { c.change(&cfg.Limits) })
			say := func(p *client) *wire.Error {
				_, err := p.call("echo.say", wire.Empty{})
				return err
			}
			ada := r.connect(t, w, "ada", "web")
			for i := range 5 {
				if err := say(ada); err != nil {
					t.Fatalf("call %d: %v", i, err)
				}
			}
			ada.close()
			eventually(t, "ada is gone", func() bool { return r.users.count() == 0 })
			token := w.token("ada", time.Hour)
			for i := range 3 {
				if status, _, answer := r.httpCall(t, "echo.say", token, `{}`); status != 200 {
					t.Fatalf("call %d over HTTP: %d %s", i, status, answer)
				}
			}
			ada = r.connect(t, w, "ada", "web")
			for i := range 3 {
				if err := say(ada); (err != nil) != (i == 2) || err != nil && err.Code != wire.RateLimited {
					t.Errorf("call %d of the second connection: %v", i, err)
				}
			}
			ada.close()
			eventually(t, "ada is gone again", func() bool { return r.users.count() == 0 })
			if status, _, answer := r.httpCall(t, "echo.say", token, `{}`); status != 429 {
				t.Errorf("the eleventh call, over HTTP, is answered %d %s", status, answer)
			}
		})
	}
}

func TestLimitsHaveSafeDefaultsAndAreChecked(t *testing.T) {
	for _, l := range []Limits{{}, None()} {
		if err := l.Validate(); err != nil {
			t.Error(err)
		}
	}
	full := Limits{}.withDefaults()
	if err := full.Validate(); err != nil || full.Address.pace().each == 0 || full.QueueBytes == 0 || full.Hello != 5*time.Second {
		t.Errorf("the defaults are %+v, %v", full, err)
	}
	for _, l := range []Limits{{PerUser: -1}, {FrameBytes: 100}, {User: Rate{1, 0}}, {User: Rate{-1, 1}}, {Hello: -1}, {Calls: map[string]Rate{"a.b": {math.Inf(1), 0}}}} {
		if l.Validate() == nil {
			t.Errorf("%+v is accepted", l)
		}
	}
}

func TestAnAllowanceIsABurstAndARate(t *testing.T) {
	p := Rate{10, 3}.pace()
	var a allowance
	now := rightNow()
	for i, c := range []struct {
		after time.Duration
		ok    bool
	}{{0, true}, {0, true}, {0, true}, {0, false}, {50 * time.Millisecond, false}, {50 * time.Millisecond, true}, {0, false}, {time.Hour, true}, {0, true}, {0, true}, {0, false}} {
		now = now.in(c.after)
		wait, ok := a.take(p, now)
		if ok != c.ok || ok == (wait > 0) || wait > 100*time.Millisecond {
			t.Errorf("try %d: %t, wait %s", i, ok, wait)
		}
	}
	if a.whole(now.in(200*time.Millisecond)) || !a.whole(now.in(300*time.Millisecond)) {
		t.Error("three are not whole again after 0.3 s")
	}
	for range 1000 {
		if _, ok := new(allowance).take(None().User.pace(), now); !ok {
			t.Fatal("no limit limits")
		}
	}
}

// httpCall does a call over HTTP.
func (r *running) httpCall(t *testing.T, name, token, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/v1/call/"+strings.Replace(name, ".", "/", 1), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(answer)
}

func TestHTTPCalls(t *testing.T) {
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Origins = []string{"https://chat.example"} })
	token := w.token("ada", time.Hour)
	for _, c := range []struct {
		name, token, body string
		header            []string
		status            int
		code              wire.Code
	}{
		{"echo.say", token, `{"a":1}`, nil, 200, ""},
		{"echo.say", token, ``, nil, 200, ""},
		{"auth.login", "", `{}`, nil, 200, ""},
		{"echo.say", "", `{}`, nil, 401, wire.Unauthenticated},
		{"echo.say", "wrong", `{}`, nil, 401, wire.Unauthenticated},
		{"echo.say", w.token("ada", -time.Second), `{}`, nil, 401, wire.TokenExpired},
		{"echo.fail", token, `{}`, nil, 409, wire.Conflict},
		{"echo.secret", token, `{}`, nil, 404, wire.UnknownCall},
		{"auth.verify", token, `{}`, nil, 404, wire.UnknownCall},
		{"presence.watch", token, `{}`, nil, 404, wire.UnknownCall},
		{"echo.%3E", token, `{}`, nil, 404, wire.UnknownCall},
		{"ping", token, `{}`, nil, 404, wire.UnknownCall},
		{"echo.say.more", token, `{}`, nil, 404, wire.UnknownCall},
		{"echo.say?token=x", token, `{}`, nil, 400, wire.TokenInQuery},
		{"echo.say", token, `{"a":"` + strings.Repeat("x", 20<<10) + `"}`, nil, 413, wire.TooLarge},
		{"echo.say", token, `{}`, []string{"Origin", "https://evil.example"}, 403, wire.Forbidden},
		{"echo.say", token, `{}`, []string{"Origin", "https://chat.example"}, 200, ""},
	} {
		status, header, answer := r.httpCall(t, c.name, c.token, c.body, c.header...)
		var problem wire.Problem
		if status != 200 {
			if err := json.Unmarshal([]byte(answer), &problem); err != nil || problem.Status != status || header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: no problem: %s", c.name, answer)
			}
		}
		if status != c.status || problem.Code != c.code {
			t.Errorf("%s %.20s is answered %d %s", c.name, c.body, status, answer)
		}
		wantCORS := ""
		if len(c.header) > 0 && c.status == 200 {
			wantCORS = "https://chat.example"
		}
		if got := header.Get("Access-Control-Allow-Origin"); got != wantCORS {
			t.Errorf("%s lets %q read", c.name, got)
		}
	}
	if seen := w.seen[0]; seen.User != "ada" || seen.Device != "" || seen.Session != w.tokens[token].Session || seen.Address != "127.0.0.1" {
		t.Errorf("the function saw %+v", seen)
	}
	if w.verified > 4 {
		t.Errorf("auth verified %d times", w.verified)
	}
	for origin, status := range map[string]int{"https://chat.example": 204, "https://evil.example": 403} {
		response := exchange(t, r.addr, "OPTIONS /v1/call/echo/say HTTP/1.1\r\nHost: "+r.addr+"\r\nOrigin: "+origin+"\r\nAccess-Control-Request-Method: POST\r\n\r\n")
		if response.StatusCode != status || (response.Header.Get("Access-Control-Allow-Methods") == "POST") != (status == 204) {
			t.Errorf("the preflight of %s is answered %d", origin, response.StatusCode)
		}
	}
}

func TestNothingOperationalIsPublic(t *testing.T) {
	w := newWorld(t)
	web := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "page") })
	r := w.edge(func(c *Config) { c.Web = web })
	for path, status := range map[string]int{
		"/": 200, "/g/general": 200, "/metrics": 404, "/debug/pprof/": 404, "/debug/vars": 404, "/readyz?verbose": 404, "/livez": 404, "/$SRV": 404, "/v1": 404, "/v1/x": 404,
		"/v1/call/echo/say": 404, "/?token=x": 400, "//metrics": 200,
	} {
		response := exchange(t, r.addr, "GET "+path+" HTTP/1.1\r\nHost: "+r.addr+"\r\n\r\n")
		body := make([]byte, 4)
		_, _ = io.ReadFull(response.Body, body)
		if response.StatusCode != status || (string(body) == "page") != (status == 200) {
			t.Errorf("%s is answered %d %s", path, response.StatusCode, body)
		}
	}
}

func TestIdsReachNoSubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits = None() })
	tap, err := w.server.Connect(t).SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	_ = tap.SetPendingLimits(-1, -1)
	bad := []string{"*", ">", "a.b", " ", "a b", "a\tb", "a\r\nb", "a\x00b", "$SYS", "$JS.API.STREAM.DELETE.X", "_INBOX.x", "a\u200bb", "a\u00a0b", "é", "A", strings.Repeat("x", 65), strings.Repeat("x", 5000)}
	c := r.connect(t, w, "ada", "web")
	fields := func(id string) []struct {
		call string
		data any
	} {
		return []struct {
			call string
			data any
		}{
			{"signal", map[string]any{"conversation": "g." + id, "kind": "typing"}},
			{"presence.watch", map[string]any{"users": []string{id}}},
			{"presence.unwatch", map[string]any{"users": []string{id}}},
			{"send.post", map[string]any{"conversation": "g." + id, "client_id": "x", "body": map[string]any{}}},
			{"send.post", map[string]any{"to": id, "client_id": "x", "body": map[string]any{}}},
		}
	}
	for _, id := range bad {
		for _, f := range fields(id) {
			if _, err := c.call(f.call, f.data); err == nil || err.Code != wire.BadID {
				t.Errorf("%s with %.20q is answered %v", f.call, id, err)
			}
		}
		hello := r.dial(t)
		if _, err := hello.call("hello", map[string]any{"token": w.token("ada", time.Hour), "device": id}); err == nil || err.Code != wire.BadID {
			t.Errorf("hello with %.20q is answered %v", id, err)
		}
		if _, err := c.call("echo."+id, wire.Empty{}); err == nil || err.Code != wire.UnknownCall && err.Code != wire.TooLarge {
			t.Errorf("a call of %.20q is answered %v", id, err)
		}
	}
	if _, err := c.call("ping", wire.Empty{}); err != nil {
		t.Fatal(err)
	}
	if err := tap.Drain(); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := tap.NextMsg(time.Second)
		if err != nil {
			break
		}
		for _, token := range strings.Split(msg.Subject, ".") {
			if strings.ContainsAny(token, "* \t\r\n\x00") || len(token) > subjects.MaxIDLength && strings.Contains(token, "xxxx") {
				t.Errorf("something was said on %q", msg.Subject)
			}
		}
	}
	if r.cfg.NATS.Stats().Reconnects != 0 || len(w.logs) != 0 {
		t.Error("the connection was lost, or something was stored")
	}
}
