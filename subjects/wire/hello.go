package wire

import "github.com/confab-im/confab/subjects"

// Calls that the edge itself answers.
const (
	CallHello   = "hello"
	CallPing    = "ping"
	CallSignal  = "signal"
	CallWatch   = "presence.watch"
	CallUnwatch = "presence.unwatch"
)

// Protocol is the WebSocket subprotocol of this version; BearerProtocol is the prefix of one that carries a token.
const (
	Protocol       = "confab.v1"
	BearerProtocol = "bearer."
)

// Hello is the data of the first call on a connection. Where the token came with the upgrade, it is left out here.
type Hello struct {
	Token  string          `json:"token,omitempty"`
	Device subjects.Device `json:"device"`
}

// Welcome is the answer to hello.
type Welcome struct {
	User        subjects.User   `json:"user"`
	Device      subjects.Device `json:"device"`
	Session     string          `json:"session"`
	ServerTime  Time            `json:"server_time"`
	ExpiresAt   Time            `json:"expires_at"`
	PingSeconds int             `json:"ping_seconds"`
	Limits      Limits          `json:"limits"`
	Calls       []string        `json:"calls"` // what clients may call, in ascending order
}

// Limits tells a client what the server accepts.
type Limits struct {
	FrameBytes int     `json:"frame_bytes"` // a WebSocket message in all
	BodyBytes  int     `json:"body_bytes"`  // the body of one message
	CallsASec  float64 `json:"calls_a_second,omitempty"`
	OpenCalls  int     `json:"open_calls,omitempty"`
}
