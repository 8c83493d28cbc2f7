package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

const (
	// patience bounds a request whose context has no deadline.
	patience = 5 * time.Second
	// absentPatience bounds how long a request is repeated that nobody listened to, as while a stream changes its leader.
	absentPatience = 1 * time.Second
	// maxSubjects is how many subjects the server answers in one multi_last read.
	maxSubjects = 1024
	// maxPipelined is how many reads by sequence are on their way at once.
	maxPipelined = 512
	// maxBatchBytes is how much the server sends for one request before it is asked to go on.
	maxBatchBytes = 8 << 20
)

// rawMsg is a stored message.
type rawMsg struct {
	Subject  string
	Sequence uint64
	Time     time.Time
	Header   nats.Header // with the Nats- headers of the read among them
	Data     []byte
}

// ack is JetStream's answer to a publish.
type ack struct {
	Stream    string
	Sequence  uint64
	Duplicate bool // Sequence is that of the first one
}

// publish stores a message and returns its place. The error wraps ErrConflict when an expectation in the header did not hold (the server's code
// is in *apiError), ErrTooLarge, or ErrUnavailable; only the last leaves open whether the message was stored.
func (s *Store) publish(ctx context.Context, subject string, header nats.Header, data []byte) (ack, error) {
	reply, err := s.request(ctx, &nats.Msg{Subject: subject, Header: header, Data: data})
	if err != nil {
		return ack{}, err
	}
	return readAck(reply)
}

// publishAll stores messages, all on their way at once, and waits for every acknowledgement. After an error some of them may be stored.
func (s *Store) publishAll(ctx context.Context, messages []*nats.Msg) error {
	var failure error
	left := len(messages)
	err := s.replies.gather(ctx, messages, func(_ int, m *nats.Msg) bool {
		_, failure = readAck(m)
		left--
		return failure != nil || left == 0
	})
	return cmp.Or(err, failure)
}

func readAck(reply *nats.Msg) (ack, error) {
	if a, ok := plainAck(reply.Data); ok {
		return a, nil
	}
	if status := reply.Header.Get("Status"); status != "" {
		return ack{}, statusError(status, reply.Header.Get("Description"))
	}
	var answer struct {
		Stream    string    `json:"stream"`
		Seq       uint64    `json:"seq"`
		Duplicate bool      `json:"duplicate"`
		Error     *apiError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return ack{}, fmt.Errorf("%w: an answer that is no acknowledgement: %w", ErrUnavailable, err)
	}
	if answer.Error != nil {
		return ack{}, answer.Error
	}
	if answer.Stream == "" || answer.Seq == 0 {
		return ack{}, fmt.Errorf("%w: an answer that is no acknowledgement", ErrUnavailable)
	}
	return ack{Stream: answer.Stream, Sequence: answer.Seq, Duplicate: answer.Duplicate}, nil
}

