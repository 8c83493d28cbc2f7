package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// directPeople is how many sockets there are, each with a partner.
const directPeople = 500

// direct measures durable messages from person to person.
func direct(ctx context.Context, r *run) error {
	n := r.people(directPeople, 2)
	return r.besideStreams(ctx, r.up, func(s *system, bare *process, nc *nats.Conn) error { return s.duel(ctx, n, bare, nc) })
}

// duel measures the messages of n people against bare publishes.
func (s *system) duel(ctx context.Context, n int, bare *process, nc *nats.Conn) error {
	r := s.run
	m, stop, err := s.pairs(ctx, n)
	if err != nil {
		return err
	}
	defer stop()
	p, err := newPublisher(nc, n, r.config.Bytes)
	if err != nil {
		return err
	}
	d := duel{r: r, mail: m, confab: r.load(n, s.watched(), m.post), floor: r.load(n, []*process{bare}, p.publish)}
	d.capacity(ctx)
	d.hold(ctx)
	d.quarter(ctx)
	m.tell(ctx, r.report)
	d.tell()
	r.used(s.process, bare)
	return nil
}

// load returns a measurement as the run is configured.
func (r *run) load(lanes int, watch []*process, do operation) load {
	return load{lanes: lanes, lasts: r.config.Lasts, warm: min(time.Second, r.config.Lasts/4), watch: watch, random: r.random, do: do}
}

