package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/confab-im/confab/subjects"
)

// Sizes of the fan-out.
const (
	fanOutPeople = 1000
	fanOutOpen   = 16 // messages under way at once where there are fewer groups
)

// memberships are the sizes of groups that are measured, and what a delivery may cost in microseconds.
var memberships = []struct {
	members int
	goal    goal
}{{10, goal{most: 5.5}}, {100, goal{most: 3.6}}, {1000, goal{most: 3.6}}}

// fanOut measures messages to groups, each stored, until every member has it.
func fanOut(ctx context.Context, r *run) error {
	n := r.people(fanOutPeople, 2)
	return r.besideRelay(ctx, r.up, func(s *system, relay *process, url string) error { return s.fanOut(ctx, n, relay, url) })
}

// fanOut measures groups out of n people against the relay.
func (s *system) fanOut(ctx context.Context, n int, relay *process, url string) error {
	r := s.run
	c, err := s.crowd(ctx, n)
	if err != nil {
		return err
	}
	defer c.close()
	f := fan{r: r, confab: Curve{Name: "post → every member has it"}, floor: Curve{Name: "floor: relay → every member has it"}}
	for i, size := range memberships {
		if size.members > n && i > 0 {
			continue
		}
		members := min(size.members, n)
		groups, err := s.group(ctx, c, members)
		if err != nil {
			return err
		}
		if err := f.measure(ctx, s, c, groups, members, relay, url, size.goal); err != nil {
			return err
		}
	}
	c.mail.tell(ctx, r.report)
	f.confab.X, f.floor.X = "members", "members"
	r.report.Curves = append(r.report.Curves, f.floor, f.confab)
	r.report.note("%d sockets in groups of each size; a message counts as done when it is acknowledged and every member has it, the sender too; the next follows then.", n)
	r.report.note("The processor time a delivery holds all of the server: storing the message once as well, which few members share in a small group. The relay stores nothing and checks nothing.")
	r.used(s.process, relay)
	return nil
}

// fan measures one size after the other.
type fan struct {
	r             *run
	confab, floor Curve
}

// measure measures the groups of one size, in turn with as many on the relay.
func (f *fan) measure(ctx context.Context, s *system, c *crowd, groups []subjects.Conversation, members int, relay *process, url string, cpu goal) error {
	first := len(c.mail.lanes)
	for i, g := range groups {
		c.mail.add(c.sockets[i*members], g, members)
	}
	bare, stop, err := f.r.bareGroups(ctx, url, len(groups), members)
	if err != nil {
		return err
	}
	defer stop()
	lanes := len(groups) * max(1, fanOutOpen/len(groups))
	confab := f.r.load(lanes, s.watched(), func(lane int, due time.Time, done func(error)) {
		c.mail.send(first+lane%len(groups), due, func(err error) {
			if err != nil {
				done(err)
			}
		}, func() { done(nil) })
	})
	floor := f.r.load(lanes, []*process{relay}, func(lane int, due time.Time, done func(error)) {
		bare.relay(lane%len(groups), due, done)
	})
	var rates, bareRates, used, bareUsed []float64
	latency, bareLatency := &Histogram{}, &Histogram{}
	for round := range f.r.config.Rounds {
		f.r.say("%d members, round %d", members, round+1)
		b := floor.closed(ctx)
		o := confab.closed(ctx)
		f.r.report.failed(fmt.Sprintf("%d members", members), o)
		f.r.report.failed(fmt.Sprintf("%d members, the relay", members), b)
		each := float64(members)
		rates, bareRates = append(rates, o.rate*each), append(bareRates, b.rate*each)
		used, bareUsed = append(used, o.perOperation()/each), append(bareUsed, b.perOperation()/each)
		latency.Add(o.latency)
		bareLatency.Add(b.latency)
	}
	f.confab.Points = append(f.confab.Points, Point{float64(members), seriesOf(rates).Median, latency.Latencies()})
	f.floor.Points = append(f.floor.Points, Point{float64(members), seriesOf(bareRates).Median, bareLatency.Latencies()})
	name := fmt.Sprintf("%d members", members)
	f.r.report.figure(name+": deliveries", "deliveries/s", rates, bareRates, goal{})
	f.r.report.figure(name+": processor time of the server", "µs/delivery", used, bareUsed, cpu)
	f.r.report.figure(name+": to everybody, p50", "ms", known(milliseconds(latency.Quantile(.5))), known(milliseconds(bareLatency.Quantile(.5))), goal{})
	return nil
}

// bareGroups connects as many people to the relay as the groups have members.
func (r *run) bareGroups(ctx context.Context, url string, groups, members int) (m *mail, stop func(), err error) {
	m = newMail(r)
	sockets := make([]*socket, groups*members)
	stop = func() { closeAll(sockets) }
	heard := entryOnly(func(data []byte) {
		if lane, count, ok := m.lane(data); ok {
			m.receive(lane, count)
		}
	})
	for i := range sockets {
		if sockets[i], err = r.dial(ctx, url, fmt.Sprintf("/%d-%d", members, i/members), heard); err != nil {
			stop()
			return nil, nil, fmt.Errorf("connect to the relay: %w", err)
		}
		if i%members == 0 {
			m.add(sockets[i], subjects.Conversation(fmt.Sprintf("g.b000000-%d-%d", members, i/members)), members)
		}
	}
	return m, stop, m.together(ctx)
}

// together sends one message in every group until all members get one: a connection is in its group a moment after its upgrade was answered.
func (m *mail) together(ctx context.Context) error {
	for lane := range m.lanes {
		for whole := make(chan error, 1); ; {
			m.relay(lane, time.Now(), func(err error) { whole <- err })
			select {
			case err := <-whole:
				if err != nil {
					return err
				}
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
			break
		}
	}
	return nil
}

// relay sends a message as confab would deliver it to a relay, and calls done when everybody has it.
func (m *mail) relay(number int, due time.Time, done func(error)) {
	l := m.lanes[number]
	count := l.enter(due.Sub(m.begun), func() { done(nil) })
	l.mu.Lock()
	l.place(count).acked = true // nobody acknowledges
	l.mu.Unlock()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	text := append(append((*buffer)[:0], `{"event":"entry","data":{"conversation":"`...), l.conversation...)
	text = append(text, `","seq":100,"count":100,"kind":"message","from":"b000000-000000","at":"2026-01-01T00:00:00.000Z"`...)
	text = appendClientID(append(text, `,"client_id":"`...), due, m.run, uint32(number), count)
	text = append(append(append(text, `","body":{"text":"`...), m.text...), "\"}}}\n"...)
	*buffer = text
	if err := l.from.send(text); err != nil {
		done(err)
	}
}
