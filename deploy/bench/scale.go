package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/jetstream"
)

// What grows while the cost of a message is measured.
const (
	scaleConversations = 1_000_000 // of the largest store
	scalePeople        = 18_000    // sockets at most
	scaleWriters       = 500       // sockets beside which the stores grow
	scaleRate          = 500       // messages a second, whatever the size
	scaleTouch         = 8         // messages on their way at once while a store is read for the first time
	scaleAged          = 10_000    // conversations from which on a store is left alone for a while before it is started
)

// growth measures whether a message costs the same however much is stored and however many are connected.
func growth(ctx context.Context, r *run) error {
	if r.config.URL != "" {
		r.report.note("A confab elsewhere is not filled for this: there is nothing to compare.")
		return nil
	}
	if err := r.overConversations(ctx); err != nil {
		return err
	}
	return r.overSockets(ctx)
}

// store is a confab with so many conversations, and the bare streams that have as many subjects.
type store struct {
	s             *system
	conversations int
	crowd         *writers
	bare          *bareStore
	resident      uint64 // bytes when it has started; 0 = unknown
	least         uint64 // likewise with little garbage
	bareResident  uint64
	cpu, bareCPU  []float64 // µs a message
	first         float64   // likewise of the first messages after the start
	atRest        float64   // of a core in percent, between messages
}

// sizes returns the sizes of the stores, three where the largest is not small, from the smallest on.
func (r *run) sizes() []int {
	n, w := r.config.Conversations, r.people(scaleWriters, 2)
	all := []int{n / 1000, n / 10, n}
	for i := range all {
		all[i] = max(all[i]-all[i]%w, w)
	}
	return slices.Compact(all)
}

// overConversations measures stores of different sizes in turn.
func (r *run) overConversations(ctx context.Context) (err error) {
	var stores []*store
	defer func() {
		for _, st := range stores {
			err = errors.Join(err, st.end())
		}
	}()
	for _, n := range r.sizes() {
		st := &store{conversations: n}
		stores = append(stores, st)
		if err := st.fill(ctx, r); err != nil {
			return err
		}
	}
	if err := age(ctx, r, stores); err != nil {
		return err
	}
	for _, st := range stores {
		if err := st.open(ctx, r); err != nil {
			return err
		}
	}
	for _, st := range stores {
		st.touch(ctx, r)
	}
	for round := range r.config.Rounds {
		for _, st := range stores {
			st.measure(ctx, r, round)
		}
	}
	for _, st := range stores {
		if err := st.kill(ctx, r); err != nil {
			return err
		}
	}
	r.tellStores(stores)
	return nil
}

// fill makes a store and the bare streams beside it, and ends both.
func (st *store) fill(ctx context.Context, r *run) (err error) {
	if st.s, err = r.prepare(ctx); err != nil {
		return err
	}
	st.crowd = &writers{mail: newMail(r)}
	if err := st.crowd.fill(ctx, st.s, r.people(scaleWriters, 2), st.conversations); err != nil {
		return err
	}
	if err := st.s.down(); err != nil {
		return err
	}
	st.bare, err = r.bareStore(ctx, st.crowd.ids)
	return err
}

// age waits until nothing is left in the window in which the server recognises repeats. What is in it the server reads again at a start, and remembers the id of each entry:
// a cost of what was said in the last minutes, and not of what is stored. For small stores it does not matter.
func age(ctx context.Context, r *run, stores []*store) error {
	if stores[len(stores)-1].conversations < scaleAged {
		return nil
	}
	r.say("waiting for %v, as repeats of what was stored until now are recognised for so long", jetstream.DefaultDedupe)
	wait(ctx, jetstream.DefaultDedupe)
	return ctx.Err()
}

