package edge

import (
	"context"
	"slices"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of the comparison with the store.
const (
	checkWithin = 3 * time.Second
	doubtPause  = time.Second            // at least so long passes from one check of everything to the next
	settle      = 150 * time.Millisecond // live copies that are under way get so long before an entry counts as missing
)

// unsure has everything checked anew: live copies, events of users or beats may have been lost.
func (e *Edge) unsure(reason string) {
	e.metrics.unsure.WithLabelValues(reason).Inc()
	select {
	case e.doubts <- reason:
	default: // one is waiting already, and it covers this one too
	}
}

// watchHeads compares the heads of the conversations that are followed here with the store until ctx ends: all the time those of which
// something may have been stored that did not come, and everything after a doubt. This is what finds a lost live copy when no other follows it.
func (e *Edge) watchHeads(ctx context.Context) {
	ticker := time.NewTicker(e.cfg.HeadEvery)
	defer ticker.Stop()
	var tails []uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			tails = e.compare(ctx, tails)
		case reason := <-e.doubts:
			e.log.Info("everything is checked anew", "reason", reason)
			e.presence.renew() // first, since comparing waits for functions
			e.heard.forget()
			tails = e.compare(ctx, nil)
			for _, u := range e.users.all() {
				e.reload(u, reason)
			}
			sleep(ctx, doubtPause)
		}
	}
}

// compare checks the conversations of the partitions in which something was stored behind the given tails that did not come, and returns the tails
// that are now compared; nil after a failure, so that the next comparison is of everything. It wakes history only where there is something to check.
func (e *Edge) compare(ctx context.Context, tails []uint64) []uint64 {
	now, err := e.currentTails(ctx)
	if err != nil {
		e.log.Debug("tails not read", "err", err)
		return nil
	}
	whole := e.whole(tails, now)
	if slices.Contains(whole, false) && tails != nil && sleep(ctx, settle) {
		whole = e.whole(tails, now)
	}
	var moved []*conversation
	for _, c := range e.conversations.all() {
		p := c.id.Partition()
		c.mu.Lock()
		look := !c.placed || c.last < c.target || p >= len(whole) || !whole[p]
		c.mu.Unlock()
		if look {
			moved = append(moved, c)
		}
	}
	if !e.checkHeads(ctx, moved) {
		return nil
	}
	return now
}

// whole returns of each partition whether nothing was stored behind a tail, or everything that was has come.
func (e *Edge) whole(tails, now []uint64) []bool {
	whole := make([]bool, min(len(tails), len(now), subjects.Partitions))
	for p := range whole {
		whole[p] = tails[p] == now[p] || e.heard.all(p, tails[p], now[p])
	}
	return whole
}

// currentTails asks the store for the tails of all partitions, and history where the store does not tell this program and history is up. What is
// stored afterwards shows in the next tails.
func (e *Edge) currentTails(ctx context.Context) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	tails, err := e.tails(ctx)
	if err == nil || e.caller.Instances(funcHistory) == 0 {
		return tails, err
	}
	answer, err := e.check(ctx, wire.HeadCheck{})
	return answer.Tails, err
}

// checkHeads compares conversations with the store and has what is missing fetched. It reports whether all could be compared.
func (e *Edge) checkHeads(ctx context.Context, list []*conversation) bool {
	var behind []*conversation
	whole := true
	for len(list) > 0 && whole {
		batch := list[:min(len(list), wire.MaxChecked)]
		list = list[len(batch):]
		var some []*conversation
		some, whole = e.checkBatch(ctx, batch)
		behind = append(behind, some...)
	}
	if len(behind) > 0 && sleep(ctx, settle) {
		for _, c := range behind {
			c.mu.Lock()
			fill := !c.dead && c.wantLocked()
			c.mu.Unlock()
			if fill {
				e.startFill(c)
			}
		}
	}
	return whole
}

// checkBatch returns the conversations of which the store has more than was delivered here.
func (e *Edge) checkBatch(ctx context.Context, batch []*conversation) (behind []*conversation, ok bool) {
	query := wire.HeadCheck{Heads: make(map[subjects.Conversation]wire.Seq, len(batch))}
	for _, c := range batch {
		c.mu.Lock()
		query.Heads[c.id] = c.last
		c.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	answer, err := e.check(ctx, query)
	if err != nil {
		return nil, false
	}
	var again []*user
	for _, c := range batch {
		head, differs := answer.Heads[c.id]
		c.mu.Lock()
		switch {
		case !c.placed:
			again = append(again, e.placeLateLocked(c, head)...)
		case differs && head > c.last:
			c.target = max(c.target, head)
		}
		if c.last < c.target {
			behind = append(behind, c)
		}
		c.mu.Unlock()
	}
	e.reloadEach(again)
	return behind, true
}

// check asks the store for heads and tails.
func (e *Edge) check(ctx context.Context, query wire.HeadCheck) (wire.HeadsChecked, error) {
	answer, err := functions.Invoke[wire.HeadCheck, wire.HeadsChecked](ctx, e.caller, nil, funcHistory, "check", query)
	if err != nil && ctx.Err() == nil {
		e.log.Debug("heads not compared", "code", string(wire.CodeOf(err)))
	}
	return answer, err
}
