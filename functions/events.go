package functions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Events says which entries of conversations a function works on. The handler stands in Handlers under wire.MethodEntry; HandleEntry makes one.
// The zero value is none.
//
// Every entry of the kinds that is stored after the function was declared is handed to the handler at least once, however often instances
// end, crash or sleep meanwhile. At least once means that an entry may come again: its conversation and seq together are the key that tells. Entries
// are handed over as they were stored: an edit is an entry of its own that names its target. A message that was erased before its
// turn came is passed over; its recall is an entry too.
//
// Order: the entries of a conversation that an instance has in hand are handled one after another, by seq; those of different conversations side
// by side, and beside calls. No order is kept across instances, and an entry that failed comes again after later ones of its conversation. A handler
// for which that matters compares seqs, or reads the conversation.
type Events struct {
	Kinds   []wire.EntryKind
	Timeout time.Duration // how long one try may take; 0 = DefaultTimeout. Others may have the entry at the same time only after a crash or a lost connection
}

// Retry says what becomes of an entry or a job whose handler returned an error. An error with a code that a repeat cannot mend (wire.BadData, wire.NotFound
// and the like, that is all but the unknown outcomes and wire.RateLimited) gives it up at once. What was given up is a dead letter, on im.dead.<function>, from where operators
// hand it over again. The zero value is fit for use.
type Retry struct {
	Attempts int             // tries before it is given up; 0 = 10. Twice as many end what no instance ever finished or failed, such as an entry that kills them
	Backoff  []time.Duration // the wait after each try, the last one for all that follow; nil = 1 s, 5 s, 30 s, 2 min, 10 min. RetryAfterMS of an error makes it longer
}

// defaultAttempts and defaultBackoff are what the zero Retry stands for: about an hour in all.
const defaultAttempts = 10

var defaultBackoff = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}

func (r Retry) attempts() int { return cmp.Or(r.Attempts, defaultAttempts) }

// wait returns how long after a try, from 1, the next one begins.
func (r Retry) wait(try int, err error) time.Duration {
	backoff := r.Backoff
	if len(backoff) == 0 {
		backoff = defaultBackoff
	}
	wait := backoff[min(max(try, 1), len(backoff))-1]
	if e, ok := errors.AsType[*wire.Error](err); ok {
		wait = max(wait, time.Duration(e.RetryAfterMS)*time.Millisecond)
	}
	return wait
}

// HandleEntry makes the handler of a function's entries. What f returns decides about the entry: nil ends it, and an error is treated as Retry says.
// ctx ends after Events.Timeout.
func HandleEntry(f func(ctx context.Context, call *Call, entry *wire.Entry) error) Handler {
	return func(ctx context.Context, call *Call) (any, error) {
		entry, decoded := call.decoded.(*wire.Entry)
		if !decoded {
			entry = new(wire.Entry)
			if err := json.Unmarshal(call.Data, entry); err != nil {
				return nil, fmt.Errorf("read an entry: %w (%w)", wire.Errorf(wire.BadData, "The entry cannot be read."), err)
			}
		}
		return nil, f(ctx, call, entry)
	}
}

// validateWork checks what a function declares beside its methods.
func (f Function) validateWork() error {
	for i, kind := range f.Events.Kinds {
		if !kind.Known() || slices.Contains(f.Events.Kinds[:i], kind) {
			return fmt.Errorf("function %s: %q is no kind of entry, or stands twice", f.Name, kind)
		}
	}
	if f.Events.Timeout < 0 || f.Retry.Attempts < 0 {
		return fmt.Errorf("function %s has a negative timeout or number of attempts", f.Name)
	}
	for _, wait := range f.Retry.Backoff {
		if wait <= 0 {
			return fmt.Errorf("function %s: a backoff of %v; it must be above 0", f.Name, wait)
		}
	}
	return nil
}

// works reports whether the function pulls entries or jobs.
func (f Function) works() bool { return f.takesEntries() || f.Jobs }

// handled returns what the function needs handlers for: its methods, and its entries under a name of their own.
func (f Function) handled() []Method {
	if !f.takesEntries() {
		return f.Methods
	}
	return append(slices.Clone(f.Methods), Method{Name: wire.MethodEntry, Timeout: f.Events.Timeout})
}

func (f Function) takesEntries() bool { return len(f.Events.Kinds) > 0 }

// sources returns the streams from which the function gets its work. Jobs come to a function with entries also where it has none of its own:
// operators hand dead letters over again that way.
func (f Function) sources() []string {
	var streams []string
	if f.takesEntries() {
		for p := range subjects.Partitions {
			streams = append(streams, subjects.MessagesStream(p))
		}
	}
	if f.works() {
		streams = append(streams, subjects.StreamJobs)
	}
	return streams
}
