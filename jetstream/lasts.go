package jetstream

import (
	"context"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// lastsRead is a read of the last messages of conversations of one partition.
type lastsRead struct {
	partition     int
	conversations []subjects.Conversation
	since         uint64    // only what came behind this sequence; 0 = all
	found         []*rawMsg // without times
	upTo          uint64    // the last sequence that the answering replica had; 0 = there is nothing under any of the names
	err           error
}

// lasts does reads, all at once, from any replica. It waits for all, whether or not some fail.
func (s *Store) lasts(ctx context.Context, reads []*lastsRead) {
	var (
		requests = make([]*nats.Msg, len(reads))
		found    = make([][]*nats.Msg, len(reads))
		ends     = make([]*nats.Msg, len(reads))
		left     = len(reads)
	)
	for i, read := range reads {
		requests[i] = &nats.Msg{Subject: subjects.DirectRead(subjects.MessagesStream(read.partition)), Data: read.request()}
		found[i] = make([]*nats.Msg, 0, len(read.conversations))
	}
	err := s.replies.gather(ctx, requests, func(i int, m *nats.Msg) bool {
		switch {
		case i < 0 || i >= len(reads) || ends[i] != nil:
		case !isStatus(m):
			found[i] = append(found[i], m)
		default:
			ends[i] = m
			left--
		}
		return left == 0
	})
	var rest sync.WaitGroup
	for i, read := range reads {
		if ends[i] == nil {
			read.err = err
		} else if !read.ended(found[i], ends[i]) {
			rest.Go(func() { s.readLasts(ctx, read) })
		}
	}
	rest.Wait()
}

// request returns the body of the request for the first maxSubjects of the conversations.
func (r *lastsRead) request() []byte {
	names := r.conversations[:min(len(r.conversations), maxSubjects)]
	data := make([]byte, 0, 64+48*len(names))
	if r.since > 0 {
		data = append(strconv.AppendUint(append(data, `{"seq":`...), r.since+1, 10), `,"multi_last":[`...)
	} else {
		data = append(data, `{"multi_last":[`...)
	}
	for i, c := range names {
		if i > 0 {
			data = append(data, ',')
		}
		data = append(append(append(data, '"'), subjects.Message(c)...), '"')
	}
	data = strconv.AppendUint(append(data, `],"max_bytes":`...), maxBatchBytes, 10)
	return append(data, '}')
}

// ended takes an answer, and reports whether that is all of it.
func (r *lastsRead) ended(found []*nats.Msg, end *nats.Msg) bool {
	if len(r.conversations) > maxSubjects {
		return false
	}
	if end.Header.Get("Status") == "404" && end.Header.Get("Description") == "No Results" {
		return true
	}
	upTo := uint64(math.MaxUint64)
	more, err := new(readRequest).goOn(end, &upTo)
	if err != nil || more {
		return false
	}
	r.found = slices.Grow(r.found, len(found))
	for _, m := range found {
		seq, err := strconv.ParseUint(added(m, "Nats-Sequence"), 10, 64)
		if err != nil {
			return false
		}
		r.found = append(r.found, &rawMsg{Subject: added(m, "Nats-Subject"), Sequence: seq, Header: m.Header, Data: m.Data})
	}
	r.upTo = upTo
	return true
}

// readLasts does a read anew that takes more than one request: nobody listened for a moment, or there is more than one answer brings.
func (s *Store) readLasts(ctx context.Context, r *lastsRead) {
	names := make([]string, len(r.conversations))
	for i, c := range r.conversations {
		names[i] = subjects.Message(c)
	}
	r.found, r.upTo, r.err = s.multiLastSince(ctx, subjects.MessagesStream(r.partition), names, r.since)
}
