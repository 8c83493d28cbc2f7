package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/bench/floor"
	"github.com/confab-im/confab/subjects"
)

// What is read of history.
const (
	historyPeople  = 200
	historyReaders = 16  // pages under way at once
	historyPage    = 50  // entries
	historyPosts   = 100 // a second, by those who post meanwhile
	barePages      = 128 // records of the size of a page in each bare stream
)

// history measures pages of old messages, and what reading them does to those who post.
func history(ctx context.Context, r *run) (err error) {
	n := r.people(historyPeople, 2)
	s, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.down()) }()
	m, stop, err := s.pairs(ctx, n)
	if err != nil {
		return err
	}
	each := max(1, r.config.Entries/n)
	err = m.fill(ctx, r, each)
	stop()
	if err == nil {
		err = s.startUp(ctx, r, n*each)
	}
	if err != nil {
		return err
	}
	if m, stop, err = s.pairs(ctx, n); err != nil {
		return err
	}
	defer stop()
	bare, nc, err := r.streams(ctx)
	if err != nil {
		return err
	}
	defer func() { nc.Close(); err = errors.Join(err, bare.stop()) }()
	records, err := newRecords(ctx, nc, r.config.Bytes)
	if err != nil {
		return err
	}
	h := reading{r: r, mail: m, stored: 2 * each, records: records}
	h.measure(ctx, s.watched(), bare)
	h.meanwhile(ctx)
	m.tell(ctx, r.report)
	r.report.note("%d messages in %d conversations; pages of %d before a random message, by %d readers at once. The floor reads one record of the size of a page by its place.", n*each, n/2, historyPage, historyReaders)
	r.used(s.process, bare)
	return nil
}

