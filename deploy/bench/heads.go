package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/bench/floor"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Sizes of the lists of conversations.
const (
	headsPeople = 208
	headsAsking = 8 // of them, each in a conversation with all others
)

// heads measures the list of conversations that a client asks for when it starts.
func heads(ctx context.Context, r *run) (err error) {
	n := r.people(headsPeople, 2)
	asking := min(headsAsking, n/2)
	others := n - asking
	s, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.down()) }()
	if err := s.acquaint(ctx, n, asking); err != nil {
		return err
	}
	if err := s.asked(ctx); err != nil {
		return err
	}
	sockets := make([]*socket, asking)
	defer closeAll(sockets)
	for i := range sockets {
		if sockets[i], err = s.connect(ctx, s.people[i], "bench-1"); err != nil {
			return err
		}
	}
	bare, nc, err := r.streams(ctx)
	if err != nil {
		return err
	}
	defer func() { nc.Close(); err = errors.Join(err, bare.stop()) }()
	last, err := newLasts(ctx, nc, r.config.Bytes, others)
	if err != nil {
		return err
	}
	want := others
	ask := func(lane int, _ time.Time, done func(error)) {
		err := sockets[lane].call("history.heads", fmt.Appendf(nil, `{"limit":%d}`, want), func(ok []byte, err error) {
			if n := bytes.Count(ok, []byte(`"unread":`)); err == nil && n != want {
				err = fmt.Errorf("the list has %d conversations of %d", n, want)
			}
			done(err)
		})
		if err != nil {
			done(err)
		}
	}
	var rates, bareRates, used, bareUsed, p50, bareP50, p99 []float64
	many, manyBare := r.load(asking, s.watched(), ask), r.load(asking, []*process{bare}, last.read)
	one, oneBare := r.load(1, s.watched(), ask), r.load(1, []*process{bare}, last.read)
	for round := range r.config.Rounds {
		r.say("round %d", round+1)
		b, o, aloneBare, alone := manyBare.closed(ctx), many.closed(ctx), oneBare.closed(ctx), one.closed(ctx)
		r.report.failed("lists", o)
		r.report.failed("lists, one by one", alone)
		r.report.failed("bare reads", b)
		rates, bareRates = append(rates, o.rate), append(bareRates, b.rate)
		used, bareUsed = append(used, o.perOperation()), append(bareUsed, b.perOperation())
		p50, bareP50 = append(p50, milliseconds(alone.latency.Quantile(.5))), append(bareP50, milliseconds(aloneBare.latency.Quantile(.5)))
		p99 = append(p99, milliseconds(o.latency.Quantile(.99)))
	}
	r.report.figure(fmt.Sprintf("a list of %d, one after another, p50", others), "ms", p50, bareP50, goal{most: 3})
	r.report.figure(fmt.Sprintf("lists, %d at once", asking), "lists/s", rates, bareRates, goal{})
	r.report.figure("processor time of the server", "µs/list", used, bareUsed, goal{})
	r.report.figure(fmt.Sprintf("%d at once, p99", asking), "ms", p99, nil, goal{})
	r.report.note("%d people have a direct conversation with each of %d others, and ask for all heads. The floor reads the newest record under as many subjects of 16 bare streams, with one request to each.", asking, others)
	r.used(s.process, bare)
	return nil
}

// acquaint has each of the last people write to each of the first ones.
func (s *system) acquaint(ctx context.Context, n, asking int) error {
	people, err := s.gather(ctx, n)
	if err != nil {
		return err
	}
	m := newMail(s.run)
	return parallel(ctx, n-asking, func(i int) error {
		s.run.step("making conversations")
		c, err := s.connect(ctx, people[asking+i], "bench-1")
		if err != nil {
			return err
		}
		defer c.close()
		for k := range asking {
			id := string(appendClientID(nil, time.Now(), m.run, uint32(i), uint32(k)))
			post := wire.Post{To: people[k].user, ClientID: id, Body: fmt.Appendf(nil, `{"text":%q}`, m.text)}
			if err := patiently(ctx, func() error { return c.ask(ctx, "send.post", post, nil) }); err != nil {
				return fmt.Errorf("make a conversation: %w", err)
			}
		}
		return nil
	})
}

// lasts is what a floor reads for a list: the newest record under each of some subjects.
type lasts struct {
	ask      *requester
	requests map[int][]byte // by partition
}

func newLasts(ctx context.Context, nc *nats.Conn, bytes, n int) (*lasts, error) {
	p, err := newPublisher(nc, n, bytes)
	if err != nil {
		return nil, err
	}
	l := &lasts{ask: p.ask, requests: map[int][]byte{}}
	for i, subject := range p.subjects {
		at := i % subjects.Partitions
		if l.requests[at] == nil {
			l.requests[at] = []byte(`{"multi_last":[`)
		} else {
			l.requests[at] = append(l.requests[at], ',')
		}
		l.requests[at] = strconv.AppendQuote(l.requests[at], subject)
	}
	for at := range l.requests {
		l.requests[at] = append(l.requests[at], "]}"...)
	}
	return l, parallel(ctx, n, func(i int) error {
		answer, err := nc.RequestWithContext(ctx, p.subjects[i], p.data)
		if err != nil {
			return err
		}
		return stored(answer)
	})
}

// read is the operation of a load.
func (l *lasts) read(_ int, _ time.Time, done func(error)) {
	left := len(l.requests) // counted down by the one goroutine of the subscription
	for at, data := range l.requests {
		err := l.ask.ask(subjects.DirectRead(floor.Stream(at)), data, func(m *nats.Msg) bool {
			if len(m.Data) > 0 {
				return true
			}
			if left--; left == 0 { // an empty one ends the answer of a stream
				done(nil)
			}
			return false
		})
		if err != nil {
			done(err)
			return
		}
	}
}
