package wire

import "github.com/confab-im/confab/subjects"

// Kick is the data of an operator's request to an edge to close a user's connections. It revokes nothing.
type Kick struct {
	User    subjects.User   `json:"user"`
	Device  subjects.Device `json:"device,omitempty"`  // only the connection of this device
	Session string          `json:"session,omitempty"` // only connections of this session
}

// Kicked is the answer to Kick: how many connections were closed.
type Kicked struct {
	Connections int `json:"connections"`
}

// EdgeStats is the answer to an operator's request for what an edge holds.
type EdgeStats struct {
	Edge          subjects.Edge `json:"edge"`
	Connections   int           `json:"connections"`
	Users         int           `json:"users"`
	Conversations int           `json:"conversations"`
	Draining      bool          `json:"draining"`
}
