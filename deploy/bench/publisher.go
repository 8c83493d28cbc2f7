package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/bench/floor"
	"github.com/confab-im/confab/subjects"
)

// requester makes requests without waiting for each: one subscription takes all the answers.
type requester struct {
	nc    *nats.Conn
	inbox string

	mu   sync.Mutex // guards what follows
	open map[uint64]func(*nats.Msg) (more bool)
	next uint64
}

func newRequester(nc *nats.Conn) (*requester, error) {
	q := &requester{nc: nc, inbox: nc.NewInbox() + ".", open: map[uint64]func(*nats.Msg) bool{}}
	_, err := nc.Subscribe(q.inbox+"*", func(m *nats.Msg) {
		id, err := strconv.ParseUint(m.Subject[len(q.inbox):], 36, 64)
		if err != nil {
			return
		}
		q.mu.Lock()
		answer := q.open[id]
		q.mu.Unlock()
		if answer == nil || answer(m) {
			return
		}
		q.mu.Lock()
		delete(q.open, id)
		q.mu.Unlock()
	})
	return q, err
}

// ask sends a request; answer is called for each message that answers it, by one goroutine for all requests, until it wants no more.
func (q *requester) ask(subject string, data []byte, answer func(*nats.Msg) (more bool)) error {
	q.mu.Lock()
	q.next++
	id := q.next
	q.open[id] = answer
	q.mu.Unlock()
	return q.nc.PublishRequest(subject, q.inbox+strconv.FormatUint(id, 36), data)
}

// publisher publishes to bare streams: a lane stands for a conversation, and what it publishes is as long as an entry.
type publisher struct {
	ask      *requester
	subjects []string
	data     []byte
}

func newPublisher(nc *nats.Conn, lanes, bytes int) (*publisher, error) {
	q, err := newRequester(nc)
	if err != nil {
		return nil, err
	}
	p := &publisher{ask: q, data: []byte(`{"conversation":"d.b000000-000000.b000000-000001","seq":100,"count":100,"kind":"message","from":"b000000-000000","at":"2026-01-01T00:00:00.000Z",` +
		`"client_id":"00000000-0000-7000-8000-000000000000","body":{"text":"` + strings.Repeat("x", bytes) + `"}}`)}
	for i := range lanes {
		p.subjects = append(p.subjects, floor.Subject(i%subjects.Partitions, strconv.Itoa(i)))
	}
	return p, nil
}

// publish is the operation of a load.
func (p *publisher) publish(lane int, _ time.Time, done func(error)) {
	if err := p.ask.ask(p.subjects[lane], p.data, func(m *nats.Msg) bool { done(stored(m)); return false }); err != nil {
		done(err)
	}
}

var errNotStored = errors.New("the bare stream did not store")

// stored returns an error unless an answer acknowledges.
func stored(m *nats.Msg) error {
	if bytes.HasPrefix(m.Data, []byte(`{"stream":`)) {
		return nil
	}
	return fmt.Errorf("%w: %s", errNotStored, m.Data)
}