// startUp restarts a child that was filled, and takes the time until clients can connect.
func (s *system) startUp(ctx context.Context, r *run, stored int) error {
	if s.process == nil {
		return nil
	}
	if err := s.down(); err != nil {
		return err
	}
	s.always = r.syncAlways()
	begun := time.Now()
	if err := s.start(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	r.report.figure(fmt.Sprintf("start with %s messages stored", number(float64(stored))), "s", []float64{time.Since(begun).Seconds()}, nil, goal{})
	return nil
}

// fill posts each messages on every lane.
func (m *mail) fill(ctx context.Context, r *run, each int) error {
	var done atomic.Int64
	return parallelBy(ctx, len(m.lanes), len(m.lanes), func(lane int) error {
		for range each {
			answered := make(chan error, 1)
			err := patiently(ctx, func() error {
				m.post(lane, time.Now(), func(err error) { answered <- err })
				select {
				case err := <-answered:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if err != nil {
				return fmt.Errorf("fill the store: %w", err)
			}
			if n := done.Add(1); n%1000 == 0 {
				r.say("%s of %s messages stored", number(float64(n)), number(float64(each*len(m.lanes))))
			}
		}
		return nil
	})
}

// reading measures pages.
type reading struct {
	r       *run
	mail    *mail
	stored  int // entries of each conversation, about
	records *records
	next    atomic.Uint64
}

// page is the operation of a load: each lane reads a conversation of its own socket.
func (h *reading) page(lane int, _ time.Time, done func(error)) {
	l := h.mail.lanes[lane]
	// A multiplication that meets all residues in no order: a lane's generator would need a lock.
	before := uint64(historyPage) + 1 + h.next.Add(1)*0x9e3779b97f4a7c15>>20%uint64(max(1, h.stored-historyPage))
	data := append(append([]byte(`{"conversation":"`), l.conversation...), `","limit":`...)
	data = append(strconv.AppendInt(data, historyPage, 10), `,"before":`...)
	data = append(strconv.AppendUint(data, before, 10), '}')
	err := l.from.call("history.page", data, func(ok []byte, err error) {
		if n := bytes.Count(ok, clientIDKey); err == nil && n != historyPage {
			err = fmt.Errorf("a page before %d has %d entries", before, n)
		}
		done(err)
	})
	if err != nil {
		done(err)
	}
}

func (h *reading) measure(ctx context.Context, watch []*process, bare *process) {
	var rates, bareRates, used, bareUsed, p50, bareP50, p99, bareP99 []float64
	readers := min(historyReaders, len(h.mail.lanes))
	many, manyBare := h.r.load(readers, watch, h.page), h.r.load(readers, []*process{bare}, h.records.read)
	one, oneBare := h.r.load(1, watch, h.page), h.r.load(1, []*process{bare}, h.records.read)
	for round := range h.r.config.Rounds {
		h.r.say("pages, round %d", round+1)
		b, o, alone, aloneBare := manyBare.closed(ctx), many.closed(ctx), one.closed(ctx), oneBare.closed(ctx)
		h.r.report.failed("pages", o)
		h.r.report.failed("pages, one by one", alone)
		h.r.report.failed("bare reads", b)
		rates, bareRates = append(rates, o.rate), append(bareRates, b.rate)
		used, bareUsed = append(used, o.perOperation()), append(bareUsed, b.perOperation())
		p50, bareP50 = append(p50, milliseconds(alone.latency.Quantile(.5))), append(bareP50, milliseconds(aloneBare.latency.Quantile(.5)))
		p99, bareP99 = append(p99, milliseconds(o.latency.Quantile(.99))), append(bareP99, milliseconds(b.latency.Quantile(.99)))
	}
	h.r.report.figure("pages", "pages/s", rates, bareRates, goal{least: 5000})
	h.r.report.figure("processor time of the server", "µs/page", used, bareUsed, goal{most: 150})
	h.r.report.figure("one page after another, p50", "ms", p50, bareP50, goal{most: 1})
	h.r.report.figure(fmt.Sprintf("%d readers at once, p99", readers), "ms", p99, bareP99, goal{})
}

// meanwhile measures posts alone, and beside somebody who reads one page after another.
func (h *reading) meanwhile(ctx context.Context) {
	var alone, beside, times, pages []float64
	post := h.r.load(len(h.mail.lanes), nil, h.mail.post)
	for round := range h.r.config.Rounds {
		h.r.say("posts beside readers, round %d", round+1)
		quiet := post.paced(ctx, historyPosts)
		reader := h.r.load(1, nil, h.page)
		reader.warm, reader.lasts = 0, post.warm+post.lasts
		read := make(chan outcome, 1)
		go func() { read <- reader.closed(ctx) }()
		loud := post.paced(ctx, historyPosts)
		o := <-read
		h.r.report.failed("posts", quiet)
		h.r.report.failed("posts beside readers", loud)
		h.r.report.failed("pages beside posts", o)
		a, b := milliseconds(quiet.latency.Quantile(.5)), milliseconds(loud.latency.Quantile(.5))
		alone, beside, pages = append(alone, a), append(beside, b), append(pages, o.rate)
		if a > 0 {
			times = append(times, b/a)
		}
	}
	h.r.report.figure(fmt.Sprintf("posts at %d/s, p50, alone", historyPosts), "ms", alone, nil, goal{})
	h.r.report.figure("the same beside a reader", "ms", beside, nil, goal{})
	h.r.report.figure("that is so many times as much", "times", times, nil, goal{most: 2})
	h.r.report.figure("pages that the reader got meanwhile", "pages/s", pages, nil, goal{})
}

// records are what a floor reads: some in each bare stream, each as long as a page.
type records struct {
	ask  *requester
	next atomic.Uint64
}

func newRecords(ctx context.Context, nc *nats.Conn, bytes int) (*records, error) {
	q, err := newRequester(nc)
	if err != nil {
		return nil, err
	}
	p, err := newPublisher(nc, 1, bytes)
	if err != nil {
		return nil, err
	}
	page := []byte("[" + strings.Repeat(string(p.data)+",", historyPage-1) + string(p.data) + "]")
	err = parallel(ctx, subjects.Partitions*barePages, func(i int) error {
		answer, err := nc.RequestWithContext(ctx, floor.Subject(i%subjects.Partitions, strconv.Itoa(i)), page)
		if err != nil {
			return err
		}
		return stored(answer)
	})
	return &records{ask: q}, err
}

var errNotRead = errors.New("the bare stream did not answer with a record")

// read is the operation of a load.
func (d *records) read(_ int, _ time.Time, done func(error)) {
	i := d.next.Add(1) * 0x9e3779b97f4a7c15 >> 20
	data := append(strconv.AppendUint([]byte(`{"seq":`), 1+i/subjects.Partitions%barePages, 10), '}')
	err := d.ask.ask(subjects.DirectRead(floor.Stream(int(i%subjects.Partitions))), data, func(m *nats.Msg) bool {
		if len(m.Data) == 0 {
			done(fmt.Errorf("%w: %v", errNotRead, m.Header))
		} else {
			done(nil)
		}
		return false
	})
	if err != nil {
		done(err)
	}
}
