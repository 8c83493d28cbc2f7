// Package history is what a fault run leaves behind: one record a line, in the order of the driver's clock, of everything that clients did and saw and
// of everything that was done to the servers. The checker reads nothing else, so a run can be judged again later and elsewhere.
//
// It says nothing about what is right; package check does.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Kind says what a record is about.
type Kind string

// The kinds of records.
const (
	Invoke   Kind = "invoke"   // a client begins a try of a send
	OK       Kind = "ok"       // the try is acknowledged, with Seq
	Reject   Kind = "reject"   // the try is refused with a definite code: it is not stored, now or ever
	Unknown  Kind = "unknown"  // no answer, or a code that says so
	Receive  Kind = "receive"  // a client shows an entry, in its order
	Restart  Kind = "restart"  // a client was told to begin its list anew
	Connect  Kind = "connect"  // a client is signed in
	Close    Kind = "close"    // its connection is gone
	Member   Kind = "member"   // a change of membership is acknowledged: Change of User in Conversation
	Founder  Kind = "founder"  // User is a member of Conversation from its first entry on
	Mark     Kind = "mark"     // a client reads its own read mark: Seq
	Presence Kind = "presence" // a client sees the State of User
	Fault    Kind = "fault"    // something is done to the servers: Fault names it
	Heal     Kind = "heal"     // it is over
	Exit     Kind = "exit"     // a process ended
	Probe    Kind = "probe"    // Bytes of a server's memory
	Quiet    Kind = "quiet"    // all faults are over and every client has nothing left to send
	Truth    Kind = "truth"    // an entry as Source has it at the end; the entries of a source come in its own order
	Asked    Kind = "asked"    // a client begins to ask for what its next record of Change, or its next Mark, answers
	Heard    Kind = "heard"    // a connection is told something of Conversation beside what its client shows: Event names what, of the entry Seq or of none
	Unread   Kind = "unread"   // at rest a client reads that Count messages are after its mark Seq
	Revoke   Kind = "revoke"   // the end of Session of User on Device is acknowledged
	Abuse    Kind = "abuse"    // a client begins to misbehave: Fault names how
	Limited  Kind = "limited"  // it is limited: by a refusal with Code, or by the end of its connection with Closed
	Return   Kind = "return"   // a client that was away begins to connect; Seq is what it has to reach in Conversation
	Backup   Kind = "backup"   // a backup begins
	Restored Kind = "restored" // the store is what the newest backup before made of it: what was acknowledged since that began may be gone
	Ready    Kind = "ready"    // Process says from now on that it is ready, or with a Body that it is not and why
)

// Source says how the truth at the end was read. All must agree.
type Source string

// The sources of the truth.
const (
	Forward  Source = "forward"  // pages from the first entry on
	Backward Source = "backward" // pages from the head back
	Fresh    Source = "fresh"    // a device that was not there before
	Stream   Source = "stream"   // the store itself
)

// Exposure is what must be seen in a run with a fault: if it is not, the fault has missed what it was meant to hit.
type Exposure string

// The exposures.
const (
	Repeats    Exposure = "repeats"    // sends that were stored and not acknowledged, and are repeated
	Reconnects Exposure = "reconnects" // that, and every client has to connect again
)

// Record is one line. Which fields it has depends on its Kind.
type Record struct {
	At           time.Duration         `json:"at"` // since the start of the run, on a clock that never goes back
	Kind         Kind                  `json:"kind"`
	User         subjects.User         `json:"user,omitempty"`
	Device       subjects.Device       `json:"device,omitempty"`
	Conversation subjects.Conversation `json:"conversation,omitempty"`
	ClientID     string                `json:"client_id,omitempty"`
	Seq          wire.Seq              `json:"seq,omitempty"`
	Body         string                `json:"body,omitempty"` // of a message; empty for other entries
	From         subjects.User         `json:"from,omitempty"` // who an entry is by
	Entry        wire.EntryKind        `json:"entry,omitempty"`
	Duplicate    bool                  `json:"duplicate,omitempty"` // the acknowledgement is of a try before
	Code         wire.Code             `json:"code,omitempty"`
	Change       wire.MemberChange     `json:"change,omitempty"` // of the membership of User, in Member and in entries that say so
	State        wire.State            `json:"state,omitempty"`
	Source       Source                `json:"source,omitempty"`
	Fault        string                `json:"fault,omitempty"`
	Exposes      Exposure              `json:"exposes,omitempty"` // what the fault is meant to hit
	Process      string                `json:"process,omitempty"`
	Asked        bool                  `json:"asked,omitempty"` // the process was made to end; otherwise Body says how it ended
	Bytes        uint64                `json:"bytes,omitempty"`
	Target       wire.Seq              `json:"target,omitempty"`  // the entry that an entry speaks of
	Event        string                `json:"event,omitempty"`   // of the protocol, or the call that told
	Session      string                `json:"session,omitempty"` // of a client, when it is signed in and when that is revoked
	Closed       wire.CloseCode        `json:"closed,omitempty"`  // the code with which a connection ended, where there was one
	Count        uint64                `json:"count,omitempty"`
}

// Writer writes records from many goroutines; what it writes is in the order of At. The first error sticks and Flush returns it.
type Writer struct {
	mu    sync.Mutex
	out   *bufio.Writer
	begun time.Time
	err   error
}

// NewWriter returns a Writer whose clock starts now.
func NewWriter(out io.Writer) *Writer {
	return &Writer{out: bufio.NewWriter(out), begun: time.Now()}
}

// Add stamps a record and writes it.
func (w *Writer) Add(r Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.At = time.Since(w.begun)
	line, err := json.Marshal(r)
	if err == nil {
		_, err = w.out.Write(append(line, '\n'))
	}
	if w.err == nil {
		w.err = err
	}
}

// Flush hands over what was written, and returns the first error so far.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.out.Flush(); w.err == nil {
		w.err = err
	}
	return w.err
}

// Read reads all records of a history. A line that is no record, or is earlier than the one before, is an error.
func Read(in io.Reader) ([]Record, error) {
	var records []Record
	decoder := json.NewDecoder(bufio.NewReader(in))
	decoder.DisallowUnknownFields()
	for {
		var r Record
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read record %d: %w", len(records)+1, err)
		}
		if n := len(records); n > 0 && r.At < records[n-1].At {
			return nil, fmt.Errorf("record %d is earlier than the one before", n+1)
		}
		records = append(records, r)
	}
}
