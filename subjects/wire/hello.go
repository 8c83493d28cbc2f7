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

// InstanceUp is what an instance of a function says on im.scale.<function>.up, at its start, every second, and when asked.
type InstanceUp struct {
	Function    subjects.Function `json:"function"`
	Instance    string            `json:"instance"`
	Description string            `json:"description,omitempty"`
	Concurrency int               `json:"concurrency"` // calls that it works on at once
	Methods     []InstanceMethod  `json:"methods"`
}

// InstanceMethod is what callers must know of a method.
type InstanceMethod struct {
	Name       subjects.Method `json:"name"`
	Public     bool            `json:"public,omitempty"`     // clients may call it
	Anonymous  bool            `json:"anonymous,omitempty"`  // also before sign-in
	Idempotent bool            `json:"idempotent,omitempty"` // a caller may repeat it after a timeout
	TimeoutMS  int64           `json:"timeout_ms"`
}

// InstanceBye is what an instance says on im.scale.<function>.bye: no more calls, please.
type InstanceBye struct {
	Function subjects.Function `json:"function"`
	Instance string            `json:"instance"`
}

// Demand is what a caller says on im.scale.<function>.demand while it holds calls that no instance takes: at once for the first of them, then
// every second, and once with Held 0 at the end.
type Demand struct {
	Function subjects.Function `json:"function"`
	Caller   string            `json:"caller"`    // who holds them; stays the same while that program runs
	Held     int               `json:"held"`      // calls held now
	Peak     int               `json:"peak"`      // the most held at once since the last Demand
	OldestMS int64             `json:"oldest_ms"` // how long the oldest has been held, in milliseconds
}