// plainAck reads an acknowledgement that says nothing but where a message is, in the forms in which servers write it: 2.15 without a space before seq, and
// earlier ones with it; behind the stream stands its domain, if it has one, and at the end that the message was there already.
func plainAck(data []byte) (a ack, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`))
	if !ok {
		return ack{}, false
	}
	stream, rest, ok := bytes.Cut(rest, []byte(`",`))
	if !ok || len(stream) == 0 || bytes.ContainsAny(stream, `"\`) {
		return ack{}, false
	}
	rest = bytes.TrimPrefix(rest, []byte(" "))
	if domain, found := bytes.CutPrefix(rest, []byte(`"domain":"`)); found {
		name, more, ended := bytes.Cut(domain, []byte(`",`))
		if !ended || bytes.ContainsAny(name, `"\`) {
			return ack{}, false
		}
		rest = bytes.TrimPrefix(more, []byte(" "))
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`"seq":`)); !ok {
		return ack{}, false
	}
	digits := 0
	for ; digits < len(rest) && digits < maxAckDigits && rest[digits] >= '0' && rest[digits] <= '9'; digits++ {
		a.Sequence = a.Sequence*10 + uint64(rest[digits]-'0')
	}
	if a.Sequence == 0 || rest[0] == '0' {
		return ack{}, false
	}
	switch string(rest[digits:]) {
	case "}":
	case `,"duplicate": true}`:
		a.Duplicate = true
	default:
		return ack{}, false
	}
	a.Stream = string(stream)
	return a, true
}

// maxAckDigits is how many digits a sequence has that is read without looking for an overflow; no stream gets there.
const maxAckDigits = 19

// newest returns the last message under a subject of a stream that may be read directly, or ErrNotFound. It sees every write that was acknowledged before.
func (s *Store) newest(ctx context.Context, stream, subject string) (*rawMsg, error) {
	if s.alone() {
		return s.lastDirect(ctx, stream, subject)
	}
	return s.lastFromLeader(ctx, stream, subject)
}

// alone reports whether a direct read sees every write that was acknowledged before, at half of what asking the leader costs: there is one copy, and the server at
// the other end is of no cluster, where an operator may have asked for more copies since this store was opened. A server joins a cluster only when it starts, and
// says so to all who connect again.
func (s *Store) alone() bool {
	return s.layout.Replicas == 1 && s.nc.IsConnected() && s.nc.ConnectedClusterName() == ""
}

// lastFromLeader returns the last message under a subject, or ErrNotFound. It sees every write that was acknowledged before.
func (s *Store) lastFromLeader(ctx context.Context, stream, subject string) (*rawMsg, error) {
	return s.readLeader(ctx, stream, readRequest{LastFor: subject})
}

// sequenceFromLeader returns the message with a stream sequence, or ErrNotFound when it was erased or never there.
func (s *Store) sequenceFromLeader(ctx context.Context, stream string, seq uint64) (*rawMsg, error) {
	return s.readLeader(ctx, stream, readRequest{Seq: seq})
}

// storedFromLeader returns the message with a stream sequence under which one was stored for certain, or ErrNotFound when it was erased. ErrUnavailable says
// that what takes itself for the leader has not come so far: it was cut off from the others and does not know yet that they have another one, or it was elected
// and has not read all that the last one had stored. Whoever took its word would take messages for erased that are there.
func (s *Store) storedFromLeader(ctx context.Context, stream string, seq uint64) (*rawMsg, error) {
	msg, err := s.readLeader(ctx, stream, readRequest{Seq: seq, NextFor: ">"})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("%w: the leader of %s has not come to message %d", ErrUnavailable, stream, seq)
	case err != nil:
		return nil, err
	case msg.Sequence != seq:
		return nil, ErrNotFound // what came later is there
	}
	return msg, nil
}

// readRequest is the body of a read of messages (ADR-31 of NATS).
type readRequest struct {
	Seq       uint64   `json:"seq,omitempty"`
	LastFor   string   `json:"last_by_subj,omitempty"`
	NextFor   string   `json:"next_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	UpTo      uint64   `json:"up_to_seq,omitempty"` // of a multi_last read: leave out what is newer
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
}

func (s *Store) readLeader(ctx context.Context, stream string, body readRequest) (*rawMsg, error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := s.askLeader(ctx, subjects.LeaderRead(stream), body, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	m := answer.Message
	if m == nil {
		return nil, fmt.Errorf("%w: an answer without a message", ErrUnavailable)
	}
	msg := &rawMsg{Subject: m.Subject, Sequence: m.Seq, Time: m.Time, Data: m.Data}
	if len(m.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return nil, fmt.Errorf("read the headers of message %d of %s: %w", m.Seq, stream, err)
		}
		msg.Header = header
	}
	return msg, nil
}

// lastDirect returns the last message under a subject from any replica, or ErrNotFound. At more than one replica it may be a moment old.
func (s *Store) lastDirect(ctx context.Context, stream, subject string) (*rawMsg, error) {
	reply, err := s.request(ctx, &nats.Msg{Subject: subjects.DirectReadLast(stream, subject)})
	if err != nil {
		return nil, err
	}
	return directMsg(reply)
}

// lastBefore returns the last message under a subject before a stream sequence, from any replica, or ErrNotFound.
func (s *Store) lastBefore(ctx context.Context, stream, subject string, seq uint64) (*rawMsg, error) {
	if seq <= 1 {
		return nil, ErrNotFound
	}
	request := readRequest{MultiLast: []string{subject}, UpTo: seq - 1}
	var found []*rawMsg
	err := untilHeard(ctx, func() error {
		part, end, err := s.readBatch(ctx, stream, request)
		if err == nil {
			found = part
			_, err = request.goOn(end, new(uint64))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what stands before message %d of %s: %w", seq, stream, err)
	}
	if len(found) != 1 {
		return nil, ErrNotFound
	}
	return found[0], nil
}

// erase overwrites a message with random bytes and removes it. It succeeds also when the message is gone already.
func (s *Store) erase(ctx context.Context, stream string, seq uint64) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := s.ask(ctx, subjects.EraseMessage(stream), readRequest{Seq: seq}, &answer); err != nil {
		return err
	}
	if answer.Error == nil || errors.Is(answer.Error, ErrNotFound) {
		return nil
	}
	// The server has more than one code for a message that is not there.
	if _, err := s.sequenceFromLeader(ctx, stream, seq); errors.Is(err, ErrNotFound) {
		return nil
	}
	return answer.Error
}

// keys returns, from the leader, the subjects under which a stream holds messages, in ascending order. It costs about two microseconds each.
func (s *Store) keys(ctx context.Context, stream, pattern string) ([]string, error) {
	var all []string
	for {
		var answer struct {
			Error *apiError `json:"error"`
			Total int       `json:"total"`
			State struct {
				Subjects subjectNames `json:"subjects"`
			} `json:"state"`
		}
		body := struct {
			Filter string `json:"subjects_filter"`
			Offset int    `json:"offset,omitempty"`
		}{pattern, len(all)}
		if err := s.ask(ctx, subjects.StreamInfo(stream), body, &answer); err != nil {
			return nil, err
		}
		if answer.Error != nil {
			return nil, answer.Error
		}
		all = append(all, answer.State.Subjects...)
		if len(answer.State.Subjects) == 0 || len(all) >= answer.Total {
			return all, nil
		}
	}
}

// lastSequence returns, from the leader, the last sequence of a stream.
func (s *Store) lastSequence(ctx context.Context, stream string) (uint64, error) {
	var answer struct {
		Error *apiError `json:"error"`
		State struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := s.ask(ctx, subjects.StreamInfo(stream), struct{}{}, &answer); err != nil {
		return 0, err
	}
	if answer.Error != nil {
		return 0, answer.Error
	}
	return answer.State.LastSeq, nil
}

// ask sends a JSON request to JetStream and reads the JSON answer.
func (s *Store) ask(ctx context.Context, subject string, body, answer any) error {
	return s.askWithin(ctx, subject, body, answer, patience)
}

// firstPatience is how long a read first waits for a leader's answer; the next try waits twice as long.
const firstPatience = time.Second

// askLeader is ask for a read, which is asked again where no answer comes: the leader may have gone with the question, and its successor be there long before the
// time of the call is over.
func (s *Store) askLeader(ctx context.Context, subject string, body, answer any) error {
	left := patience
	for within := firstPatience; ; within *= 2 {
		within = min(within, left)
		err := s.askWithin(ctx, subject, body, answer, within)
		if left -= within; !errors.Is(err, context.DeadlineExceeded) || left <= 0 || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Store) askWithin(ctx context.Context, subject string, body, answer any, within time.Duration) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	reply, err := s.requestWithin(ctx, &nats.Msg{Subject: subject, Data: data}, within)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("%w: an answer that is not JSON: %w", ErrUnavailable, err)
	}
	return nil
}

// request sends one request, which it owns, and waits for one answer.
func (s *Store) request(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	return s.requestWithin(ctx, msg, patience)
}

func (s *Store) requestWithin(ctx context.Context, msg *nats.Msg, within time.Duration) (*nats.Msg, error) {
	reply, err := s.replies.ask(ctx, msg, within)
	if errors.Is(err, nats.ErrNoResponders) {
		err = untilHeard(ctx, func() (err error) {
			reply, err = s.replies.ask(ctx, msg, within)
			return err
		})
	}
	if err != nil {
		return nil, natsError(err)
	}
	return reply, nil
}

// untilHeard repeats a try while nobody listens, which proves that nothing was delivered, for at most absentPatience: a stream that changes its
// leader, or a server that starts, is there again in a moment.
func untilHeard(ctx context.Context, try func() error) error {
	for began := time.Now(); ; {
		err := try()
		if !errors.Is(err, nats.ErrNoResponders) || time.Since(began) > absentPatience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20*time.Millisecond + rand.N(60*time.Millisecond)):
		}
	}
}

