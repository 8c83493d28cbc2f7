package wire

import "github.com/confab-im/confab/subjects"

// State is what others see of a user's presence; StateInvisible is a setting that others see as StateOffline.
type State string

// The states.
const (
	StateOnline    State = "online"
	StateAway      State = "away"
	StateOffline   State = "offline"
	StateInvisible State = "invisible"
)

// MaxStatus is the largest length of a status text in bytes; MaxWatched is the largest number of users in one presence call.
const (
	MaxStatus  = 200
	MaxWatched = 200
)

// PresenceSetting is the data of presence.set, and what the presence bucket holds of it.
type PresenceSetting struct {
	State  State  `json:"state"` // online, away or invisible
	Status string `json:"status,omitempty"`
	Seen   *Time  `json:"seen,omitempty"` // set by the server for an invisible user: the last_seen that others see
}

// Validate returns an *Error that names the first field that is wrong.
func (p *PresenceSetting) Validate() error {
	if p.State != StateOnline && p.State != StateAway && p.State != StateInvisible {
		return Errorf(BadData, "state must be online, away or invisible.")
	}
	return validLine("status", p.Status, MaxStatus)
}

// UsersQuery is the data of presence.get, watch and unwatch.
type UsersQuery struct {
	Users []subjects.User `json:"users"`
}

// Validate returns an *Error when there are no or too many users.
func (q *UsersQuery) Validate() error {
	if len(q.Users) == 0 || len(q.Users) > MaxWatched {
		return Errorf(BadData, "Give 1 to %d users.", MaxWatched)
	}
	return nil
}

// Presences is the answer to presence.get and watch.
type Presences struct {
	Users map[subjects.User]Presence `json:"users"`
}

// Presence is what others see of a user.
type Presence struct {
	State    State  `json:"state"`
	Status   string `json:"status,omitempty"`
	LastSeen *Time  `json:"last_seen,omitempty"` // absent while online and for users never seen
	Devices  int    `json:"devices"`             // connected ones, 0 for an invisible user
}

// Lease is what an edge keeps renewing in the presence bucket: while it stands, the edge's devices are connected.
type Lease struct {
	Edge subjects.Edge `json:"edge"`
	At   Time          `json:"at"`
}

// DeviceRecord is what an edge writes into the presence bucket when a device connects and when it disconnects.
type DeviceRecord struct {
	Edge   subjects.Edge `json:"edge"`
	At     Time          `json:"at"`                // when it connected
	LeftAt *Time         `json:"left_at,omitempty"` // when it disconnected; offline PresenceGrace later, so that a reconnect does not flap
}

// PresenceRecords is the answer to presence.records: the raw records from which an edge follows the users that its clients watch. Clients cannot call it.
type PresenceRecords struct {
	Users  map[subjects.User]UserRecords `json:"users"`
	Leases map[subjects.Edge]Lease       `json:"leases"`
}

// UserRecords is all that the presence bucket holds of one user.
type UserRecords struct {
	Setting PresenceSetting                  `json:"setting,omitzero"`
	Devices map[subjects.Device]DeviceRecord `json:"devices"`
}
