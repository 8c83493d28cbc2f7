package wire

import (
	"time"

	"github.com/confab-im/confab/subjects"
)

// LeaseTTL is how long an edge's lease stands after it was renewed. PresenceGrace is how long a device that disconnected still counts as
// connected, so that a reconnect, also to another edge, is not seen.
const (
	LeaseTTL      = 10 * time.Second
	PresenceGrace = 5 * time.Second
)

// Own returns what the user's own devices see of the user at a time, and until when that stays so if no record changes; zero = for ever.
func (u UserRecords) Own(leases map[subjects.Edge]Lease, now time.Time) (p Presence, until time.Time) {
	p = Presence{State: StateOffline}
	var seen time.Time
	for _, device := range u.Devices {
		end, left := device.end(leases)
		if now.Before(end) {
			p.Devices++
			if until.IsZero() || end.Before(until) {
				until = end
			}
		} else if left.After(seen) {
			seen = left
		}
	}
	switch {
	case p.Devices > 0:
		p.State, p.Status = u.Setting.State, u.Setting.Status
		if p.State == "" {
			p.State = StateOnline
		}
	case !seen.IsZero():
		at := At(seen)
		p.LastSeen = &at
	}
	return p, until
}

// Seen returns what others see of the user at a time, and until when that stays so if no record changes; zero = for ever. An invisible user
// looks like one who left when the setting was made: nothing that happens since shows.
func (u UserRecords) Seen(leases map[subjects.Edge]Lease, now time.Time) (p Presence, until time.Time) {
	if u.Setting.State == StateInvisible {
		return Presence{State: StateOffline, LastSeen: u.Setting.Seen}, time.Time{}
	}
	return u.Own(leases, now)
}

// end returns until when a device counts as connected if nothing changes, and when it was there last. A device of a dead edge was there
// last when the lease was renewed last, or, where even that is forgotten, when it connected.
func (d DeviceRecord) end(leases map[subjects.Edge]Lease) (end, left time.Time) {
	if d.LeftAt != nil {
		return d.LeftAt.Add(PresenceGrace), d.LeftAt.Time
	}
	lease, known := leases[d.Edge]
	if !known {
		return d.At.Time, d.At.Time
	}
	return lease.At.Add(LeaseTTL), lease.At.Time
}
