package jetstream_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// say publishes what an edge publishes: a plain message to the bucket's subject.
func say(t *testing.T, nc *nats.Conn, key string, value any, ttl string) {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	msg := nats.NewMsg(subjects.BucketSubject(subjects.BucketPresence, key))
	msg.Data = data
	if ttl != "" {
		msg.Header.Set("Nats-TTL", ttl)
	}
	if _, err := nc.RequestMsg(msg, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestPresenceRecords(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	store := server.StoreOn(t, nc)
	heard := make(chan *nats.Msg, 64)
	if _, err := nc.ChanSubscribe(subjects.AllPresence, heard); err != nil {
		t.Fatal(err)
	}
	now := wire.At(time.Now())
	say(t, nc, subjects.LeaseKey("e1"), wire.Lease{Edge: "e1", At: now}, "1s")
	say(t, nc, subjects.LeaseKey("e2"), wire.Lease{Edge: "e2", At: now}, "")
	say(t, nc, subjects.DeviceKey("ada", "web-1"), wire.DeviceRecord{Edge: "e1", At: now}, "")
	say(t, nc, subjects.DeviceKey("ada", "web-2"), wire.DeviceRecord{Edge: "e2", At: now, LeftAt: &now}, "")
	say(t, nc, subjects.DeviceKey("eve", "web-1"), wire.DeviceRecord{Edge: "e2", At: now}, "")
	if err := store.SetPresence(t.Context(), "bob", wire.PresenceSetting{State: wire.StateAway, Status: "lunch"}); err != nil {
		t.Fatal(err)
	}
	users := []subjects.User{"ada", "bob", "nobody"}
	records, err := store.PresenceRecords(t.Context(), users)
	if err != nil || len(records.Users) != 3 || len(records.Leases) != 2 {
		t.Fatalf("%+v, %v", records, err)
	}
	ada := records.Users["ada"]
	if len(ada.Devices) != 2 || ada.Devices["web-1"].Edge != "e1" || ada.Devices["web-2"].LeftAt == nil || records.Users["nobody"].Devices == nil {
		t.Errorf("ada: %+v", ada)
	}
	if got := records.Users["bob"].Setting; got.State != wire.StateAway || got.Status != "lunch" {
		t.Errorf("bob: %+v", got)
	}
	expired := false
	eventually(t, "the news of the lease that ran out", func() bool {
		select {
		case msg := <-heard:
			expired = msg.Subject == "im.presence."+subjects.LeaseKey("e1") && msg.Header.Get("Nats-Marker-Reason") != ""
		default:
		}
		return expired
	})
	records, err = store.PresenceRecords(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	if dead := records.Leases["e1"]; time.Since(dead.At.Time) < wire.LeaseTTL || time.Since(dead.At.Time) > time.Minute {
		t.Errorf("the dead lease: %+v", dead)
	}
	server.Restart(t)
	records, err = store.PresenceRecords(t.Context(), users)
	if err != nil || len(records.Users["ada"].Devices) != 2 || records.Users["bob"].Setting.State != wire.StateAway {
		t.Errorf("after a restart: %+v, %v", records, err)
	}
	if got, err := store.Presence(t.Context(), "bob"); err != nil || got.Status != "lunch" {
		t.Errorf("bob's own: %+v, %v", got, err)
	}
	if got, err := store.Presence(t.Context(), "ada"); err != nil || got != (wire.PresenceSetting{}) {
		t.Errorf("ada's own: %+v, %v", got, err)
	}
}
