package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// What idle people have beside their connection.
const (
	idlePeople = 10_000
	idleGroup  = 100 // members of the one group that each is in
	idleWatch  = 5   // people whose presence each watches
)

const (
	settleFor    = 3 * time.Second  // memory that has not fallen for so long is what stays
	settleWithin = 30 * time.Second // at most
)

// littleGarbage is the setting of the Go runtime for how much garbage may gather, in percent of what is in use; little keeps what is resident near what is in use.
const littleGarbage = "GOGC=20"

// idle measures what connections cost that say nothing: signed in, in a group, each watching some others.
func idle(ctx context.Context, r *run) error {
	n := r.people(idlePeople, 2)
	raiseFiles(uint64(n) + 1000)
	var rest idleCost
	for _, environment := range []string{"", littleGarbage} {
		cost, err := r.idleConfab(ctx, n, environment)
		if err != nil {
			return err
		}
		bare, err := r.idleFloor(ctx, n, environment, cost.window)
		if err != nil {
			return err
		}
		name := "resident"
		if environment == littleGarbage {
			name = "resident, little garbage"
			r.report.figure(name, "B/socket", known(cost.resident), known(bare.resident), goal{most: 4096})
			continue
		}
		r.report.figure(name, "B/socket", known(cost.resident), known(bare.resident), goal{})
		rest = cost
		r.report.figure("processor time, with pings", "µs/socket/s", known(cost.processor), known(bare.processor), goal{most: 1})
	}
	r.report.note("%d sockets, each signed in, member of a group of %d, and watching the presence of %d others; memory is what the process has more than before they came, when it no longer falls.", n, min(idleGroup, n), min(idleWatch, n-1))
	r.report.note("Processor time counts over %.0f s, the time from one ping to the next of each socket; the floor pings nobody.", rest.window.Seconds())
	r.report.note("A Go process keeps garbage until there is about as much as is in use: the second figure is that of processes started with %s, the first of those without.", littleGarbage)
	return nil
}

// idleCost is what one idle socket costs.
type idleCost struct {
	resident  float64 // bytes
	processor float64 // microseconds a second
	window    time.Duration
}

// environ has children started with one more variable until the returned function is called.
func (r *run) environ(variable string) (restore func()) {
	before := r.extra
	if variable != "" {
		r.extra = append(slices.Clone(before), variable)
	}
	return func() { r.extra = before }
}

func (r *run) idleConfab(ctx context.Context, n int, variable string) (cost idleCost, err error) {
	defer r.environ(variable)()
	flags := []string{"--cache-mib", "0"}
	if r.config.Ping > 0 {
		flags = append(flags, "--ping-time", r.config.Ping.String())
	}
	s, err := r.prepare(ctx, flags...) // nothing is stored while it is measured
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, s.down()) }()
	if err := errors.Join(s.meet(ctx, n), s.afresh(ctx)); err != nil {
		return cost, err
	}
	before := r.settled(ctx, s.watched())
	c, err := s.crowd(ctx, n)
	if err != nil {
		return cost, err
	}
	defer c.close()
	err = parallel(ctx, n, func(i int) error {
		r.step("watching presence")
		var others []subjects.User
		for k := 1; k <= min(idleWatch, n-1); k++ {
			others = append(others, c.people[(i+k)%n].user)
		}
		return patiently(ctx, func() error { return c.sockets[i].ask(ctx, wire.CallWatch, wire.UsersQuery{Users: others}, nil) })
	})
	if err != nil {
		return cost, err
	}
	after := r.settled(ctx, s.watched())
	cost.window = max(r.config.Lasts, time.Duration(c.sockets[0].welcome.PingSeconds)*time.Second)
	r.say("%d sockets at rest", n)
	o := r.rest(ctx, s.watched(), cost.window)
	cost.resident, cost.processor = perSocket(before, after, n), o.cpu().Seconds()*1e6/o.elapsed.Seconds()/float64(n)
	for i, socket := range c.sockets {
		select {
		case <-socket.ended:
			r.report.Lost++
			r.report.note("The connection of %s ended: %v", c.people[i].user, socket.err)
		default:
		}
	}
	r.used(s.process)
	return cost, nil
}

// meet makes n people and puts them into groups. It needs a connection for the founder of each group alone.
func (s *system) meet(ctx context.Context, n int) error {
	people, err := s.gather(ctx, n)
	if err != nil {
		return err
	}
	size := min(idleGroup, n)
	return parallel(ctx, n/size, func(i int) error {
		s.run.step("making groups")
		var founder *socket
		err := patiently(ctx, func() (err error) {
			founder, err = s.connect(ctx, people[i*size], "bench-1")
			return err
		})
		if err != nil {
			return err
		}
		defer founder.close()
		_, err = s.found(ctx, founder, people[i*size:(i+1)*size], fmt.Sprintf("rest-%d", i))
		return err
	})
}

func (r *run) idleFloor(ctx context.Context, n int, variable string, window time.Duration) (cost idleCost, err error) {
	defer r.environ(variable)()
	relay, url, err := r.floor(ctx, "relay")
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, relay.stop()) }()
	watch := []*process{relay}
	before := r.settled(ctx, watch)
	sockets := make([]*socket, n)
	defer closeAll(sockets)
	err = parallel(ctx, n, func(i int) (err error) {
		r.step("connecting to the floor")
		sockets[i], err = r.dial(ctx, url, fmt.Sprintf("/%d", i), nil)
		return err
	})
	if err != nil {
		return cost, err
	}
	after := r.settled(ctx, watch)
	o := r.rest(ctx, watch, min(window, 5*time.Second))
	cost.resident, cost.processor = perSocket(before, after, n), o.cpu().Seconds()*1e6/o.elapsed.Seconds()/float64(n)
	r.used(relay)
	return cost, nil
}

// rest measures what processes use while nothing is asked of them.
func (r *run) rest(ctx context.Context, watch []*process, window time.Duration) (o outcome) {
	m := startMeter(watch)
	wait(ctx, window)
	m.stop(&o)
	return o
}

func perSocket(before, after uint64, n int) float64 {
	if before == 0 || after <= before {
		return 0
	}
	return float64(after-before) / float64(n)
}

// settled returns how much memory of processes is resident when it no longer falls; 0 = unknown.
func (r *run) settled(ctx context.Context, watch []*process) uint64 {
	r.say("waiting until memory settles")
	lowest, since := uint64(0), time.Now()
	step := min(settleFor, r.config.Lasts) / 10
	for begun := since; ctx.Err() == nil && time.Since(begun) < settleWithin && time.Since(since) < min(settleFor, r.config.Lasts); wait(ctx, step) {
		var now uint64
		for _, p := range watch {
			m, err := memoryOf(p.pid())
			if err != nil {
				return 0
			}
			now += m.RSS
		}
		if lowest == 0 || now < lowest-lowest/200 {
			lowest, since = now, time.Now()
		}
	}
	return lowest
}
