package wire

import (
	"encoding/json"
	"time"

	"github.com/confab-im/confab/subjects"
)

// HandTime is how long an instance may keep an entry or a job in hand without a word before another one gets it. Who needs longer says so in time.
const HandTime = 15 * time.Second

// MethodEntry is the name under which a function gets the entries of conversations: as the method of its handler, and of jobs on im.job.<function>.entry, which hand
// it an entry again that EntryRef names. No method that callers see has that name in a function that takes entries.
const MethodEntry subjects.Method = "entry"

// EntryRef is the data of a job that hands over an entry again. It has nothing of what the entry says, so that a recall erases that everywhere.
type EntryRef struct {
	Conversation subjects.Conversation `json:"conversation"`
	Seq          Seq                   `json:"seq"`
	Sequence     uint64                `json:"sequence"` // in the stream of the conversation's partition
}

// Validate returns an *Error with BadData where a field is missing.
func (r *EntryRef) Validate() error {
	if r.Conversation == "" || r.Seq == 0 || r.Sequence == 0 {
		return Errorf(BadData, "conversation, seq and sequence are needed.")
	}
	return nil
}

// DeadLetter is what a runtime leaves on im.dead.<function> of an entry or a job that the function could not handle: either Entry or Job is there.
type DeadLetter struct {
	Function subjects.Function `json:"function"`
	Stream   string            `json:"stream"`          // where it is, or was
	Sequence uint64            `json:"sequence"`        // its sequence there
	Entry    *Entry            `json:"entry,omitempty"` // without its body, which a recall must be able to erase; the stream has it
	Job      *DeadJob          `json:"job,omitempty"`   // with all that is needed to do it again: a job that is given up leaves its stream
	Attempts int               `json:"attempts"`        // how often it was handed to an instance
	Code     Code              `json:"code"`            // of the last error
	Message  string            `json:"message"`         // the sentence of the last error
	At       Time              `json:"at"`
}

// DeadJob is a job that could not be done.
type DeadJob struct {
	Method  subjects.Method `json:"method"`
	ID      string          `json:"id,omitempty"`      // as whoever asked for it knows it
	User    subjects.User   `json:"user,omitempty"`    // in whose name
	Device  subjects.Device `json:"device,omitempty"`  // whose device
	Session string          `json:"session,omitempty"` // whose session
	Data    json.RawMessage `json:"data,omitempty"`    // the request; left out where it is no JSON
}
