package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Sizes of the mixed day.
const (
	mixedPeople = 200
	mixedGroup  = 20 // members of the group that each is in
	mixedEach   = 2  // things that each does in a second, on average
)

// The things that people do, and how many of a hundred each is. A direct message comes from a person to the partner, a message to the group from the first of its members.
const (
	doDirect = iota
	doGroup
	doMark
	doType
	doPage
	doPresence
	doHeads
	doDevice
	kinds
)

var mixture = [kinds]struct {
	name  string
	share int
}{
	{"direct message → ok", 42}, {"group message → ok", 12}, {"receipts.mark", 20}, {"typing, without an answer", 10}, {"history.page of 20", 6}, {"presence.set", 4}, {"history.heads", 3},
	{"a second device comes or goes", 3},
}

// mixed measures a day in small: people who do a bit of everything.
func mixed(ctx context.Context, r *run) error {
	n := r.people(mixedPeople, 2)
	return r.besideStreams(ctx, r.up, func(s *system, bare *process, nc *nats.Conn) error { return s.mixed(ctx, n, bare, nc) })
}

// mixed measures the day of n people against bare publishes.
func (s *system) mixed(ctx context.Context, n int, bare *process, nc *nats.Conn) error {
	r := s.run
	d, err := newDay(ctx, s, n)
	if err != nil {
		return err
	}
	defer d.close()
	p, err := newPublisher(nc, n, r.config.Bytes)
	if err != nil {
		return err
	}
	rate := float64(mixedEach * n)
	posts := rate * float64(mixture[doDirect].share+mixture[doGroup].share) / 100
	all := r.load(n, s.watched(), func(lane int, due time.Time, done func(error)) { d.act(ctx, lane, due, done) })
	floor := r.load(n, []*process{bare}, p.publish)
	var rates, used, bareUsed, published, arrived []float64
	for round := range r.config.Rounds {
		r.say("%s things a second, round %d", number(rate), round+1)
		b := floor.paced(ctx, posts)
		phase := d.mail.begin(all.warm)
		o := all.paced(ctx, rate)
		r.report.failed("bare publishes", b)
		r.report.failed("a mixed day", o)
		d.mail.missing(ctx, arriveWithin) // the last ones are on their way
		rates, used, bareUsed = append(rates, o.rate), append(used, o.perOperation()), append(bareUsed, b.perOperation())
		published, arrived = append(published, milliseconds(b.latency.Quantile(.5))), append(arrived, milliseconds(phase.latency.Quantile(.5)))
		if o.swamped {
			r.report.note("Round %d was given up: more and more waited.", round+1)
		}
	}
	d.mail.tell(ctx, r.report)
	d.tell(rates, used, bareUsed, published, arrived)
	r.report.note("%d people, each with a partner, a group of %d and five watched; %d things a second each, at random: %s.", n, d.size, mixedEach, shares())
	r.report.note("The floor publishes as many messages a second as the day has; its processor time is that of a message, and the day's that of a thing.")
	r.used(s.process, bare)
	return nil
}

// shares writes the mixture.
func shares() string {
	text := ""
	for i, kind := range mixture {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d %% %s", kind.share, kind.name)
	}
	return text
}

// day is people and what they do.
type day struct {
	s      *system
	people []person
	mail   *mail // lanes 0 to n-1 are direct ones, those behind are of groups
	socket []*socket
	size   int // of a group

	took [kinds]Histogram

	mu      sync.Mutex // guards what follows
	phones  []*socket  // second devices; nil = not there
	moving  []bool     // that come or go just now
	draws   []int      // kinds, as often as their shares, in an order of chance
	drawn   int
	working sync.WaitGroup
}

