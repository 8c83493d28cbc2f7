package edge

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of the filling of holes.
const (
	fillsAtOnce = 16
	fillLimit   = wire.MaxPage
	fillWithin  = 3 * time.Second
	fillTries   = 8    // without progress; then the next comparison of heads tries anew
	maxHole     = 2000 // entries; where more are missing clients fetch what they want themselves
	firstRetry  = 50 * time.Millisecond
	lastRetry   = time.Second
)

// startFill fills the hole of a conversation beside everything else. wantLocked has said so, and holds the conversation for it.
func (e *Edge) startFill(c *conversation) {
	e.start(func(ctx context.Context) {
		defer e.conversations.release(c)
		select {
		case e.filling <- struct{}{}:
			defer func() { <-e.filling }()
			e.fill(ctx, c)
		case <-ctx.Done():
		}
	})
}

// fill fetches what is missing, in order, until nothing is or it makes no progress.
func (e *Edge) fill(ctx context.Context, c *conversation) {
	retry := firstRetry
	for tries := 0; ; {
		c.mu.Lock()
		after, target := c.last, c.target
		if after >= target || tries >= fillTries || ctx.Err() != nil {
			c.filling = false
			c.mu.Unlock()
			if after < target && ctx.Err() == nil {
				e.log.Warn("hole not filled", "conv", string(c.id), "seq", uint64(after))
			}
			return
		}
		c.mu.Unlock()
		if target-after > maxHole {
			e.skip(c, target)
			continue
		}
		if e.fillOnce(ctx, c, after) {
			retry, tries = firstRetry, 0
			continue
		}
		tries++
		if !sleep(ctx, retry/2+rand.N(retry)) {
			continue // ctx has ended
		}
		retry = min(2*retry, lastRetry)
	}
}

// fillOnce fetches one page of what is missing; it reports whether that helped.
func (e *Edge) fillOnce(ctx context.Context, c *conversation, after wire.Seq) bool {
	e.metrics.fills.Inc()
	ctx, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	query := wire.FillQuery{Conversation: c.id, After: after, Limit: fillLimit}
	filled, err := functions.Invoke[wire.FillQuery, wire.Filled](ctx, e.caller, nil, funcHistory, "fill", query)
	if err != nil {
		e.log.Debug("missing entries not read", "conv", string(c.id), "code", string(wire.CodeOf(err)))
		return false
	}
	entries := make([]entry, 0, len(filled.Entries))
	for _, payload := range filled.Entries {
		var read struct {
			Seq  wire.Seq       `json:"seq"`
			Kind wire.EntryKind `json:"kind"`
		}
		if err := json.Unmarshal(payload, &read); err != nil {
			e.log.Error("stored entry cannot be read", "conv", string(c.id), "err", err)
			return false
		}
		entries = append(entries, entry{read.Seq, read.Kind, "", payload})
	}
	c.mu.Lock()
	before := c.last
	for _, en := range entries {
		if en.seq > c.last {
			e.deliverLocked(c, en)
		}
	}
	c.last = max(c.last, filled.To) // what is missing up to there was erased
	e.drainLocked(c)
	progress := c.last > before
	c.mu.Unlock()
	return progress
}

// skip gives up a hole that is too large to be worth fetching: the members are told the head and fetch what they want. Changes of
// membership lie in the hole, so the local members are read anew before they get anything more.
func (e *Edge) skip(c *conversation, target wire.Seq) {
	e.log.Info("hole skipped", "conv", string(c.id), "seq", uint64(target))
	c.mu.Lock()
	c.last = max(c.last, target)
	clear(c.pending)
	c.bytes = 0
	members := slices.Collect(maps.Keys(c.members))
	for _, u := range members {
		c.partLocked(u)
		u.mu.Lock()
		if u.changed != nil {
			u.changed[c.id] = struct{}{} // what is being read now is too old
		}
		u.mu.Unlock()
	}
	c.mu.Unlock()
	for _, u := range members {
		e.reload(u, "")
	}
}

// sleep waits; it reports whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
