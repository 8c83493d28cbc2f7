package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// mostLookups bounds how many pages are read to find out whether a draft that is too old to be repeated was stored.
const mostLookups = 50

// outbox is what waits to be sent. Each conversation is a lane: its drafts are sent one after another, the next one only when the server
// has said yes or no to the one before, so they are stored in the order in which they were written.
type outbox struct {
	lanes  map[subjects.Conversation]*lane
	drafts map[string]*draft // by client id
}

type lane struct{ queue []*draft }

// draft is one Draft and those who wait for its outcome.
type draft struct {
	Draft
	done chan struct{} // closed when the outcome is known
	sent Sent          // the outcome, before done is closed
}

// Post sends a message and returns when it is stored. Without a client id it gets a UUIDv7. Whatever happens to the connection, it is
// sent again under the same id until the server has said yes or no; when ctx ends first, that goes on in the background and the outcome
// is a *Sent event. Messages to one conversation are stored in the order of their Posts.
func (c *Client) Post(ctx context.Context, in wire.Post) (wire.Posted, error) {
	conversation := in.Conversation
	if in.To != "" {
		direct, err := subjects.Direct(c.User(), in.To)
		if err != nil {
			return wire.Posted{}, wire.Errorf(wire.BadData, "A direct conversation needs another user.")
		}
		conversation = direct
	}
	minted := c.mint(&in.ClientID)
	return c.send(ctx, "send.post", conversation, in.ClientID, minted, &in)
}

// Edit replaces the body of a message, with the guarantees of Post.
func (c *Client) Edit(ctx context.Context, in wire.Edit) (wire.Posted, error) {
	minted := c.mint(&in.ClientID)
	return c.send(ctx, "send.edit", in.Conversation, in.ClientID, minted, &in)
}

// Recall takes a message back, with the guarantees of Post.
func (c *Client) Recall(ctx context.Context, in wire.Recall) (wire.Posted, error) {
	minted := c.mint(&in.ClientID)
	return c.send(ctx, "send.recall", in.Conversation, in.ClientID, minted, &in)
}

// React adds or removes a reaction, with the guarantees of Post.
func (c *Client) React(ctx context.Context, in wire.React) (wire.Posted, error) {
	minted := c.mint(&in.ClientID)
	return c.send(ctx, "send.react", in.Conversation, in.ClientID, minted, &in)
}

// mint fills in a client id where there is none.
func (c *Client) mint(id *string) (minted bool) {
	if *id != "" {
		return false
	}
	*id = c.ids.mint(c.now())
	return true
}

// send puts a call into the outbox and waits for its outcome.
func (c *Client) send(ctx context.Context, call string, conversation subjects.Conversation, id string, minted bool, in wire.Validator) (wire.Posted, error) {
	if ctx.Err() != nil {
		return wire.Posted{}, ctx.Err()
	}
	if err := in.Validate(); err != nil {
		return wire.Posted{}, err
	}
	data, err := wire.Marshal(in)
	if err != nil {
		return wire.Posted{}, fmt.Errorf("encode %s: %w", call, err)
	}
	d, err := c.enqueue(Draft{ClientID: id, Minted: minted, Call: call, Conversation: conversation, Data: data, At: wire.At(c.now())})
	if err != nil {
		return wire.Posted{}, err
	}
	select {
	case <-d.done:
		return d.sent.Posted, d.sent.Err
	default:
	}
	select {
	case <-d.done:
		return d.sent.Posted, d.sent.Err
	case <-ctx.Done():
		return wire.Posted{}, ctx.Err()
	case <-c.life:
		return wire.Posted{}, c.reasonToEnd()
	}
}

