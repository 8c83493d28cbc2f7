// Package history is the function that reads the logs of conversations: the list of a user's conversations with their newest entries, and
// pages of one of them. For edges it also compares heads and fills holes, without a check of membership: edges do that for themselves.
//
// It decides nothing about the log and changes nothing in it; full pages that it has read it keeps sealed, to read them again at once. How the log is stored is left to package jetstream, and how far somebody has read to function receipts.
package history

import (
	"cmp"
	"context"
	"fmt"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Name is the name of the function.
const Name subjects.Function = "history"

// The methods of the function.
const (
	MethodHeads   subjects.Method = "heads"
	MethodHeadsOf subjects.Method = "heads-of"
	MethodPage    subjects.Method = "page"
	MethodCheck   subjects.Method = "check"
	MethodFill    subjects.Method = "fill"
)

// DefaultMemory is how many bytes of pages an instance remembers when Config does not say. Of lists it remembers up to a quarter as much beside.
const DefaultMemory = 64 << 20

// Config tunes the function. The zero value is fit for use.
type Config struct {
	Memory int // bytes of pages that an instance remembers, and four times the bytes of lists; 0 = DefaultMemory, and less than 0 = none of both
}

// Validate returns nil: there is no value that could be wrong.
func (Config) Validate() error { return nil }

// Function returns the function.
func Function(c Config) functions.Function {
	return functions.Function{
		Name:        Name,
		Description: "Reads conversations",
		Methods: []functions.Method{
			{Name: MethodHeads, Description: "Lists the caller's conversations", Public: true, Idempotent: true,
				Request: wire.HeadsQuery{}, Response: wire.Heads{}},
			{Name: MethodHeadsOf, Description: "Lists the conversations of many", Idempotent: true,
				Request: wire.HeadsOfQuery{}, Response: wire.HeadsOf{}},
			{Name: MethodPage, Description: "Reads a part of a conversation", Public: true, Idempotent: true,
				Request: wire.PageQuery{}, Response: wire.Page{}},
			{Name: MethodCheck, Description: "Compares heads with the store", Idempotent: true, Passive: true,
				Request: wire.HeadCheck{}, Response: wire.HeadsChecked{}},
			{Name: MethodFill, Description: "Reads entries as stored", Idempotent: true,
				Request: wire.FillQuery{}, Response: wire.Filled{}},
		},
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			store, err := jetstream.Open(ctx, env.NATS)
			if err != nil {
				return nil, err
			}
			r := &reader{store: store, lists: jetstream.NewLists(store, cmp.Or(c.Memory, DefaultMemory)/4), pages: jetstream.NewPages(store, cmp.Or(c.Memory, DefaultMemory))}
			go func() { // ends with ctx, which is the instance's
				defer store.Close()
				r.pages.Run(ctx)
			}()
			return functions.Handlers{
				MethodHeads:   functions.Handle(r.heads),
				MethodHeadsOf: functions.Handle(r.headsOf),
				MethodPage:    functions.Handle(r.page),
				MethodCheck:   functions.Handle(r.check),
				MethodFill:    functions.Handle(r.fill),
			}, nil
		},
	}
}

// reader is one instance. What it remembers, it could read again.
type reader struct {
	store *jetstream.Store
	lists *jetstream.Lists
	pages *jetstream.Pages
	seats seats
}

// The sentence is the same for what does not exist and for what must not be seen.
var errNoConversation = wire.Errorf(wire.NotFound, "There is no such conversation, or you are not in it.")

// unavailable gives an error of the store the code that clients see.
func unavailable(doing string, err error) error {
	return fmt.Errorf("%w (%s: %w)", wire.Errorf(wire.StorageUnavailable, "The store did not answer in time; try again."), doing, err)
}
