package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	stormPeople = 10_000
	stormAtOnce = 256 // who connect at the same time
	stormDevice = "bench-1"
)

// storm measures connects, with and without a look at the heads, and the return of everybody after a restart.
func storm(ctx context.Context, r *run) error {
	n := r.people(stormPeople, 2)
	raiseFiles(uint64(n) + 1000)
	return r.besideRelay(ctx, r.prepare, func(s *system, relay *process, url string) error { return s.storm(ctx, n, relay, url) })
}

// storm measures the connects of n people against those to the relay.
func (s *system) storm(ctx context.Context, n int, relay *process, url string) error {
	r := s.run
	if err := errors.Join(s.meet(ctx, n), s.asked(ctx)); err != nil {
		return err
	}
	var bare, plain, heads rush
	for round := range r.config.Rounds {
		r.say("connects, round %d", round+1)
		if err := r.rush(ctx, n, []*process{relay}, &bare, func(i int) (*socket, error) { return r.echo(ctx, url, i) }); err != nil {
			return err
		}
		if err := s.renew(ctx, n); err != nil {
			return err
		}
		if err := r.rush(ctx, n, s.watched(), &plain, func(i int) (*socket, error) { return s.connect(ctx, s.people[i], stormDevice) }); err != nil {
			return err
		}
		if err := s.renew(ctx, n); err != nil {
			return err
		}
		if err := r.rush(ctx, n, s.watched(), &heads, func(i int) (*socket, error) { return s.arrive(ctx, s.people[i], stormDevice) }); err != nil {
			return err
		}
	}
	r.report.figure("connects with token check", "connects/s", plain.rates, bare.rates, goal{least: 5500})
	r.report.figure("processor time of the server", "µs/connect", plain.used, bare.used, goal{})
	r.report.figure("upgrade → hello, p99", "ms", known(milliseconds(plain.latency.Quantile(.99))), known(milliseconds(bare.latency.Quantile(.99))), goal{})
	r.report.figure("connects with history.heads", "connects/s", heads.rates, bare.rates, goal{least: 3000})
	r.report.figure("processor time of the server, with heads", "µs/connect", heads.used, bare.used, goal{})
	r.report.note("%d people, %d at once; each is in a group of %d and connects with a token of its own, that %s.", n, min(stormAtOnce, n), min(idleGroup, n), s.novelty())
	if s.process != nil {
		if err := s.restarts(ctx, n); err != nil {
			return err
		}
	}
	r.used(s.process, relay)
	return nil
}

// rush is what some rounds of connecting everybody found.
type rush struct {
	rates, used []float64
	latency     Histogram
}

// rush connects n people, as many at once as a storm has, and lets them go again.
func (r *run) rush(ctx context.Context, n int, watch []*process, found *rush, connect func(i int) (*socket, error)) error {
	sockets := make([]*socket, n)
	defer closeAll(sockets)
	var o outcome
	m := startMeter(watch)
	var repeated atomic.Uint64
	var first atomic.Pointer[error]
	err := parallelBy(ctx, stormAtOnce, n, func(i int) error {
		begun := time.Now()
		return patiently(ctx, func() (err error) {
			if sockets[i], err = connect(i); err != nil {
				repeated.Add(1)
				first.CompareAndSwap(nil, &err)
				return err
			}
			found.latency.Record(time.Since(begun))
			return nil
		})
	})
	m.stop(&o)
	if repeated := repeated.Load(); repeated > 0 {
		r.report.note("%d tries of %d people had to be repeated; the first: %v", repeated, n, *first.Load())
	}
	if err != nil {
		return err
	}
	o.count = uint64(n)
	found.rates = append(found.rates, float64(n)/o.elapsed.Seconds())
	found.used = append(found.used, o.perOperation())
	return nil
}

// echo connects to the relay and waits until one message came back.
func (r *run) echo(ctx context.Context, url string, i int) (*socket, error) {
	back := make(chan struct{}, 1)
	c, err := r.dial(ctx, url, fmt.Sprintf("/echo-%d", i), func(wire.Event, []byte) { back <- struct{}{} })
	if err != nil {
		return nil, err
	}
	if err := c.send([]byte(`{"event":"entry","data":{}}`)); err != nil {
		c.close()
		return nil, err
	}
	select {
	case <-back:
		return c, nil
	case <-c.ended:
		return nil, c.err
	case <-ctx.Done():
		c.close()
		return nil, ctx.Err()
	}
}

