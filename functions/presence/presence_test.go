package presence_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with function presence on it, and a clock that stands still unless a test moves it between calls.
type world struct {
	t      *testing.T
	nc     *nats.Conn
	caller *functions.Caller
	now    time.Time
}

func newWorld(t *testing.T) *world {
	server := jetstreamtest.Start(t)
	w := &world{t: t, nc: server.Connect(t), now: time.Now()}
	server.StoreOn(t, w.nc)
	functionstest.RunEnv(t, functions.Env{NATS: w.nc, Now: func() time.Time { return w.now }}, presence.Function(presence.Config{}))
	w.caller = functionstest.Caller(t, w.nc)
	return w
}

// write stores a record as an edge does.
func (w *world) write(key string, record any) {
	w.t.Helper()
	data, err := json.Marshal(record)
	if err != nil {
		w.t.Fatal(err)
	}
	msg := &nats.Msg{Subject: subjects.BucketSubject(subjects.BucketPresence, key), Data: data}
	if strings.HasPrefix(key, "e.") {
		msg.Header = nats.Header{"Nats-TTL": {"10s"}}
	}
	reply, err := w.nc.RequestMsg(msg, 5*time.Second)
	if err != nil || strings.Contains(string(reply.Data), `"error"`) {
		w.t.Fatalf("write %s: %v, %v", key, reply, err)
	}
}

func (w *world) lease(e subjects.Edge) {
	w.write(subjects.LeaseKey(e), wire.Lease{Edge: e, At: wire.At(w.now)})
}

func (w *world) connect(u subjects.User, d subjects.Device, e subjects.Edge) {
	w.write(subjects.DeviceKey(u, d), wire.DeviceRecord{Edge: e, At: wire.At(w.now)})
}

func (w *world) disconnect(u subjects.User, d subjects.Device, e subjects.Edge) {
	at := wire.At(w.now)
	w.write(subjects.DeviceKey(u, d), wire.DeviceRecord{Edge: e, At: at, LeftAt: &at})
}

func (w *world) set(u subjects.User, data string) error {
	_, err := w.caller.Call(w.t.Context(), "presence", "set", functionstest.As(u).Header(), []byte(data))
	return err
}

// get returns what one user sees of another.
func (w *world) get(as, of subjects.User) wire.Presence {
	w.t.Helper()
	got, err := functions.Invoke[wire.UsersQuery, wire.Presences](w.t.Context(), w.caller, functionstest.As(as), "presence", "get", wire.UsersQuery{Users: []subjects.User{of}})
	if err != nil {
		w.t.Fatal(err)
	}
	p, ok := got.Users[of]
	if !ok || len(got.Users) != 1 {
		w.t.Fatalf("got %+v", got)
	}
	return p
}

// short writes a presence as state, devices and seconds since last seen.
func (w *world) short(p wire.Presence) string {
	seen := "-"
	if p.LastSeen != nil {
		seen = fmt.Sprint(int(w.now.Sub(p.LastSeen.Time).Round(time.Second) / time.Second))
	}
	return strings.TrimSpace(fmt.Sprintf("%s %d %s %s", p.State, p.Devices, seen, p.Status))
}

func (w *world) expect(as, of subjects.User, want string) {
	w.t.Helper()
	if got := w.short(w.get(as, of)); got != want {
		w.t.Errorf("%s sees %s as %q; want %q", as, of, got, want)
	}
}

func TestAUserIsSeenToComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.lease("e1")
	w.expect("ada", "bob", "offline 0 -")
	w.connect("bob", "web", "e1")
	w.expect("ada", "bob", "online 1 -")
	w.connect("bob", "phone", "e1")
	w.expect("ada", "bob", "online 2 -")
	if err := w.set("bob", `{"state":"away","status":"lunch"}`); err != nil {
		t.Fatal(err)
	}
	w.expect("ada", "bob", "away 2 - lunch")
	w.expect("bob", "bob", "away 2 - lunch")
	w.disconnect("bob", "web", "e1")
	w.disconnect("bob", "phone", "e1")
	w.now = w.now.Add(wire.PresenceGrace - time.Second)
	w.expect("ada", "bob", "away 2 - lunch")
	w.connect("bob", "phone", "e1")
	w.now = w.now.Add(2 * time.Second)
	w.expect("ada", "bob", "away 1 - lunch")
	w.disconnect("bob", "phone", "e1")
	w.now = w.now.Add(time.Minute)
	w.expect("ada", "bob", "offline 0 60")
	w.expect("bob", "bob", "offline 0 60")
}

func TestADeadEdgesUsersAreOfflineSinceItsLastLease(t *testing.T) {
	w := newWorld(t)
	w.lease("e1")
	w.lease("e2")
	w.connect("bob", "web", "e1")
	w.connect("bob", "phone", "e2")
	w.connect("eve", "web", "nowhere")
	w.expect("ada", "bob", "online 2 -")
	w.expect("ada", "eve", "offline 0 0")
	w.now = w.now.Add(wire.LeaseTTL - time.Second)
	w.lease("e1")
	w.now = w.now.Add(2 * time.Second)
	w.expect("ada", "bob", "online 1 -")
	w.now = w.now.Add(wire.LeaseTTL)
	w.expect("ada", "bob", "offline 0 12")
}

