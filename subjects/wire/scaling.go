package wire

import "github.com/confab-im/confab/subjects"

// InstanceUp is what an instance of a function says on im.scale.<function>.up, at its start, every second, and when asked.
type InstanceUp struct {
	Function    subjects.Function `json:"function"`
	Instance    string            `json:"instance"`
	Description string            `json:"description,omitempty"`
	Concurrency int               `json:"concurrency"` // calls that it works on at once
	Methods     []InstanceMethod  `json:"methods"`
	Peak        int               `json:"peak,omitempty"`     // calls at work or waiting at once, at most, since the up before; those of passive methods do not count
	IdleMS      int64             `json:"idle_ms,omitempty"`  // milliseconds since the newest call that was not passive, or since the start
	Unit        string            `json:"unit,omitempty"`     // what whoever started it calls it: a supervisor's child, a pod
	Impaired    string            `json:"impaired,omitempty"` // why its calls cannot succeed now, for operators; a change is said at once
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

// Demand is what a caller says on im.scale.<function>.demand while it holds calls that no instance takes: at once for the first of them and
// whenever they are eight times as many as it said last, then every second, and once with Held 0 at the end.
type Demand struct {
	Function subjects.Function `json:"function"`
	Caller   string            `json:"caller"`    // who holds them; stays the same while that program runs
	Held     int               `json:"held"`      // calls held now
	Peak     int               `json:"peak"`      // the most held at once since the last Demand
	OldestMS int64             `json:"oldest_ms"` // how long the oldest has been held, in milliseconds
}

// Broken is what whoever starts the instances of a function says on im.scale.<function>.broken while starting does not work: at once, and every
// second while calls wait. Callers then refuse calls to the function until an instance says up, or RetryAfterMS have passed.
type Broken struct {
	Function     subjects.Function `json:"function"`
	Reason       string            `json:"reason"`         // for operators; callers do not pass it on
	RetryAfterMS int64             `json:"retry_after_ms"` // until the next start, in milliseconds
}

// Registered is what the deployer leaves about a function in the configuration bucket, so that callers know what it answers while it sleeps.
type Registered struct {
	Function    subjects.Function `json:"function"`
	Description string            `json:"description,omitempty"`
	Kind        string            `json:"kind"`        // as in function.yaml
	Concurrency int               `json:"concurrency"` // calls that one instance works on at once
	Methods     []InstanceMethod  `json:"methods"`
	Scale       InstanceScale     `json:"scale"`
	HoldMS      int64             `json:"hold_ms"`          // how long a caller keeps a call while no instance is up, in milliseconds
	Events      []EntryKind       `json:"events,omitempty"` // the kinds of entries that wake it
	Jobs        bool              `json:"jobs,omitempty"`   // work for later wakes it
}

// InstanceScale bounds the number of a function's instances.
type InstanceScale struct {
	Min  int `json:"min"`  // kept while nothing happens; 0 lets the function sleep
	Max  int `json:"max"`  // the most
	Wake int `json:"wake"` // started at once when there is work and no instance
}