func (c *Client) reasonToEnd() error {
	if err := c.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// enqueue saves a draft and queues it. A draft whose client id already waits is joined.
func (c *Client) enqueue(in Draft) (*draft, error) {
	c.order.Lock()
	defer c.order.Unlock()
	if d, ok := c.drafts.drafts[in.ClientID]; ok && d.Conversation == in.Conversation {
		if d.Call != in.Call || !bytes.Equal(d.Data, in.Data) {
			return nil, wire.Errorf(wire.IDConflict, "A draft with this client_id and other content waits to be sent.")
		}
		return d, nil
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if len(c.drafts.drafts) >= MaxDrafts {
		return nil, ErrOutboxFull
	}
	if err := c.config.outbox.Save(in); err != nil {
		return nil, fmt.Errorf("save draft: %w", err)
	}
	return c.queue(in), nil
}

// queue adds a saved draft to its lane; the caller holds order.
func (c *Client) queue(in Draft) *draft {
	d := &draft{Draft: in, done: make(chan struct{})}
	c.drafts.drafts[in.ClientID] = d
	l, busy := c.drafts.lanes[in.Conversation]
	if !busy {
		l = &lane{}
		c.drafts.lanes[in.Conversation] = l
	}
	l.queue = append(l.queue, d)
	if !busy {
		c.start(func(ctx context.Context) { c.work(ctx, in.Conversation, l) })
	}
	return d
}

// loadDrafts queues what an earlier process left behind.
func (c *Client) loadDrafts() error {
	c.order.Lock()
	defer c.order.Unlock()
	kept, err := c.config.outbox.Load()
	if err != nil {
		return fmt.Errorf("load drafts: %w", err)
	}
	for _, d := range kept {
		c.queue(d)
	}
	return nil
}

// work sends the drafts of one lane until it is empty.
func (c *Client) work(ctx context.Context, conversation subjects.Conversation, l *lane) {
	for {
		c.order.Lock()
		if len(l.queue) == 0 {
			delete(c.drafts.lanes, conversation)
			c.order.Unlock()
			return
		}
		d := l.queue[0]
		c.order.Unlock()
		posted, err := c.deliver(ctx, d)
		if ctx.Err() != nil && err != nil {
			return // it stays in the outbox
		}
		c.settle(l, d, Sent{Draft: d.Draft, Posted: posted, Err: err})
	}
}

// settle takes a draft with an outcome out of the outbox.
func (c *Client) settle(l *lane, d *draft, outcome Sent) {
	c.order.Lock()
	l.queue = l.queue[1:]
	delete(c.drafts.drafts, d.ClientID)
	err := c.config.outbox.Remove(d.ClientID)
	c.order.Unlock()
	if err != nil {
		c.config.log.Error("draft not removed from the outbox", "err", err)
	}
	if outcome.Err == nil {
		c.see(outcome.Posted.Conversation, outcome.Posted.Seq, nil)
	}
	d.sent = outcome
	close(d.done)
	c.emit(&outcome)
}

// deliver sends a draft until the server has said yes or no.
func (c *Client) deliver(ctx context.Context, d *draft) (wire.Posted, error) {
	for try := 0; ; try++ {
		l, err := c.connected(ctx)
		if err != nil {
			return wire.Posted{}, err
		}
		var posted wire.Posted
		if err = c.try(ctx, l, d.Call, d.Data, &posted); err == nil {
			return posted, nil
		}
		if errors.Is(err, &wire.Error{Code: wire.RetryWindowExpired}) {
			var again bool
			if posted, again, err = c.lookup(ctx, d, err); !again {
				return posted, err
			}
			continue
		}
		wait, again := c.again(err, try)
		if !again {
			return wire.Posted{}, err
		}
		if !sleep(ctx, wait) {
			return wire.Posted{}, ctx.Err()
		}
	}
}

// lookup finds out, for a draft that the server would not recognise any more, whether an earlier try was stored. If not, and the client
// chose the id itself, the draft gets a new one and is worth another try.
func (c *Client) lookup(ctx context.Context, d *draft, refusal error) (posted wire.Posted, again bool, err error) {
	from := wire.At(d.At.Add(-time.Minute))
	query := wire.PageQuery{Conversation: d.Conversation, Time: &from, Limit: wire.MaxPage}
	for range mostLookups {
		page, err := c.Page(ctx, query)
		if errors.Is(err, &wire.Error{Code: wire.NotFound}) {
			break // nothing was ever stored there
		}
		if err != nil {
			return posted, false, err
		}
		entries, err := Entries(page)
		if err != nil {
			return posted, false, err
		}
		for _, e := range entries {
			if e.ClientID == d.ClientID && e.From == c.User() {
				return wire.Posted{Conversation: e.Conversation, Seq: e.Seq, Count: e.Count, At: e.At, Duplicate: true}, false, nil
			}
		}
		if !page.MoreAfter || len(entries) == 0 {
			return posted, d.Minted && c.remint(d) == nil, refusal
		}
		last := page.Last
		query.Time, query.After = nil, &last
	}
	return posted, false, refusal
}

// remint gives a draft a new client id, in the outbox first.
func (c *Client) remint(d *draft) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(d.Data, &fields); err != nil {
		return fmt.Errorf("read draft: %w", err)
	}
	next := d.Draft
	next.At = wire.At(c.now())
	next.ClientID = c.ids.mint(next.At.Time)
	fields["client_id"] = json.RawMessage(`"` + next.ClientID + `"`)
	data, err := wire.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode draft: %w", err)
	}
	next.Data = data
	c.order.Lock()
	defer c.order.Unlock()
	if err := c.config.outbox.Replace(d.ClientID, next); err != nil {
		return fmt.Errorf("save draft: %w", err)
	}
	delete(c.drafts.drafts, d.ClientID)
	d.Draft = next
	c.drafts.drafts[d.ClientID] = d
	return nil
}
