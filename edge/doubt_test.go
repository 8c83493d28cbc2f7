package edge

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// A store that was gone for longer than leases live ends all of them when it is back. No edge believes that of itself.
func TestAnEdgeKnowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	ada := r.connect(t, w, "ada", "web")
	if _, err := ada.call("presence.watch", wire.UsersQuery{Users: []subjects.User{"ada"}}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.presence[subjects.LeaseKey("edge-a")] = nil
	w.mu.Unlock()
	_ = w.nc.Publish("im.presence."+subjects.LeaseKey("edge-a"), nil)
	body, _ := wire.Marshal(wire.PresenceSetting{State: wire.StateAway})
	_ = w.nc.Publish(subjects.BucketSubject(subjects.BucketPresence, subjects.SettingKey("ada")), body)
	ada.state("ada", wire.StateAway) // and was not offline before
}

func TestLeasesProveNothingWhileNobodysIsPassedOn(t *testing.T) {
	t.Parallel()
	r := newWorld(t).edge()
	p := &r.presence
	eventually(t, "the store passes leases on", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.unsure(time.Now()) })
	lease := func(e subjects.Edge, stands bool) {
		t.Helper()
		var data []byte
		if stands {
			data, _ = wire.Marshal(wire.Lease{Edge: e, At: wire.At(time.Now())})
		}
		if err := p.onLease(e, data); err != nil {
			t.Fatal(err)
		}
	}
	alive := func(what string, want bool) {
		t.Helper()
		p.mu.Lock()
		defer p.mu.Unlock()
		if got := p.alive("edge-b", time.Now()); got != want {
			t.Errorf("%s: another edge is alive: %v, want %v", what, got, want)
		}
	}
	lease("edge-b", true)
	p.mu.Lock()
	p.echoed = time.Now().Add(-echoWithin - time.Second)
	p.mu.Unlock()
	lease("edge-b", false)
	alive("the store passed nothing on for a while", true)
	lease("edge-a", true)
	lease("edge-b", false)
	alive("the store is back, and the other had no time to renew its lease", true)
	p.mu.Lock()
	p.doubt = time.Time{}
	p.mu.Unlock()
	lease("edge-b", false)
	alive("all had that time", false)
}

// A device that leaves while the store cannot be reached must not be shown as connected for as long as its edge lives.
func TestDeparturesAreSaidAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	bob, ada := r.connect(t, w, "bob", "web"), r.connect(t, w, "ada", "web")
	key := func(user subjects.User) string { return subjects.DeviceKey(user, "web") }
	left := func(user subjects.User) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		var record wire.DeviceRecord
		return json.Unmarshal(w.presence[key(user)], &record) == nil && record.LeftAt != nil
	}
	sess := r.users.find("ada").list()[0].session.Load()
	ada.close()
	bob.close()
	eventually(t, "the departures are written", func() bool { return left("ada") && left("bob") })
	r.connect(t, w, "bob", "web")
	eventually(t, "bob is back", func() bool { return !left("bob") })
	said := func() bool {
		r.presence.mu.Lock()
		defer r.presence.mu.Unlock()
		return len(r.presence.unsaid) == 0
	}
	eventually(t, "what has come back is forgotten", said)
	w.mu.Lock()
	delete(w.presence, key("ada")) // as if it had been lost on its way
	w.mu.Unlock()
	now := wire.At(time.Now())
	r.presence.remember(sess, &now)
	r.unsure("reconnect")
	eventually(t, "the lost departure is written again", func() bool { return left("ada") })
	eventually(t, "and forgotten then", said)
	if left("bob") {
		t.Error("a device that came back is said to have left")
	}
}

// The store may have nobody to lead it at the moment of a connect, without the edge losing its connection to NATS: nothing would tell others of the device.
func TestArrivalsAreSaidAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	r.connect(t, w, "ada", "web")
	key := subjects.DeviceKey("ada", "web")
	there := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.presence[key]) > 0
	}
	said := func() bool {
		r.presence.mu.Lock()
		defer r.presence.mu.Unlock()
		return len(r.presence.unsaid) == 0
	}
	eventually(t, "the arrival is written", there)
	eventually(t, "it has come back", said)
	w.mu.Lock()
	delete(w.presence, key) // as if it had been lost on its way
	w.mu.Unlock()
	r.presence.remember(r.users.find("ada").list()[0].session.Load(), nil)
	eventually(t, "the lost arrival is written again", there)
	eventually(t, "what has come back is forgotten", said)
}

// The presence bucket of three servers is in memory. Where they restart one after the other faster than they tell one another, it is empty afterwards.
func TestAStoreThatForgetsMakesNobodyOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	p := &r.presence
	ada := r.connect(t, w, "ada", "web")
	say := func(key string, record any, header nats.Header) {
		t.Helper()
		body, err := wire.Marshal(record)
		if err == nil {
			err = w.nc.PublishMsg(&nats.Msg{Subject: "im.presence." + key, Header: header, Data: body})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ada.call("presence.watch", wire.UsersQuery{Users: []subjects.User{"ada", "bob"}}); err != nil {
		t.Fatal(err)
	}
	say(subjects.LeaseKey("edge-b"), wire.Lease{Edge: "edge-b", At: wire.At(time.Now())}, nil)
	say(subjects.DeviceKey("bob", "phone"), wire.DeviceRecord{Edge: "edge-b", At: wire.At(time.Now())}, nil)
	ada.state("bob", wire.StateOnline)

	eventually(t, "the arrival is written", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.presence[subjects.DeviceKey("ada", "web")] != nil
	})
	w.mu.Lock()
	clear(w.presence)
	w.mu.Unlock()
	state := func(u subjects.User) wire.State {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.state(p.followed[u]).State
	}
	p.reread(t.Context())
	if ada, bob := state("ada"), state("bob"); ada != wire.StateOnline || bob != wire.StateOnline {
		t.Errorf("the store has forgotten two who are connected: ada is %s, bob %s", ada, bob)
	}

	// The numbers of messages show it to the edge, which tells the store again.
	own := wire.Lease{Edge: "edge-a", At: wire.At(time.Now())}
	say(subjects.LeaseKey("edge-a"), own, nats.Header{nats.JSSequence: {"1000"}})
	say(subjects.LeaseKey("edge-a"), own, nats.Header{nats.JSSequence: {"7"}})
	eventually(t, "the arrival is written again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.presence[subjects.DeviceKey("ada", "web")] != nil
	})

	// Whose edge does not say so again counts for the life of a lease, and no longer.
	p.mu.Lock()
	until := p.followed["bob"].doubts["phone"]
	later := until.Add(time.Second)
	p.echoed, p.leases["edge-b"] = later, lease{until: later.Add(time.Minute)}
	p.mu.Unlock()
	if left := time.Until(until); left <= 0 || left > wire.LeaseTTL {
		t.Errorf("bob's device counts for %v", left)
	}
	p.sweep(later)
	if ada, bob := state("ada"), state("bob"); ada != wire.StateOnline || bob != wire.StateOffline {
		t.Errorf("nobody has said again that bob is connected: ada is %s, bob %s", ada, bob)
	}
}