// natsError maps an error of the NATS connection to those of this package.
func natsError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// directMsg reads the answer to a direct read; the error wraps ErrNotFound, ErrTooMany or ErrUnavailable.
//
// The server adds its headers behind those that were stored, which may be an answer to a direct read themselves: the last ones count, and a status
// beside them was stored.
func directMsg(m *nats.Msg) (*rawMsg, error) {
	if isStatus(m) {
		return nil, statusError(m.Header.Get("Status"), m.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(added(m, "Nats-Sequence"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: an answer without a sequence", ErrUnavailable)
	}
	at, err := time.Parse(time.RFC3339Nano, added(m, "Nats-Time-Stamp"))
	if err != nil {
		return nil, fmt.Errorf("%w: an answer without a time", ErrUnavailable)
	}
	return &rawMsg{Subject: added(m, "Nats-Subject"), Sequence: seq, Time: at, Header: m.Header, Data: m.Data}, nil
}

// added returns a header that the server has added to a stored message.
func added(m *nats.Msg, name string) string {
	values := m.Header[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// isStatus reports whether the answer to a direct read is a status and no message.
func isStatus(m *nats.Msg) bool { return m.Header.Get("Status") != "" && added(m, "Nats-Stream") == "" }

func statusError(status, description string) error {
	switch status {
	case "404":
		return ErrNotFound
	case "413":
		return ErrTooMany
	case "503":
		return fmt.Errorf("%w: %w", ErrUnavailable, nats.ErrNoResponders)
	}
	return fmt.Errorf("%w: status %s: %s", ErrUnavailable, status, description)
}
