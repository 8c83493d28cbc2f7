package edge

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestExpiryClosesAndAFreshTokenExtends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	short := func(device string) *client {
		c := r.dial(t)
		if _, err := c.call("hello", map[string]any{"token": w.token("ada", 3*time.Second), "device": device}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	gone, stays := short("one"), short("two")
	for _, c := range []*client{gone, stays} {
		var change wire.SessionChange
		if err := json.Unmarshal(c.event(wire.EventSession), &change); err != nil || change.ExpiresAt == nil || change.Revoked {
			t.Errorf("the warning is %+v, %v", change, err)
		}
	}
	if _, err := stays.call("hello", map[string]any{"token": w.token("ada", time.Hour), "device": "two"}); err != nil {
		t.Fatal(err)
	}
	if code := gone.closed(); code != int(wire.CloseTokenExpired) {
		t.Errorf("closed with %d", code)
	}
	if _, err := stays.call("ping", wire.Empty{}); err != nil {
		t.Errorf("the extended session: %v", err)
	}
}

func TestRevocationClosesWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.edge(), w.edge(func(c *Config) { c.Name = "edge-b" })
	one, two, other := a.connect(t, w, "ada", "one"), b.connect(t, w, "ada", "two"), b.connect(t, w, "bob", "one")
	token := w.token("ada", time.Hour)
	three := a.dial(t)
	if _, err := three.call("hello", map[string]any{"token": token, "device": "three"}); err != nil {
		t.Fatal(err)
	}
	session := w.tokens[token].Session
	// One session, which only the answer to the edge's question tells.
	w.mu.Lock()
	w.revocations = append(w.revocations, wire.Revocation{User: "ada", Session: session})
	delete(w.tokens, token)
	w.mu.Unlock()
	begun := time.Now()
	if code := three.closed(); code != int(wire.CloseRevoked) || time.Since(begun) > 2*time.Second {
		t.Errorf("closed with %d after %s", code, time.Since(begun))
	}
	if _, err := a.dial(t).call("hello", map[string]any{"token": token, "device": "three"}); err == nil || err.Code != wire.Unauthenticated {
		t.Errorf("the revoked token is answered %v", err)
	}
	// All sessions, by an event.
	before := wire.At(time.Now().Add(time.Second))
	w.tell("ada", wire.UserEvent{Change: wire.ChangeRevoked, Revocation: &wire.Revocation{User: "ada", Before: &before}})
	for _, c := range []*client{one, two} {
		if code := c.closed(); code != int(wire.CloseRevoked) {
			t.Errorf("closed with %d", code)
		}
	}
	if _, err := other.call("ping", wire.Empty{}); err != nil {
		t.Errorf("another user: %v", err)
	}
}

func TestALogoutIsAnsweredBeforeItsOwnSocketCloses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	c := r.connect(t, w, "ada", "one")
	answer := c.begin("auth.logout", wire.Logout{})
	c.event(wire.EventSession)
	close(w.gate("logout"))
	if code := c.closed(); code != int(wire.CloseRevoked) {
		t.Errorf("closed with %d", code)
	}
	select {
	case f := <-answer:
		if f.Error != nil {
			t.Errorf("the logout is answered %v", f.Error)
		}
	default:
		t.Error("the socket closed without an answer")
	}
	// Nobody stays signed in by asking to be signed out: the next poll ends it.
	w.mu.Lock()
	delete(w.gates, "logout")
	w.mu.Unlock()
	token := w.token("bob", time.Hour)
	d := r.dial(t)
	if _, err := d.call("hello", map[string]any{"token": token, "device": "one"}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	d.begin("auth.logout", wire.Logout{})
	d.event(wire.EventSession)
	w.mu.Lock()
	w.revocations = append(w.revocations, wire.Revocation{User: "bob", Session: w.tokens[token].Session})
	w.mu.Unlock()
	if code := d.closed(); code != int(wire.CloseRevoked) || time.Since(begun) > 2*time.Second {
		t.Errorf("closed with %d after %s", code, time.Since(begun))
	}
}

// state waits until a user's presence, as a client is told it, is as given.
func (c *client) state(user string, want wire.State) {
	c.t.Helper()
	for {
		var change wire.PresenceChange
		if err := json.Unmarshal(c.event(wire.EventPresence), &change); err != nil {
			c.t.Fatal(err)
		}
		if change.User == subjects.User(user) {
			if change.State != want {
				c.t.Fatalf("%s is %s, want %s", user, change.State, want)
			}
			return
		}
	}
}

func TestPresenceIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.edge(), w.edge(func(c *Config) { c.Name = "edge-b" })
	ada := a.connect(t, w, "ada", "web")
	ok, err := ada.call("presence.watch", wire.UsersQuery{Users: []subjects.User{"ada", "bob"}})
	if err != nil || string(ok) != `{"users":{"ada":{"state":"online","devices":1},"bob":{"state":"offline","devices":0}}}` {
		t.Fatalf("watch answers %s, %v", ok, err)
	}
	bob := b.connect(t, w, "bob", "web")
	ada.state("bob", wire.StateOnline)
	set := func(user subjects.User, state wire.State) {
		body, _ := wire.Marshal(wire.PresenceSetting{State: state})
		_ = w.nc.Publish(subjects.BucketSubject(subjects.BucketPresence, subjects.SettingKey(user)), body)
	}
	set("bob", wire.StateAway)
	ada.state("bob", wire.StateAway)
	set("bob", wire.StateInvisible)
	ada.state("bob", wire.StateOffline)
	set("bob", wire.StateOnline)
	ada.state("bob", wire.StateOnline)
	// A reconnect does not show; a departure does, after the grace.
	bob.close()
	bob = a.connect(t, w, "bob", "web")
	begun := time.Now()
	bob.close()
	ada.state("bob", wire.StateOffline)
	if took := time.Since(begun); took < wire.PresenceGrace-time.Second || took > wire.PresenceGrace+3*time.Second {
		t.Errorf("offline after %s", took)
	}
	if _, err := ada.call("presence.unwatch", wire.UsersQuery{Users: []subjects.User{"bob"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bob is no longer followed", func() bool {
		a.presence.mu.Lock()
		defer a.presence.mu.Unlock()
		return a.presence.followed["bob"] == nil
	})
}

func TestADeviceBelongsToItsNewestConnectionOnAnyEdge(t *testing.T) {
	w := newWorld(t)
	a, b := w.edge(), w.edge(func(c *Config) { c.Name = "edge-b" })
	old := a.connect(t, w, "ada", "web")
	eventually(t, "the first record is written", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.presence["s.ada.web"] != nil })
	newer := b.connect(t, w, "ada", "web")
	if code := old.closed(); code != int(wire.CloseReplaced) {
		t.Errorf("closed with %d", code)
	}
	eventually(t, "the first edge has forgotten ada", func() bool { return a.users.find("ada") == nil })
	newer.call("ping", wire.Empty{})
	var record wire.DeviceRecord
	w.mu.Lock()
	err := json.Unmarshal(w.presence["s.ada.web"], &record)
	w.mu.Unlock()
	if err != nil || record.Edge != "edge-b" || record.LeftAt != nil {
		t.Errorf("the record is %+v, %v", record, err)
	}
}

func TestAnEdgeThatDiesTakesItsDevicesOffline(t *testing.T) {
	now := time.Now()
	p := &presence{leases: map[subjects.Edge]lease{"edge-b": {until: now.Add(time.Minute), at: wire.At(now)}}}
	left := wire.At(now.Add(-time.Hour))
	f := &followed{
		user: "bob", graces: map[subjects.Device]time.Time{},
		records: wire.UserRecords{Devices: map[subjects.Device]wire.DeviceRecord{
			"web":   {Edge: "edge-b", At: wire.At(now.Add(-time.Minute))},
			"phone": {Edge: "edge-c", At: wire.At(now.Add(-2 * time.Hour)), LeftAt: &left},
		}},
	}
	if s := p.state(f); s.State != wire.StateOnline || s.Devices != 1 || s.LastSeen != nil {
		t.Errorf("with a lease: %+v", s)
	}
	p.leases["edge-b"] = lease{at: wire.At(now)}
	if s := p.state(f); s.State != wire.StateOffline || s.Devices != 0 || s.LastSeen == nil || !s.LastSeen.Equal(wire.At(now).Time) {
		t.Errorf("without: %+v", s)
	}
	f.graces["phone"] = now.Add(time.Minute)
	if s := p.state(f); s.State != wire.StateOnline || s.Devices != 0 {
		t.Errorf("in the grace of another device: %+v", s)
	}
}

