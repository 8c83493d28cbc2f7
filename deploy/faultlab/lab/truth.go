package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// caughtUp waits until every device has shown the newest entry that its user may see of every conversation, and reports whether that came.
func (l *Lab) caughtUp(ctx context.Context) bool {
	for _, c := range l.rooms {
		head, err := l.head(ctx, c)
		if err != nil {
			return false
		}
		for _, p := range l.people {
			if _, peer := c.Peer(p.user); !peer && c.Kind() == subjects.KindDirect {
				continue
			}
			for p.shown(c) < head {
				if ctx.Err() != nil {
					return false
				}
				sleep(ctx, 10*time.Millisecond)
			}
		}
	}
	return true
}

// head asks for the newest seq until it is told.
func (l *Lab) head(ctx context.Context, c subjects.Conversation) (wire.Seq, error) {
	p := l.reader(c)
	for {
		page, err := p.client.Page(ctx, wire.PageQuery{Conversation: c, Limit: 1})
		switch {
		case err == nil:
			return page.Last, nil
		case ctx.Err() != nil:
			return 0, err
		}
		sleep(ctx, tryPause)
	}
}

// reader returns somebody who may read a conversation from its beginning.
func (l *Lab) reader(c subjects.Conversation) *person {
	for _, p := range l.people {
		if _, peer := c.Peer(p.user); peer {
			return p
		}
	}
	return l.owner
}

// readWithin bounds one way to read one conversation at the end.
const readWithin = 30 * time.Second

// tellTruth reads every conversation in four ways. One that does not get to the end is the checker's to judge: it differs from the others.
func (l *Lab) tellTruth(ctx context.Context) error {
	for _, c := range slices.Concat(l.rooms, l.halls) {
		p := l.reader(c)
		for source, read := range map[history.Source]func(context.Context, *person, subjects.Conversation) ([]wire.Entry, error){
			history.Forward: forward, history.Backward: backward, history.Fresh: l.fresh, history.Stream: l.stream,
		} {
			within, cancel := context.WithTimeout(ctx, readWithin)
			entries, err := read(within, p, c)
			cancel()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				fmt.Fprintf(l.config.Log, "%s not read %s: %v\n", c, source, err)
			}
			for _, e := range entries {
				r := entryRecord(e)
				r.Kind, r.Conversation, r.Source = history.Truth, c, source
				l.history.Add(r)
			}
		}
	}
	return nil
}

// forward pages from the first entry on.
func forward(ctx context.Context, p *person, c subjects.Conversation) (all []wire.Entry, err error) {
	after := wire.Seq(0)
	for {
		page, err := p.client.Page(ctx, wire.PageQuery{Conversation: c, After: &after, Limit: wire.MaxPage})
		if err != nil {
			return nil, err
		}
		entries, err := client.Entries(page)
		if err != nil || len(entries) == 0 {
			return all, err
		}
		all = append(all, entries...)
		after = entries[len(entries)-1].Seq
	}
}

// backward pages from the head back, and returns the entries in that order.
func backward(ctx context.Context, p *person, c subjects.Conversation) (all []wire.Entry, err error) {
	query := wire.PageQuery{Conversation: c, Limit: 50}
	for {
		page, err := p.client.Page(ctx, query)
		if err != nil {
			return nil, err
		}
		entries, err := client.Entries(page)
		if err != nil || len(entries) == 0 {
			return all, err
		}
		for i := range entries {
			all = append(all, entries[len(entries)-1-i])
		}
		before := entries[0].Seq
		query.Before = &before
	}
}

// fresh signs in on a device that was never there and follows the conversation from its beginning.
func (l *Lab) fresh(ctx context.Context, p *person, c subjects.Conversation) (all []wire.Entry, err error) {
	head, err := l.head(ctx, c)
	if err != nil {
		return nil, err
	}
	device, err := client.Dial(ctx, l.url(0), client.WithPassword(p.user, password), client.WithDevice("fresh"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = device.Close() }()
	view, err := device.Follow(c, 0)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	for len(all) == 0 || all[len(all)-1].Seq < head {
		e, err := view.Next(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// stream reads what the store itself has, past all of confab, as the user who may only look.
func (l *Lab) stream(ctx context.Context, _ *person, c subjects.Conversation) (all []wire.Entry, err error) {
	nc, err := l.system.connect(natsconfig.Viewer)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	for next := uint64(1); ; {
		body, _ := json.Marshal(map[string]any{"seq": next, "next_by_subj": subjects.Message(c)}) // numbers and strings always encode
		answer, err := nc.RequestWithContext(ctx, subjects.LeaderRead(subjects.StreamOf(c)), body)
		if err != nil {
			return nil, err
		}
		var found struct {
			Message *struct {
				Seq  uint64 `json:"seq"`
				Data []byte `json:"data"`
			} `json:"message"`
		}
		if err := json.Unmarshal(answer.Data, &found); err != nil || found.Message == nil {
			return all, err // there is no next one
		}
		var e wire.Entry
		if err := json.Unmarshal(found.Message.Data, &e); err != nil {
			return nil, err
		}
		all, next = append(all, e), found.Message.Seq+1
	}
}
