package edge

import (
	"context"
	"encoding/json"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of catching up.
const (
	maxCatchUp   = 16              // entries; who lacks more pages for them, as the jump in seq says
	catchUpTries = 10              // a busy conversation may move on each time
	caughtUp     = wire.MaxSeq + 1 // the first seq of a member who gets nothing before he has caught up
)

// startCatchUp gives a user who was added while connected the latest entries of a conversation, his own addition among them, which went
// to the others before the edge knew of him. Until he has them nothing newer is delivered to him, so that he sees them in order. The caller
// holds the conversation's mutex.
func (e *Edge) startCatchUp(c *conversation, u *user, after wire.Seq) {
	c.members[u] = caughtUp
	c.holds++
	after = max(after, c.last-min(c.last, maxCatchUp))
	e.start(func(ctx context.Context) {
		defer e.conversations.release(c)
		for range catchUpTries {
			reached, done := e.catchUp(ctx, c, u, after)
			if done || reached == after && !sleep(ctx, firstRetry) {
				return
			}
			after = reached
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.members[u] == caughtUp {
			c.members[u] = c.last + 1
			u.event(wire.EventHead, wire.HeadMoved{Conversation: c.id, Seq: c.last})
		}
	})
}

// catchUp tries once; it returns up to where the user now has all, and whether nothing is left to do.
func (e *Edge) catchUp(ctx context.Context, c *conversation, u *user, after wire.Seq) (reached wire.Seq, done bool) {
	within, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	query := wire.FillQuery{Conversation: c.id, After: after, Limit: fillLimit}
	filled, err := functions.Invoke[wire.FillQuery, wire.Filled](within, e.caller, nil, funcHistory, "fill", query)
	if err != nil {
		e.log.Debug("latest entries not read", "conv", string(c.id), "code", string(wire.CodeOf(err)))
		return after, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from, member := c.members[u]
	if member && from != caughtUp {
		// He left and came back meanwhile, and what follows his return has begun to flow.
		u.event(wire.EventHead, wire.HeadMoved{Conversation: c.id, Seq: c.last})
		return after, true
	}
	reached = after
	for _, payload := range filled.Entries {
		var read struct {
			Seq  wire.Seq        `json:"seq"`
			Kind wire.EntryKind  `json:"kind"`
			Body wire.MemberBody `json:"body"`
		}
		if json.Unmarshal(payload, &read) != nil && read.Seq == 0 {
			continue // the body of a message may be of any form
		}
		if read.Seq > c.last {
			break // it comes to him as to all
		}
		reached = read.Seq
		u.push(eventFrame(wire.EventEntry, payload))
		if !member && read.Kind == wire.KindMember && read.Body.User == u.name && read.Body.Change.Ends() {
			return reached, true // the last that he gets
		}
	}
	reached = max(reached, min(filled.To, c.last)) // what is missing up to there was erased
	if reached < c.last {
		return reached, false
	}
	if member {
		c.members[u] = c.last + 1
	}
	return reached, true
}