func TestWatchersCannotTellAnInvisibleUserFromOneWhoLeft(t *testing.T) {
	now := time.Now()
	left := wire.At(now.Add(-time.Hour))
	p := &presence{leases: map[subjects.Edge]lease{"edge-b": {until: now.Add(time.Minute), at: wire.At(now)}}}
	gone := &followed{records: wire.UserRecords{
		Setting: wire.PresenceSetting{State: wire.StateOnline, Status: "busy"},
		Devices: map[subjects.Device]wire.DeviceRecord{"web": {Edge: "edge-b", At: left, LeftAt: &left}},
	}}
	hidden := &followed{records: wire.UserRecords{
		Setting: wire.PresenceSetting{State: wire.StateInvisible, Status: "busy", Seen: &left},
		Devices: map[subjects.Device]wire.DeviceRecord{"web": {Edge: "edge-b", At: left}},
	}}
	for what, f := range map[string]*followed{"one who left": gone, "an invisible user": hidden} {
		if s := p.state(f); s.State != wire.StateOffline || s.Status != "" || s.Devices != 0 || s.LastSeen == nil || !s.LastSeen.Equal(left.Time) {
			t.Errorf("%s shows as %+v", what, s)
		}
	}
}

func TestDrainAnswersWhatIsOpenAndClosesAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.DrainWindow = 300 * time.Millisecond })
	ada, bob := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web")
	answer := ada.begin("echo.wait", map[string]any{"gate": "g"})
	if _, err := ada.call("ping", wire.Empty{}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(r.stop)
	for _, c := range []*client{ada, bob} {
		var d wire.Draining
		if err := json.Unmarshal(c.event(wire.EventDraining), &d); err != nil || d.ReconnectAfterMS < 1 || d.ReconnectAfterMS > 300 {
			t.Errorf("draining says %+v, %v", d, err)
		}
	}
	if r.Ready() == nil {
		t.Error("a draining edge is ready")
	}
	if code := bob.closed(); code != int(wire.CloseDraining) {
		t.Errorf("closed with %d", code)
	}
	close(w.gate("g"))
	if f := <-answer; f.Error != nil {
		t.Errorf("the open call is answered %v", f.Error)
	}
	if code := ada.closed(); code != int(wire.CloseDraining) {
		t.Errorf("closed with %d", code)
	}
	wg.Wait()
	eventually(t, "the departures are written", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		var one, two wire.DeviceRecord
		_, _ = json.Unmarshal(w.presence["s.ada.web"], &one), json.Unmarshal(w.presence["s.bob.web"], &two)
		return one.LeftAt != nil && two.LeftAt != nil
	})
}

func TestOperatorsAskKickAndDrain(t *testing.T) {
	w := newWorld(t)
	r := w.edge()
	ada := r.connect(t, w, "ada", "web")
	ask := func(verb subjects.EdgeVerb, body string) string {
		answer, err := w.nc.Request(subjects.EdgeRequest("edge-a", verb), []byte(body), patience)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.Data)
	}
	if got := ask(subjects.EdgeStats, ""); got != `{"edge":"edge-a","connections":1,"users":1,"conversations":0,"draining":false}` {
		t.Errorf("stats are %s", got)
	}
	if answer, err := w.nc.Request(subjects.Relayed("echo", "secret"), nil, patience); err != nil || string(answer.Data) != `"secret"` {
		t.Errorf("a call through the edge answers %v, %v", answer, err)
	}
	if got := ask(subjects.EdgeKick, `{"user":"bob"}`) + ask(subjects.EdgeKick, `{"user":"ada","device":"phone"}`); got != `{"connections":0}{"connections":0}` {
		t.Errorf("kicking others answers %s", got)
	}
	if got := ask(subjects.EdgeKick, `{"user":"ada"}`); got != `{"connections":1}` {
		t.Errorf("kicking answers %s", got)
	}
	if code := ada.closed(); code != int(wire.CloseResync) {
		t.Errorf("closed with %d", code)
	}
	bob := r.connect(t, w, "bob", "web")
	ask(subjects.EdgeDrain, "")
	if code := bob.closed(); code != int(wire.CloseDraining) {
		t.Errorf("closed with %d", code)
	}
	r.stop()
}
