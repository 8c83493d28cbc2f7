// Package send is the function that appends to the logs of conversations, and the only program that may: messages, edits, recalls and
// reactions for clients, changes of membership and policy for other functions.
//
// A call is decided against the membership as of the tail that it is appended to, and the append is conditional on that tail; so nothing
// that a removal, a ban or a policy forbids can slip in between the decision and the store. What is stored and how is left to package
// jetstream, who is a member to function conversations, and reading to function history.
package send

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Name is the name of the function.
const Name subjects.Function = "send"

// The methods of the function.
const (
	MethodPost   subjects.Method = "post"
	MethodEdit   subjects.Method = "edit"
	MethodRecall subjects.Method = "recall"
	MethodReact  subjects.Method = "react"
	MethodAppend subjects.Method = "append"
)

// Config tunes the function. The zero value is fit for use.
type Config struct {
	// Tails is how many conversations' tails an instance remembers, at about 1 KiB each; 0 means 16,384. A forgotten tail costs one read.
	Tails int
	// Decisions is how many decisions that somebody is a member an instance remembers, at about 200 bytes each; 0 means 65,536.
	Decisions int
	// Margin is subtracted from the store's dedupe window before the age of a client id is compared with it: it bounds how far a client's clock
	// may be ahead before a late repeat of it could be stored twice. 0 means 15 s, at most half of the window is used.
	Margin time.Duration
}

// The defaults of Config.
const (
	defaultTails     = 16 << 10
	defaultDecisions = 64 << 10
	defaultMargin    = 15 * time.Second
)

// Validate returns an error that names the first field that is out of its bounds.
func (c Config) Validate() error {
	if c.Tails < 0 || c.Decisions < 0 || c.Margin < 0 {
		return fmt.Errorf("send: tails %d, decisions %d and margin %v must not be negative", c.Tails, c.Decisions, c.Margin)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Tails = cmp.Or(c.Tails, defaultTails)
	c.Decisions = cmp.Or(c.Decisions, defaultDecisions)
	c.Margin = cmp.Or(c.Margin, defaultMargin)
	return c
}

// Function returns the function.
func Function(cfg Config) functions.Function {
	method := func(name subjects.Method, public bool, description string, request any) functions.Method {
		return functions.Method{
			Name: name, Description: description, Public: public, Idempotent: true, // by client id
			Request: request, Response: wire.Posted{},
		}
	}
	return functions.Function{
		Name:        Name,
		Description: "Appends to conversations",
		Methods: []functions.Method{
			method(MethodPost, true, "Posts a message", wire.Post{}),
			method(MethodEdit, true, "Replaces the body of an own message", wire.Edit{}),
			method(MethodRecall, true, "Takes a message back", wire.Recall{}),
			method(MethodReact, true, "Adds or removes a reaction", wire.React{}),
			method(MethodAppend, false, "Appends a change of membership or policy", wire.Append{}),
		},
		New: func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
			if err := cfg.Validate(); err != nil {
				return nil, err
			}
			store, err := jetstream.Open(ctx, env.NATS)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, store.Close)
			s := newSender(cfg.withDefaults(), store, env)
			go s.watch(ctx, env)
			go s.others.run(ctx)
			env.Promptly(MethodPost, functions.HandlePromptly(s.beginPost))
			return functions.Handlers{
				MethodPost:   s.counted(functions.Handle(s.post)),
				MethodEdit:   s.counted(functions.Handle(s.edit)),
				MethodRecall: s.counted(functions.Handle(s.recall)),
				MethodReact:  s.counted(functions.Handle(s.react)),
				MethodAppend: s.counted(functions.Handle(s.append)),
			}, nil
		},
	}
}

// sender is one instance. Both caches are only hints: a tail that is behind makes the conditional append fail, and a decision counts only as
// of its epoch.
type sender struct {
	store     *jetstream.Store
	nats      *nats.Conn
	log       *slog.Logger
	now       func() time.Time
	oldest    time.Duration // the age up to which a client id is taken
	tails     *cache[subjects.Conversation, jetstream.Tail]
	decisions *cache[seat, standing]
	stored    atomic.Int64 // calls that were answered without an error, for watch
	others    *others
}

func newSender(cfg Config, store *jetstream.Store, env functions.Env) *sender {
	window := store.Dedupe()
	s := &sender{
		store: store, nats: env.NATS, log: env.Log, now: env.Now,
		oldest:    window - min(cfg.Margin, window/2),
		tails:     newCache[subjects.Conversation, jetstream.Tail](cfg.Tails),
		decisions: newCache[seat, standing](cfg.Decisions),
	}
	s.others = newOthers(s)
	return s
}