// arrive connects somebody and asks for the heads, as a client does that starts.
func (s *system) arrive(ctx context.Context, p person, device subjects.Device) (*socket, error) {
	c, err := s.connect(ctx, p, device)
	if err != nil {
		return nil, err
	}
	if err := c.ask(ctx, "history.heads", wire.HeadsQuery{}, nil); err != nil {
		c.close()
		return nil, fmt.Errorf("history.heads: %w", err)
	}
	return c, nil
}

// backWithin bounds the return of everybody.
const backWithin = 2 * time.Minute

// restart is something that is ended under everybody and started again on the same address.
type restart struct {
	what  string
	down  func() error
	start func(ctx context.Context, listen string) error
	goal  goal // of the time until all are back
}

// restarts measures the restart of an edge alone, which stands beside the child in a process of its own, and then that of the child with its store.
func (s *system) restarts(ctx context.Context, n int) error {
	front, err := s.frontEdge(ctx)
	if err != nil {
		return err
	}
	whole := s.url
	s.url = front.url
	err = s.restarted(ctx, n, restart{"the edge", front.down, front.start, goal{most: 6}})
	s.url = whole
	if err := errors.Join(err, front.down()); err != nil {
		return err
	}
	s.run.report.note("The edge that is restarted alone is a process beside the whole program, whose functions and store go on.")
	return s.restarted(ctx, n, restart{"everything", s.down, s.start, goal{}})
}

// restarted measures one kind of restart under n people.
func (s *system) restarted(ctx context.Context, n int, what restart) error {
	address, err := url.Parse(s.url)
	if err != nil {
		return err
	}
	var down, back, since []float64
	var tries atomic.Int64
	for round := range s.run.config.Rounds {
		s.run.say("restart of %s under %d people, round %d", what.what, n, round+1)
		serves, whole, err := s.restartOnce(ctx, n, what, address.Host, &tries)
		if err != nil {
			return fmt.Errorf("restart %s: %w", what.what, err)
		}
		down, back, since = append(down, serves.Seconds()), append(back, whole.Seconds()), append(since, (whole-serves).Seconds())
	}
	r := s.run.report
	r.figure("restart of "+what.what+": until it serves again", "s", down, nil, goal{})
	r.figure("restart of "+what.what+": until all are back and caught up", "s", back, nil, what.goal)
	r.figure("restart of "+what.what+": the same, since it serves again", "s", since, nil, goal{})
	r.note("Restart of %s: told to end as an operator does, with one second to spread the closing of connections. Clients come back as the protocol asks: when the edge told them to, and else after a pause at random between 0.5 s and 2 s, 4 s, 8 s and so on; back means that history.heads is answered. %.1f tries a client.",
		what.what, float64(tries.Load())/float64(n*s.run.config.Rounds))
	return nil
}

// restartOnce connects everybody, restarts, and returns how long it took until clients could connect again, and until everybody had.
func (s *system) restartOnce(ctx context.Context, n int, what restart, listen string, tries *atomic.Int64) (serves, whole time.Duration, err error) {
	all := make([]*returner, n)
	for i := range all {
		all[i] = &returner{s: s, person: s.people[i], tries: tries}
	}
	defer func() {
		for _, c := range all {
			c.leave()
		}
	}()
	err = parallelBy(ctx, stormAtOnce, n, func(i int) error {
		s.run.step("connecting")
		return patiently(ctx, func() error { return all[i].arrive(ctx) })
	})
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	within, cancel := context.WithTimeout(ctx, backWithin)
	defer cancel()
	var clients sync.WaitGroup
	var missing atomic.Int64
	for _, c := range all {
		clients.Go(func() {
			if !c.comeBack(within) {
				missing.Add(1)
			}
		})
	}
	if err = what.down(); err == nil {
		err = what.start(ctx, listen)
	}
	serves = time.Since(begun)
	if err != nil {
		cancel()
	}
	clients.Wait()
	whole = time.Since(begun)
	if lost := missing.Load(); lost > 0 && err == nil {
		s.run.report.Refused += uint64(lost)
		s.run.report.note("After a restart of %s %d of %d people were not back within %v.", what.what, lost, n, backWithin)
	}
	return serves, whole, err
}