// Whatever an invisible user does, others see one who left when the setting was made.
func TestAnInvisibleUserShowsNothing(t *testing.T) {
	w := newWorld(t)
	w.lease("e1")
	w.connect("bob", "web", "e1")
	if err := w.set("bob", `{"state":"invisible","status":"a secret","seen":"2020-01-01T00:00:00Z"}`); err != nil {
		t.Fatal(err)
	}
	w.expect("ada", "bob", "offline 0 0")
	w.expect("bob", "bob", "invisible 1 - a secret")
	for step, act := range []func(){
		func() { w.connect("bob", "phone", "e1") },
		func() { w.disconnect("bob", "phone", "e1") },
		func() {
			if err := w.set("bob", `{"state":"invisible","status":"another"}`); err != nil {
				t.Error(err)
			}
		},
		func() { w.disconnect("bob", "web", "e1") },
		func() { w.connect("bob", "web", "e1") },
	} {
		w.now = w.now.Add(7 * time.Second)
		w.lease("e1")
		act()
		w.expect("ada", "bob", fmt.Sprint("offline 0 ", 7*(step+1)))
	}
	if err := w.set("bob", `{"state":"online"}`); err != nil {
		t.Fatal(err)
	}
	w.expect("ada", "bob", "online 1 -")

	w.disconnect("bob", "web", "e1")
	w.now = w.now.Add(time.Hour)
	if err := w.set("bob", `{"state":"invisible"}`); err != nil { // over HTTP, with no device there
		t.Fatal(err)
	}
	w.expect("ada", "bob", "offline 0 3600")
	if err := w.set("zoe", `{"state":"invisible"}`); err != nil {
		t.Fatal(err)
	}
	w.expect("ada", "zoe", "offline 0 -")
}

func TestEdgesGetTheRecordsAndHearOfSettings(t *testing.T) {
	w := newWorld(t)
	heard, err := w.nc.SubscribeSync(subjects.PresenceSettingOf("bob"))
	if err != nil {
		t.Fatal(err)
	}
	w.lease("e1")
	w.connect("bob", "web", "e1")
	if err := w.set("bob", `{"state":"invisible"}`); err != nil {
		t.Fatal(err)
	}
	records, err := functions.Invoke[wire.UsersQuery, wire.PresenceRecords](t.Context(), w.caller, nil, "presence", "records", wire.UsersQuery{Users: []subjects.User{"bob", "nobody"}})
	if err != nil {
		t.Fatal(err)
	}
	bob, nobody := records.Users["bob"], records.Users["nobody"]
	if bob.Setting.State != wire.StateInvisible || bob.Setting.Seen == nil || bob.Devices["web"].Edge != "e1" || len(nobody.Devices) != 0 || records.Leases["e1"].Edge != "e1" {
		t.Errorf("records are %+v", records)
	}
	msg, err := heard.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var setting wire.PresenceSetting
	if err := json.Unmarshal(msg.Data, &setting); err != nil || setting.State != wire.StateInvisible || setting.Seen == nil {
		t.Errorf("edges hear %s, %v", msg.Data, err)
	}
	if method, known := w.caller.Method("presence", "records"); !known || method.Public {
		t.Errorf("records is %+v: clients must not call it", method)
	}
}

func TestHostileDataIsRefused(t *testing.T) {
	w := newWorld(t)
	many, _ := json.Marshal(map[string]any{"users": make([]string, wire.MaxWatched+1)})
	for i, test := range []struct {
		method subjects.Method
		data   string
		code   wire.Code
	}{
		{"set", `{}`, wire.BadData},
		{"set", `{"state":"offline"}`, wire.BadData},
		{"set", `{"state":"ONLINE"}`, wire.BadData},
		{"set", `{"state":"online","status":"` + strings.Repeat("x", wire.MaxStatus+1) + `"}`, wire.BadData},
		{"set", `{"state":"online","State":"away"}`, wire.BadFrame},
		{"get", `{}`, wire.BadData},
		{"get", `{"users":[]}`, wire.BadData},
		{"get", `{"users":["*"]}`, wire.BadID},
		{"get", `{"users":[">"]}`, wire.BadID},
		{"get", `{"users":["a.b"]}`, wire.BadID},
		{"get", `{"users":[""]}`, wire.BadID},
		{"get", `{"users":["` + strings.Repeat("x", 5000) + `"]}`, wire.BadID},
		{"get", string(many), wire.BadID},
		{"get", `{"users":["ada` + strings.Repeat(`","ada`, wire.MaxWatched) + `"]}`, wire.BadData},
		{"records", `{"users":["s.*"]}`, wire.BadID},
	} {
		if _, err := w.caller.Call(t.Context(), "presence", test.method, functionstest.As("ada").Header(), []byte(test.data)); wire.CodeOf(err) != test.code {
			t.Errorf("case %d, %s: %v; want %s", i, test.method, err, test.code)
		}
	}
	if _, err := w.caller.Call(t.Context(), "presence", "get", nil, []byte(`{"users":["ada"]}`)); wire.CodeOf(err) != wire.Unauthenticated {
		t.Errorf("nobody's get: %v", err)
	}
}
