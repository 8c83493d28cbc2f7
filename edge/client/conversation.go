package client

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of a view, in entries: what is ready for a slow reader, and what came live beyond a hole that is being fetched. What does not
// fit is fetched from history when its turn comes. And:
const (
	mostReady = 400
	mostAhead = 400
	mostShort = 5 // answers that end before an entry that is known to exist, before such an answer is believed
)

// Conversation is a view of one conversation: its entries from a seq on, in ascending seq, each once, first those of history and then
// those that arrive. One goroutine of the client fetches what is missing; see and check only take notes for it.
type Conversation struct {
	client *Client
	id     subjects.Conversation
	wake   chan struct{} // pokes the fetching goroutine
	more   chan struct{} // pokes Next
	closed chan struct{} // closed by Close

	mu      sync.Mutex // guards what follows; never held together with another lock of this package but Client.mu, which comes first
	ready   []wire.Entry
	last    wire.Seq // the newest entry that was made ready
	target  wire.Seq // the newest that is known to exist
	checks  int      // how often the view was told that history may have more than target says
	checked int      // the checks that are done
	ahead   map[wire.Seq]wire.Entry
	err     error
}

// Follow returns a view of a conversation that begins after the given seq, 0 for the beginning. There is at most one view of a
// conversation at a time: a second Follow fails until the first view is closed.
func (c *Client) Follow(id subjects.Conversation, after wire.Seq) (*Conversation, error) {
	v := &Conversation{
		client: c, id: id, wake: make(chan struct{}, 1), more: make(chan struct{}, 1), closed: make(chan struct{}), last: after, checks: 1, ahead: map[wire.Seq]wire.Entry{},
	}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	if _, taken := c.views[id]; taken {
		c.mu.Unlock()
		return nil, errors.New("the conversation is followed already")
	}
	c.views[id], v.target = v, c.seen[id]
	c.mu.Unlock()
	poke(v.wake)
	c.start(v.fetch)
	return v, nil
}

// Close ends the view; entries that were not read are dropped.
func (v *Conversation) Close() {
	v.client.mu.Lock()
	if v.client.views[v.id] == v {
		delete(v.client.views, v.id)
		close(v.closed)
	}
	v.client.mu.Unlock()
	v.mu.Lock()
	v.ready, v.err = nil, ErrViewClosed
	v.mu.Unlock()
	poke(v.more)
}

// Next returns the next entry, and waits for it as long as ctx allows. After the last entry that the user may see it returns the
// server's *wire.Error, such as not_found for a member that was removed.
func (v *Conversation) Next(ctx context.Context) (wire.Entry, error) {
	for {
		v.mu.Lock()
		if len(v.ready) > 0 {
			entry := v.ready[0]
			v.ready = v.ready[1:]
			if len(v.ready) == mostReady/2 || len(v.ready) == 0 {
				poke(v.wake)
			}
			if len(v.ready) > 0 {
				poke(v.more)
			}
			v.mu.Unlock()
			return entry, nil
		}
		err := v.err
		v.mu.Unlock()
		if err != nil {
			poke(v.more)
			return wire.Entry{}, err
		}
		select {
		case <-v.more:
		case <-ctx.Done():
			return wire.Entry{}, ctx.Err()
		case <-v.client.life:
			return wire.Entry{}, v.client.reasonToEnd()
		}
	}
}

// All returns the entries as an iterator that ends with an error: that of Next.
func (v *Conversation) All(ctx context.Context) iter.Seq2[wire.Entry, error] {
	return func(yield func(wire.Entry, error) bool) {
		for {
			entry, err := v.Next(ctx)
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}

// see notes that the conversation reaches to seq; live, if not nil, is the entry itself.
func (v *Conversation) see(seq wire.Seq, live *wire.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if seq <= v.last || v.err != nil {
		return
	}
	v.target = max(v.target, seq)
	if live != nil && (len(v.ahead) < mostAhead || seq == v.last+1) {
		v.ahead[seq] = *live
	}
	v.advance()
	if v.last < v.target {
		poke(v.wake)
	}
}

// check makes the view look for what it may have missed.
func (v *Conversation) check() {
	v.mu.Lock()
	v.checks++
	v.mu.Unlock()
	poke(v.wake)
}

// fail ends the view with an error, which Next returns after what is ready; the first error stays.
func (v *Conversation) fail(err error) {
	v.mu.Lock()
	if v.err == nil {
		v.err = err
	}
	v.mu.Unlock()
	poke(v.more)
}

// advance makes ready what came live and follows without a hole; the caller holds mu.
func (v *Conversation) advance() {
	for len(v.ready) < mostReady {
		entry, ok := v.ahead[v.last+1]
		if !ok {
			return
		}
		delete(v.ahead, v.last+1)
		v.deliver(entry)
	}
}

// deliver makes an entry ready; the caller holds mu.
func (v *Conversation) deliver(e wire.Entry) {
	v.last = e.Seq
	v.ready = append(v.ready, e)
	poke(v.more)
}

// fetch fills holes from history whenever it is woken.
func (v *Conversation) fetch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-v.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		for short := 0; ; {
			want, needed := v.missing()
			if !needed {
				break
			}
			page, err := v.page(ctx, want)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				v.fail(err)
				return
			}
			if want.short = short >= mostShort; v.absorb(page, want) {
				short = 0
				continue
			}
			short++
			if !sleep(ctx, pause(v.client.config.least/4, v.client.config.most/16, short)) {
				return
			}
		}
	}
}

// need is what a view asks of history.
type need struct {
	query  wire.PageQuery
	target wire.Seq // the answer tells all up to here
	checks int
	short  bool // an answer that ends before target is believed
}

// found is a page with its entries decoded.
type found struct {
	entries []wire.Entry
	more    bool
}

// missing returns the need for what comes next.
func (v *Conversation) missing() (n need, needed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.advance()
	room := mostReady - len(v.ready)
	if v.err != nil || room <= 0 || (v.checks == v.checked && v.last >= v.target) {
		return n, false
	}
	after := v.last
	query := wire.PageQuery{Conversation: v.id, After: &after, Limit: min(room, wire.MaxPage), AtLeast: v.target}
	return need{query: query, target: v.target, checks: v.checks}, true
}

// page asks history. A direct conversation that nobody has begun is empty.
func (v *Conversation) page(ctx context.Context, n need) (found, error) {
	page, err := v.client.Page(ctx, n.query)
	if errors.Is(err, &wire.Error{Code: wire.NotFound}) && v.id.Kind() == subjects.KindDirect && n.target == 0 {
		return found{}, nil
	}
	if err != nil {
		return found{}, err
	}
	entries, err := Entries(page)
	return found{entries: entries, more: page.MoreAfter}, err
}

// absorb takes over a page. A seq that a page leaves out between two others is not for this user to see, or was erased. A page that ends
// before an entry that is known to exist comes from a store that lags behind: absorb then reports false, and the caller asks again,
// until it believes the answer.
func (v *Conversation) absorb(p found, n need) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range p.entries {
		if e.Seq > v.last {
			v.deliver(e)
		}
	}
	v.advance()
	if !p.more || len(p.entries) == 0 {
		if v.last < n.target && !n.short {
			return false
		}
		v.last = max(v.last, n.target)
		v.checked = max(v.checked, n.checks)
	}
	for seq := range v.ahead {
		if seq <= v.last {
			delete(v.ahead, seq)
		}
	}
	return true
}
