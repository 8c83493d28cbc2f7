package wire

import (
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
)

func TestWhatIsSeenOfAUserFollowsFromTheRecords(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) Time { return At(now.Add(-d)) }
	left := func(d time.Duration) *Time { at := ago(d); return &at }
	leases := map[subjects.Edge]Lease{"alive": {Edge: "alive", At: ago(3 * time.Second)}, "dead": {Edge: "dead", At: ago(30 * time.Second)}}
	on := func(edge subjects.Edge, leftAt *Time) DeviceRecord {
		return DeviceRecord{Edge: edge, At: ago(time.Hour), LeftAt: leftAt}
	}
	for name, test := range map[string]struct {
		setting  PresenceSetting
		devices  []DeviceRecord
		state    State
		count    int
		lastSeen time.Duration // before now; -1 = absent
		until    time.Duration // from now; 0 = for ever
	}{
		"never seen":                        {state: StateOffline, lastSeen: -1},
		"connected":                         {devices: []DeviceRecord{on("alive", nil)}, state: StateOnline, count: 1, lastSeen: -1, until: 7 * time.Second},
		"connected and away":                {setting: PresenceSetting{State: StateAway}, devices: []DeviceRecord{on("alive", nil)}, state: StateAway, count: 1, lastSeen: -1, until: 7 * time.Second},
		"left a moment ago":                 {devices: []DeviceRecord{on("alive", left(4*time.Second))}, state: StateOnline, count: 1, lastSeen: -1, until: time.Second},
		"left a moment ago, of a dead edge": {devices: []DeviceRecord{on("dead", left(4*time.Second))}, state: StateOnline, count: 1, lastSeen: -1, until: time.Second},
		"left as the grace ends":            {devices: []DeviceRecord{on("alive", left(PresenceGrace))}, state: StateOffline, lastSeen: PresenceGrace},
		"one device left, one stays":        {devices: []DeviceRecord{on("alive", left(time.Minute)), on("alive", nil)}, state: StateOnline, count: 1, lastSeen: -1, until: 7 * time.Second},
		"on an edge that died":              {devices: []DeviceRecord{on("dead", nil)}, state: StateOffline, lastSeen: 30 * time.Second},
		"on an edge that is forgotten":      {devices: []DeviceRecord{on("forgotten", nil)}, state: StateOffline, lastSeen: time.Hour},
		"the newest of all that ended":      {devices: []DeviceRecord{on("dead", nil), on("alive", left(time.Minute)), on("alive", left(20*time.Second))}, state: StateOffline, lastSeen: 20 * time.Second},
		"invisible while connected": {setting: PresenceSetting{State: StateInvisible, Status: "hidden", Seen: left(2 * time.Hour)},
			devices: []DeviceRecord{on("alive", nil), on("alive", left(time.Second))}, state: StateOffline, lastSeen: 2 * time.Hour},
		"invisible and never seen": {setting: PresenceSetting{State: StateInvisible}, devices: []DeviceRecord{on("alive", nil)}, state: StateOffline, lastSeen: -1},
	} {
		t.Run(name, func(t *testing.T) {
			u := UserRecords{Setting: test.setting, Devices: map[subjects.Device]DeviceRecord{}}
			for i, d := range test.devices {
				u.Devices[subjects.Device([]string{"a", "b", "c"}[i])] = d
			}
			p, until := u.Seen(leases, now)
			if p.State != test.state || p.Devices != test.count || p.State == StateOffline && p.Status != "" {
				t.Errorf("seen as %+v", p)
			}
			if test.lastSeen < 0 != (p.LastSeen == nil) || p.LastSeen != nil && now.Sub(p.LastSeen.Time) != test.lastSeen {
				t.Errorf("last seen %v", p.LastSeen)
			}
			if test.until == 0 != until.IsZero() || test.until > 0 && until.Sub(now) != test.until {
				t.Errorf("until %v", until)
			}
		})
	}
	invisible := UserRecords{Setting: PresenceSetting{State: StateInvisible}, Devices: map[subjects.Device]DeviceRecord{"a": on("alive", nil)}}
	if own, _ := invisible.Own(leases, now); own.State != StateInvisible || own.Devices != 1 {
		t.Errorf("an invisible user sees %+v", own)
	}
}