// pairs connects n people in pairs who write to each other, and has each write once: the first message of a conversation costs more than all others.
func (s *system) pairs(ctx context.Context, n int) (m *mail, stop func(), err error) {
	people, err := s.gather(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	m = newMail(s.run)
	sockets := make([]*socket, n)
	stop = func() { closeAll(sockets) }
	err = parallel(ctx, n, func(i int) error {
		s.run.step("connecting")
		heard := entryOnly(func(data []byte) {
			if lane, count, ok := m.lane(data); ok && lane == i^1 {
				m.receive(lane, count)
			}
		})
		return patiently(ctx, func() (err error) {
			sockets[i], err = s.connectAs(ctx, people[i], "bench-1", heard)
			return err
		})
	})
	if err == nil {
		for i, c := range sockets {
			var conversation subjects.Conversation
			if conversation, err = subjects.Direct(people[i].user, people[i^1].user); err != nil {
				break
			}
			m.add(c, conversation, 1)
		}
	}
	if err == nil {
		err = s.openWith(ctx, m, people)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return m, stop, nil
}

// openWith opens the conversation of each pair by its first message.
func (s *system) openWith(ctx context.Context, m *mail, people []person) error {
	return parallel(ctx, len(people), func(i int) error {
		post := wire.Post{To: people[i^1].user, ClientID: string(appendClientID(nil, time.Now(), m.run+1, uint32(i), 0)), Body: []byte(`{"text":"first"}`)}
		if err := patiently(ctx, func() error { return m.lanes[i].from.ask(ctx, "send.post", post, nil) }); err != nil {
			return fmt.Errorf("the first message: %w", err)
		}
		return nil
	})
}

// closeAll ends connections; those that are nil were never there.
func closeAll(sockets []*socket) {
	for _, c := range sockets {
		if c != nil {
			_ = c.conn.Close() // all at once
		}
	}
	for _, c := range sockets {
		if c != nil {
			<-c.ended
		}
	}
}

// duel measures messages of confab and bare publishes in turn.
type duel struct {
	r             *run
	mail          *mail
	confab, floor load

	confabRate, floorRate       []float64 // closed loop, a second
	confabHeld, floorHeld       *search
	heldCPU, floorCPU           []float64 // µs an operation at what is held
	heldP99, floorP99           []float64 // ms
	ok, arrived, published      []float64 // ms, p50 at a quarter
	confabCurve, floorCurve     Curve
	elsewhereCurve              Curve
	generator, elapsed, lateP99 float64
}

// capacity measures both in closed loops.
func (d *duel) capacity(ctx context.Context) {
	for round := range d.r.config.Rounds {
		d.r.say("as fast as it goes, round %d", round+1)
		bare := d.floor.closed(ctx)
		d.floorRate = append(d.floorRate, bare.rate)
		d.mail.begin(d.confab.warm)
		o := d.confab.closed(ctx)
		d.confabRate = append(d.confabRate, o.rate)
		d.r.report.failed("closed loop", o)
		d.r.report.failed("closed loop of the floor", bare)
	}
}

// holdGrain is how often the generator wakes up while rates are offered of which no latency below a hundred milliseconds counts.
const holdGrain = 250 * time.Microsecond

// hold searches for the rates that are held, in turn, and measures at them once more.
func (d *duel) hold(ctx context.Context) {
	confab, floor := d.confab, d.floor
	confab.grain, floor.grain = holdGrain, holdGrain
	d.confabHeld, d.floorHeld = d.r.search(d.confabRate), d.r.search(d.floorRate)
	for ctx.Err() == nil && !(d.confabHeld.over() && d.floorHeld.over()) {
		if !d.floorHeld.over() {
			d.floorHeld.note(d.offer(ctx, floor, d.floorHeld.next, &d.floorCurve, nil))
		}
		if !d.confabHeld.over() {
			d.confabHeld.note(d.offer(ctx, confab, d.confabHeld.next, &d.confabCurve, &d.elsewhereCurve))
		}
	}
	for range d.r.config.Rounds {
		if d.floorHeld.low > 0 {
			o := d.offer(ctx, floor, d.floorHeld.low, nil, nil)
			d.floorCPU, d.floorP99 = append(d.floorCPU, o.perOperation()), append(d.floorP99, milliseconds(o.latency.Quantile(.99)))
		}
		if d.confabHeld.low > 0 {
			o := d.offer(ctx, confab, d.confabHeld.low, nil, nil)
			d.heldCPU, d.heldP99 = append(d.heldCPU, o.perOperation()), append(d.heldP99, milliseconds(o.latency.Quantile(.99)))
			d.generator, d.elapsed = d.generator+o.generator.Seconds(), d.elapsed+o.elapsed.Seconds()
		}
	}
}

// quarter measures latencies at a quarter of what confab holds, and some points of the plot between.
func (d *duel) quarter(ctx context.Context) {
	held := d.confabHeld.low
	if held == 0 {
		held = seriesOf(d.confabRate).Median / 2
		d.r.report.note("No rate was held that was tried; the quarter is one of half of what goes as fast as it goes.")
	}
	for round := range d.r.config.Rounds {
		var bareCurve, curve, elsewhere *Curve
		if round == 0 {
			bareCurve, curve, elsewhere = &d.floorCurve, &d.confabCurve, &d.elsewhereCurve
		}
		bare := d.offer(ctx, d.floor, held/4, bareCurve, nil)
		p := d.mail.begin(d.confab.warm)
		o := d.offerIn(ctx, p, d.confab, held/4, curve, elsewhere)
		d.published = append(d.published, milliseconds(bare.latency.Quantile(.5)))
		d.ok, d.arrived = append(d.ok, milliseconds(o.latency.Quantile(.5))), append(d.arrived, milliseconds(p.latency.Quantile(.5)))
		d.lateP99 = max(d.lateP99, milliseconds(o.late.Quantile(.99)))
	}
	d.offer(ctx, d.floor, held/2, &d.floorCurve, nil)
	d.offer(ctx, d.confab, held/2, &d.confabCurve, &d.elsewhereCurve)
}

// offer measures one of both at an offered rate, for a curve where there is one.
func (d *duel) offer(ctx context.Context, l load, rate float64, curve, elsewhere *Curve) outcome {
	return d.offerIn(ctx, d.mail.begin(l.warm), l, rate, curve, elsewhere)
}

func (d *duel) offerIn(ctx context.Context, p *phase, l load, rate float64, curve, elsewhere *Curve) outcome {
	d.r.say("%s a second", number(rate))
	o := l.paced(ctx, rate)
	d.r.report.failed(number(rate)+" a second", o)
	if curve != nil {
		curve.Points = append(curve.Points, Point{rate, o.rate, o.latency.Latencies()})
	}
	if elsewhere != nil {
		d.mail.missing(ctx, arriveWithin) // the last ones are on their way
		elsewhere.Points = append(elsewhere.Points, Point{rate, o.rate, p.latency.Latencies()})
	}
	return o
}

// tell writes the figures.
func (d *duel) tell() {
	r, always := d.r.report, d.r.syncAlways()
	r.figure("as fast as it goes", "messages/s", d.confabRate, d.floorRate, goal{})
	held, cpu, p50 := goal{least: 12_000}, goal{most: 90}, goal{}
	if !always {
		held, cpu, p50 = goal{least: 30_000}, goal{}, goal{most: 1}
	}
	r.figure("held at p99 ≤ 100 ms", "messages/s", known(d.confabHeld.low), known(d.floorHeld.low), held)
	r.figure("p99 at what is held", "ms", d.heldP99, d.floorP99, goal{})
	r.figure("processor time of the server, held", "µs/message", d.heldCPU, d.floorCPU, cpu)
	r.figure("send → ok, p50 at a quarter", "ms", d.ok, d.published, goal{times: 1.5})
	r.figure("send → other socket, p50 at a quarter", "ms", d.arrived, nil, p50)
	for c, name := range map[*Curve]string{&d.floorCurve: "floor: publish → ack", &d.confabCurve: "send → ok", &d.elsewhereCurve: "send → other socket"} {
		c.Name, c.X = name, "messages a second offered"
	}
	r.Curves = append(r.Curves, d.floorCurve, d.confabCurve, d.elsewhereCurve)
	if d.elapsed > 0 && d.generator > 0 {
		r.note("The generator itself took %.2f of a core while the held rate was measured; on few cores that is taken from the server.", d.generator/d.elapsed)
	}
	if d.lateP99 > 0 {
		r.note("At a quarter the generator was up to %s ms late (p99), which counts as latency.", number(d.lateP99))
	}
	r.note("Latencies count from when a message was due, arrivals are random, each of %d sockets writes to its partner, and the two get %d frames a message.", d.confab.lanes, 3)
}

// known returns a series of one value, or of none where it is not known.
func known(v float64) []float64 {
	if v == 0 {
		return []float64{}
	}
	return []float64{v}
}