// open starts a store twice as an operator would: with little garbage, and as it is.
func (st *store) open(ctx context.Context, r *run) error {
	st.s.always = r.syncAlways()
	restore := r.environ(littleGarbage)
	err := st.s.start(ctx, "127.0.0.1:0")
	restore()
	if err != nil {
		return err
	}
	st.least = r.settled(ctx, st.s.watched())
	if err := st.s.down(); err != nil {
		return err
	}
	begun := time.Now()
	if err := st.s.start(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	starts := time.Since(begun)
	st.resident = r.settled(ctx, st.s.watched())
	if err := st.crowd.connect(ctx, st.s); err != nil {
		return err
	}
	if err := st.bare.open(ctx, r); err != nil {
		return err
	}
	r.report.figure(st.name("start after a clean stop"), "s", []float64{starts.Seconds()}, []float64{st.bare.starts.Seconds()}, st.most(3))
	st.bareResident = r.settled(ctx, []*process{st.bare.process})
	o := r.rest(ctx, st.s.watched(), r.config.Lasts)
	st.atRest = 100 * o.cpu().Seconds() / o.elapsed.Seconds()
	return nil
}

// touch has messages stored one after another for a while. The first one in each part of a store after a start has the server read that part from the disk, and
// what comes meanwhile waits: a cost by itself, at which nothing can be paced.
func (st *store) touch(ctx context.Context, r *run) {
	r.say("%s conversations, the first messages", number(float64(st.conversations)))
	l := r.load(min(len(st.crowd.sockets), scaleTouch), st.s.watched(), st.crowd.post)
	l.warm, l.lasts = 0, 2*r.config.Lasts
	o := l.closed(ctx)
	r.report.failed(st.name("the first messages"), o)
	st.first = o.perOperation()
}

// measure measures a store and its bare streams once. It leaves out what was given up, because more and more waited.
func (st *store) measure(ctx context.Context, r *run, round int) {
	name, n := number(float64(st.conversations))+" conversations", len(st.crowd.sockets)
	r.say("%s, round %d", name, round+1)
	a, b := r.load(n, []*process{st.bare.process}, st.bare.publish).paced(ctx, scaleRate), r.load(n, st.s.watched(), st.crowd.post).paced(ctx, scaleRate)
	r.report.failed("bare publishes", a)
	r.report.failed(name, b)
	if a.swamped || b.swamped {
		r.report.note("%s: round %d is left out, %d a second were too many for it.", name, round+1, scaleRate)
		return
	}
	st.bareCPU, st.cpu = append(st.bareCPU, a.perOperation()), append(st.cpu, b.perOperation())
}

// name says of what store a figure is.
func (st *store) name(figure string) string {
	return fmt.Sprintf("%s conversations: %s", number(float64(st.conversations)), figure)
}

// most is a goal for the largest store that the scenario presets.
func (st *store) most(n float64) goal {
	if st.conversations < scaleConversations {
		return goal{}
	}
	return goal{most: n}
}

// kill ends a store with force right after messages were stored, and takes the time that it needs to serve again.
func (st *store) kill(ctx context.Context, r *run) error {
	st.crowd.close()
	p := st.s.process
	r.used(p, st.bare.process)
	p.kill()
	st.s.process = nil
	if err := st.s.down(); err != nil {
		return err
	}
	begun := time.Now()
	if err := st.s.start(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	r.report.figure(st.name("start after kill -9"), "s", []float64{time.Since(begun).Seconds()}, nil, st.most(3))
	return nil
}

func (st *store) end() error {
	var err error
	if st.crowd != nil {
		st.crowd.close()
	}
	if st.s != nil {
		err = st.s.down()
	}
	if st.bare != nil {
		err = errors.Join(err, st.bare.stop())
	}
	return err
}

// tellStores writes the figures of stores of different sizes, the smallest first.
func (r *run) tellStores(stores []*store) {
	small := stores[0]
	for _, st := range stores {
		r.report.figure(st.name("processor time of the server"), "µs/message", st.cpu, st.bareCPU, goal{})
		r.report.figure(st.name("processor time of the server, first messages after the start"), "µs/message", known(st.first), nil, goal{})
		r.report.figure(st.name("processor time at rest"), "% of a core", known(st.atRest), nil, goal{})
		if st == small {
			continue
		}
		if before := seriesOf(small.cpu).Median; before > 0 {
			r.report.figure(st.name("that is so many times as much"), "times", known(seriesOf(st.cpu).Median/before), nil, goal{})
		}
		more := st.conversations - small.conversations
		r.report.figure(st.name("resident, little garbage"), "B/conversation", known(perSocket(small.least, st.least, more)), nil, st.most(250))
		r.report.figure(st.name("resident after the start"), "B/conversation", known(perSocket(small.resident, st.resident, more)), known(perSocket(small.bareResident, st.bareResident, more)), goal{})
	}
	r.report.note("A conversation is one message, a listing for each of the two, and the mark of the one who has read it; %d people write to %d a second of them at random. The floor has one record for each in 16 bare streams.",
		len(small.crowd.people), scaleRate)
	r.report.note("Memory a conversation is what the process of a store has more than that of the smallest one.")
}

// overSockets measures one store with more and more people connected.
func (r *run) overSockets(ctx context.Context) (err error) {
	most := r.people(scalePeople, 2)
	raiseFiles(uint64(most) + 1000)
	s, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.down()) }()
	if _, err := s.gather(ctx, most); err != nil {
		return err
	}
	if err := s.asked(ctx); err != nil {
		return err
	}
	bare, nc, err := r.streams(ctx)
	if err != nil {
		return err
	}
	defer func() { nc.Close(); err = errors.Join(err, bare.stop()) }()
	p, err := newPublisher(nc, most, r.config.Bytes)
	if err != nil {
		return err
	}
	for _, n := range []int{most / 180, most / 9, most} {
		n = max(n-n%2, 2)
		if err := r.atSockets(ctx, s, n, bare, p); err != nil {
			return err
		}
	}
	r.used(s.process, bare)
	return nil
}

// atSockets measures with so many people connected.
func (r *run) atSockets(ctx context.Context, s *system, n int, bare *process, p *publisher) error {
	m, stop, err := s.pairs(ctx, n)
	if err != nil {
		return err
	}
	defer stop()
	wait(ctx, min(settleFor, r.config.Lasts)) // the work of the connects
	var cpu, bareCPU, rest []float64
	for round := range r.config.Rounds {
		r.say("%d sockets, round %d", n, round+1)
		a, b := r.load(n, []*process{bare}, p.publish).paced(ctx, scaleRate), r.load(n, s.watched(), m.post).paced(ctx, scaleRate)
		r.report.failed("bare publishes", a)
		r.report.failed(fmt.Sprintf("%d sockets", n), b)
		bareCPU, cpu = append(bareCPU, a.perOperation()), append(cpu, b.perOperation())
		o := r.rest(ctx, s.watched(), r.config.Lasts)
		rest = append(rest, 100*o.cpu().Seconds()/o.elapsed.Seconds())
	}
	m.tell(ctx, r.report)
	name := number(float64(n)) + " sockets: processor time "
	r.report.figure(name+"of the server", "µs/message", cpu, bareCPU, goal{})
	r.report.figure(name+"at rest", "% of a core", rest, nil, goal{})
	return nil
}
