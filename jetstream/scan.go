package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/subjects"
)

const (
	scanBatch      = 512       // messages of one request; nothing is written to the stream while the server reads them, about a millisecond
	scanBatchMost  = 16 * 1024 // likewise, of a large stream in which messages were erased or overwritten
	scanBatches    = 100       // requests that read such a stream, about
	scanBatchBytes = 2 << 10   // of a message, on average; a batch of longer ones has fewer
	scanPatience   = 30 * time.Second
)

// batchOf returns how many messages of a stream are read with one request. For each request the server counts what is left; where nothing was erased that is a
// subtraction, and else it goes through all subjects, or through a block, while nobody can write. So the larger such a stream is, the fewer requests read it: the
// time of all is in proportion to the stream, and that of one is divided evenly between counting and reading.
func batchOf(state streamEnd) int {
	if state.Messages == 0 || state.Last-state.First+1 == state.Messages {
		return scanBatch
	}
	return int(min(max(state.Messages/scanBatches, scanBatch), scanBatchMost))
}

// Stored is a message as a stream stores it.
type Stored struct {
	Subject  string
	Sequence uint64
	Time     time.Time
	Header   []byte // as it is written on the wire; empty = none
	Data     []byte
}

// serverHeaders are those that the server adds to a message on reading, behind what was stored.
var serverHeaders = []string{
	jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, "Nats-Num-Pending", jetstream.LastSequenceHeader,
}

// stored returns the message as it was before the server added its headers.
func (m *rawMsg) stored() Stored {
	own := nats.Header{}
	for name, values := range m.Header {
		if slices.Contains(serverHeaders, name) {
			values = values[:len(values)-1]
		}
		if len(values) > 0 {
			own[name] = values
		}
	}
	return Stored{m.Subject, m.Sequence, m.Time, encodeHeader(own), m.Data}
}

// raw returns the message as the rest of this package reads it.
func (m Stored) raw() (*rawMsg, error) {
	msg := &rawMsg{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Data: m.Data}
	if len(m.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return nil, fmt.Errorf("read the headers of message %d: %w", m.Sequence, err)
		}
		msg.Header = header
	}
	return msg, nil
}

// encodeHeader writes a header as it travels and is stored; one without fields is empty.
func encodeHeader(h nats.Header) []byte {
	if len(h) == 0 {
		return nil
	}
	var names []string
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	b.WriteString("NATS/1.0\r\n")
	for _, name := range names {
		for _, value := range h[name] {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// Scan calls take with every message of a stream behind a sequence, in order, to the stream's end, and returns the last sequence that it saw. It is for
// maintenance, never for a call: the server reads at the price of its writers.
//
// Nothing is written while the server reads a batch, and the last batch reaches the end. So what Scan has seen together is one state of the stream,
// that of the last batch: whatever is there then was seen, whether it was written before the scan or during it. What was erased or overwritten
// meanwhile may have been seen too. At more than one replica it reads on until it has seen what the leader had when it began.
func (s *Store) Scan(ctx context.Context, stream string, after uint64, take func(Stored) error) (through uint64, err error) {
	return s.scan(ctx, stream, after, func(m *rawMsg) error { return take(m.stored()) })
}

func (s *Store) scan(ctx context.Context, stream string, after uint64, take func(*rawMsg) error) (through uint64, err error) {
	end, err := s.end(ctx, stream)
	if err != nil {
		return after, fmt.Errorf("scan %s: %w", stream, err)
	}
	goal, batch := end.Last, batchOf(end)
	through = after
	for stuck := time.Now(); ; {
		found, more, err := s.readOn(ctx, stream, through+1, batch)
		if err != nil {
			return through, fmt.Errorf("scan %s: %w", stream, err)
		}
		for _, msg := range found {
			if err := take(msg); err != nil {
				return through, err
			}
			through, stuck = msg.Sequence, time.Now()
		}
		if more {
			continue
		}
		if through >= goal {
			return through, nil
		}
		// The last messages were erased, or the replica that answered is behind.
		_, err = s.readLeader(ctx, stream, readRequest{Seq: through + 1, NextFor: ">"})
		switch {
		case errors.Is(err, ErrNotFound):
			return through, nil
		case err != nil:
			return through, fmt.Errorf("scan %s: %w", stream, err)
		case time.Since(stuck) > scanPatience:
			return through, fmt.Errorf("scan %s: %w: no replica that answers has come to message %d within %v", stream, ErrUnavailable, goal, scanPatience)
		}
		if err := pause(ctx, raiseTries); err != nil {
			return through, err
		}
	}
}

// readOn returns the next messages of a stream from a sequence on, at most a batch, and whether the server has more. It tries again while there is no whole answer.
func (s *Store) readOn(ctx context.Context, stream string, from uint64, batch int) (found []*rawMsg, more bool, err error) {
	if stream == subjects.StreamDeadLetters { // the leader alone reads it, one after the other
		msg, err := s.readLeader(ctx, stream, readRequest{Seq: from, NextFor: ">"})
		if errors.Is(err, ErrNotFound) {
			return nil, false, nil
		}
		return []*rawMsg{msg}, true, err
	}
	request := readRequest{Seq: from, Batch: batch, MaxBytes: min(batch*scanBatchBytes, maxBatchBytes)}
	within := patience + time.Duration(batch)*time.Millisecond
	for began := time.Now(); ; {
		err := untilHeard(ctx, func() error {
			var end *nats.Msg
			if found, end, err = s.readBatchWithin(ctx, within, stream, request); err == nil {
				more, err = endOfBatch(found, end)
			}
			return err
		})
		if err == nil || ctx.Err() != nil || !errors.Is(err, ErrUnavailable) || time.Since(began) > scanPatience {
			return found, more, err
		}
	}
}

// endOfBatch reports whether there is more behind a batch, or ErrUnavailable where a part of it was lost, as over a new connection: each message names the one
// before it.
func endOfBatch(found []*rawMsg, end *nats.Msg) (more bool, err error) {
	status := end.Header.Get("Status")
	if status == "404" && len(found) == 0 {
		return false, nil
	}
	if status != "204" {
		return false, statusError(status, end.Header.Get("Description"))
	}
	before := uint64(0)
	for _, msg := range found {
		if values := msg.Header[jetstream.LastSequenceHeader]; len(values) == 0 || values[len(values)-1] != strconv.FormatUint(before, 10) {
			return false, fmt.Errorf("%w: a part of a batch before message %d was lost", ErrUnavailable, msg.Sequence)
		}
		before = msg.Sequence
	}
	left, err1 := strconv.ParseUint(end.Header.Get("Nats-Num-Pending"), 10, 64)
	last, err2 := strconv.ParseUint(end.Header.Get(jetstream.LastSequenceHeader), 10, 64)
	if err := cmp.Or(err1, err2); err != nil || last != before {
		return false, fmt.Errorf("%w: a batch that ends with message %d, and %d came last (%v)", ErrUnavailable, last, before, err)
	}
	return left > 0, nil
}