// newDay connects people in pairs and puts them into groups.
func newDay(ctx context.Context, s *system, n int) (d *day, err error) {
	c := &crowd{}
	if c.people, err = s.gather(ctx, n); err != nil {
		return nil, err
	}
	d = &day{s: s, people: c.people, mail: newMail(s.run), socket: make([]*socket, n), phones: make([]*socket, n), moving: make([]bool, n), size: min(mixedGroup, n)}
	for kind, m := range mixture {
		d.draws = append(d.draws, slices.Repeat([]int{kind}, m.share)...)
	}
	s.run.random.Shuffle(len(d.draws), func(i, j int) { d.draws[i], d.draws[j] = d.draws[j], d.draws[i] })
	err = parallel(ctx, n, func(i int) error {
		heard := entryOnly(func(data []byte) {
			if lane, count, ok := d.mail.lane(data); ok && (lane >= n || lane == i^1) {
				d.mail.receive(lane, count)
			}
		})
		return patiently(ctx, func() (err error) {
			d.socket[i], err = s.connectAs(ctx, d.people[i], "bench-1", heard)
			return err
		})
	})
	if err == nil {
		c.sockets = d.socket
		err = d.converse(ctx, c)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// converse opens the conversations and has everybody watch some others.
func (d *day) converse(ctx context.Context, c *crowd) error {
	n := len(d.people)
	for i := range n {
		conversation, err := subjects.Direct(d.people[i].user, d.people[i^1].user)
		if err != nil {
			return err
		}
		d.mail.add(d.socket[i], conversation, 1)
	}
	if err := d.s.openWith(ctx, d.mail, d.people); err != nil {
		return err
	}
	groups, err := d.s.group(ctx, c, d.size)
	if err != nil {
		return err
	}
	for i, g := range groups {
		d.mail.add(d.socket[i*d.size], g, d.size)
	}
	return parallel(ctx, n, func(i int) error {
		var others []subjects.User
		for k := 1; k <= min(idleWatch, n-1); k++ {
			others = append(others, d.people[(i+k)%n].user)
		}
		return patiently(ctx, func() error { return d.socket[i].ask(ctx, wire.CallWatch, wire.UsersQuery{Users: others}, nil) })
	})
}

func (d *day) close() {
	d.working.Wait()
	closeAll(d.socket)
	closeAll(d.phones)
}

// act does one thing: the person of a lane does the next thing.
func (d *day) act(ctx context.Context, lane int, due time.Time, done func(error)) {
	d.mu.Lock()
	kind := d.draws[d.drawn%len(d.draws)]
	d.drawn++
	d.mu.Unlock()
	answered := func(err error) {
		if err == nil {
			d.took[kind].Record(time.Since(due))
		}
		done(err)
	}
	call := func(name string, data []byte) {
		if err := d.socket[lane].call(name, data, func(_ []byte, err error) { answered(err) }); err != nil {
			answered(err)
		}
	}
	conversation := d.mail.lanes[lane].conversation
	switch kind {
	case doDirect:
		d.mail.post(lane, due, answered)
	case doGroup:
		d.mail.post(len(d.people)+lane%(len(d.mail.lanes)-len(d.people)), due, answered)
	case doMark:
		const beyond = 1 << 40 // counts as the head
		call("receipts.mark", fmt.Appendf(nil, `{"conversation":%q,"read":%d}`, conversation, int64(beyond)))
	case doType:
		answered(d.socket[lane].tell(wire.CallSignal, fmt.Appendf(nil, `{"conversation":%q,"kind":"typing"}`, conversation)))
	case doPage:
		call("history.page", fmt.Appendf(nil, `{"conversation":%q,"limit":20}`, conversation))
	case doPresence:
		call("presence.set", fmt.Appendf(nil, `{"state":%q}`, [...]wire.State{wire.StateOnline, wire.StateAway}[due.UnixNano()&1]))
	case doHeads:
		call("history.heads", []byte(`{}`))
	case doDevice:
		d.working.Go(func() { answered(d.move(ctx, lane)) })
	}
}

// move has somebody's second device come, with what a client asks for when it starts, or go.
func (d *day) move(ctx context.Context, i int) error {
	d.mu.Lock()
	phone, busy := d.phones[i], d.moving[i]
	d.moving[i] = true
	d.mu.Unlock()
	if busy {
		return nil // it is on its way already
	}
	var err error
	if phone != nil {
		phone.close()
		phone = nil
	} else {
		phone, err = d.s.arrive(ctx, d.people[i], "bench-2")
	}
	d.mu.Lock()
	d.phones[i], d.moving[i] = phone, false
	d.mu.Unlock()
	return err
}

// tell writes the figures.
func (d *day) tell(rates, used, bareUsed, published, arrived []float64) {
	r := d.s.run.report
	r.figure("things done", "things/s", rates, nil, goal{})
	r.figure("processor time of the server", "µs/thing", used, bareUsed, goal{})
	for kind := range d.took {
		h := &d.took[kind]
		if kind == doType || h.Count() == 0 {
			continue
		}
		var bare []float64
		if kind == doDirect {
			bare = published
		}
		r.figure(mixture[kind].name+", p50", "ms", known(milliseconds(h.Quantile(.5))), bare, goal{})
		r.figure(mixture[kind].name+", p99", "ms", known(milliseconds(h.Quantile(.99))), nil, goal{})
	}
	r.figure("message → others' sockets, p50", "ms", arrived, nil, goal{})
}
