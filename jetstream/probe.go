package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// probeWithin bounds each half of a probe. A store that works answers within milliseconds.
const probeWithin = 1500 * time.Millisecond

// codeOtherStream is what the leader of a stream answers to a message that expects another stream.
const codeOtherStream = 10060

// Probe returns nil when entries can be stored, and else ErrUnavailable with a sentence that says why not, within three seconds. Only a write tells the truth about a disk and about a majority of servers,
// so it stores a small record, one for each instance, over and over in a bucket of its own. Where nobody listens to that, the bucket may be between two leaders, as a stream is for some seconds when a server
// fails: then it asks the leaders of the streams of messages, and the store is available while most of them answer.
func (s *Store) Probe(ctx context.Context, instance string) error {
	record, err := json.Marshal(time.Now().UTC())
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	reply, err := s.nc.RequestMsgWithContext(within, &nats.Msg{Subject: subjects.BucketSubject(subjects.BucketProbes, subjects.ProbeKey(instance)), Data: record})
	if err == nil {
		_, err = readAck(reply)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: a write is not confirmed within %v", ErrUnavailable, probeWithin)
	case !errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: a write is refused: %w", ErrUnavailable, err)
	}
	led, err := s.led(ctx)
	if err == nil && led*2 < subjects.Partitions {
		err = fmt.Errorf("%w: %d of %d streams of messages have a leader", ErrUnavailable, led, subjects.Partitions)
	}
	return err
}

// led returns how many streams of messages have a leader: each is asked to refuse a message, which stores nothing. Should the expectation in it be lost, what is stored is no entry, and passed over.
func (s *Store) led(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	requests := make([]*nats.Msg, subjects.Partitions)
	for p := range requests {
		requests[p] = &nats.Msg{Subject: subjects.ProbeMessage(p), Header: nats.Header{nats.ExpectedStreamHdr: {subjects.BucketStream(subjects.BucketProbes)}}}
	}
	var mu sync.Mutex // guards what follows: an answer may come while the wait for it ends
	led, left := 0, len(requests)
	err := s.replies.gather(ctx, requests, func(_ int, m *nats.Msg) bool {
		mu.Lock()
		defer mu.Unlock()
		_, err := readAck(m)
		if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeOtherStream {
			led++
		}
		left--
		return left == 0
	})
	if err != nil && ctx.Err() == nil {
		return 0, err // such as a connection that is away
	}
	mu.Lock()
	defer mu.Unlock()
	return led, nil
}
