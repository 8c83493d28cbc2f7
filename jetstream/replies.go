package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// replies receives the answers of all requests over one subscription, so that a read of a hundred messages costs no subscription of its own, and a
// request no context, inbox and channel. The subscription's goroutine calls take under mu; whoever waits owns the result once it has removed its
// gathering under mu.
type replies struct {
	nc     *nats.Conn
	prefix string
	sub    *nats.Subscription
	spare  sync.Pool // of *single, with the timer stopped and nothing in the channel
	told   sync.Pool // of *gathering, with the timer stopped, for tell

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]*gathering
}

// gathering collects the answers to one set of requests. The server's answers are bounded by maxPipelined and maxBatchBytes.
type gathering struct {
	take func(index int, m *nats.Msg) (finished bool)
	done chan struct{} // closed when take has finished; nil where take tells of it itself

	land  func(*nats.Msg, error) // of tell, in place of take
	timer *time.Timer            // of tell
	id    uint64                 // of tell; guarded by mu
}

// single waits for one answer.
type single struct {
	gathering
	answer chan *nats.Msg // with room for one
	timer  *time.Timer
}

func newSingle() any {
	w := &single{answer: make(chan *nats.Msg, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	w.take = func(_ int, m *nats.Msg) bool {
		w.answer <- m // has room: it is taken out of waiting with the first answer
		return true
	}
	return w
}

func newReplies(nc *nats.Conn) (*replies, error) {
	r := &replies{nc: nc, prefix: nc.NewInbox() + ".", waiting: map[uint64]*gathering{}}
	r.spare.New = newSingle
	sub, err := nc.Subscribe(r.prefix+"*.*", r.receive)
	if err != nil {
		return nil, err
	}
	// Answers are kept, not processed, so the default of 64 MiB is never near; only the number of messages is lifted.
	if err := sub.SetPendingLimits(-1, 256<<20); err != nil {
		return nil, errors.Join(err, sub.Unsubscribe())
	}
	r.sub = sub
	return r, nil
}

// close ends the subscription; on a closed connection there is nothing left to end.
func (r *replies) close() { _ = r.sub.Unsubscribe() }

func (r *replies) receive(m *nats.Msg) {
	call, index, _ := strings.Cut(m.Subject[len(r.prefix):], ".")
	id, err := strconv.ParseUint(call, 36, 64)
	if err != nil {
		return
	}
	i, err := strconv.Atoi(index)
	if err != nil {
		return
	}
	if land := r.handOver(id, i, m); land != nil {
		land(m, nil)
	}
}

// handOver gives an answer to whoever waits for it, and returns what is to be called with it where nobody does.
func (r *replies) handOver(id uint64, i int, m *nats.Msg) (land func(*nats.Msg, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.waiting[id]
	switch {
	case g == nil:
	case g.land != nil:
		return r.tookLocked(g)
	case g.take(i, m):
		delete(r.waiting, id)
		if g.done != nil {
			close(g.done)
		}
	}
	return nil
}

// tookLocked ends a tell, and returns what is to be called with its outcome.
func (r *replies) tookLocked(g *gathering) (land func(*nats.Msg, error)) {
	delete(r.waiting, g.id)
	land, g.land = g.land, nil
	if g.timer.Stop() { // it will not look at this one any more
		r.told.Put(g)
	}
	return land
}

// tell sends a request and calls land once: with its one answer, or with why there is none, after the given time at the latest. land runs in the goroutine that all
// answers come through, so it must not wait. Where tell returns an error nothing was sent, and land is not called. It owns the request.
func (r *replies) tell(request *nats.Msg, most time.Duration, land func(*nats.Msg, error)) error {
	g, ok := r.told.Get().(*gathering)
	r.mu.Lock()
	if ok {
		g.timer.Reset(most)
	} else {
		g = &gathering{}
		g.timer = time.AfterFunc(most, func() { r.overdue(g) })
	}
	r.last++
	g.id, g.land = r.last, land
	r.waiting[g.id] = g
	request.Reply = r.prefix + strconv.FormatUint(g.id, 36) + ".0"
	id := g.id
	r.mu.Unlock()
	err := r.nc.PublishMsg(request)
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[id] != g {
		return nil // its time was over, and land knows
	}
	r.tookLocked(g)
	return err
}

// overdue ends a tell whose time is over.
func (r *replies) overdue(g *gathering) {
	r.mu.Lock()
	var land func(*nats.Msg, error)
	if r.waiting[g.id] == g {
		land = r.tookLocked(g)
	}
	r.mu.Unlock()
	if land != nil {
		land(nil, context.DeadlineExceeded)
	}
}

// firstLook is how long an answer is waited for before anybody looks whether the work is still wanted. What a context tells of its end with costs more than most
// answers take to come; its deadline is kept to from the beginning.
const firstLook = 100 * time.Millisecond

// ask sends a request and waits for its one answer until ctx ends, and at most for the given time. It owns the request. The error is nats.ErrNoResponders
// where nobody listened, so that nothing was delivered. Where ctx is cancelled before its deadline, ask may return up to firstLook later.
func (r *replies) ask(ctx context.Context, request *nats.Msg, most time.Duration) (*nats.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline))
	}
	w := r.spare.Get().(*single)
	id := r.begin(&w.gathering)
	request.Reply = r.prefix + strconv.FormatUint(id, 36) + ".0"
	err := r.nc.PublishMsg(request)
	var answer *nats.Msg
	if err == nil {
		answer, err = w.wait(ctx, most)
	}
	if answer == nil {
		r.forget(id)
		select { // what came before it was forgotten
		case <-w.answer:
		default:
		}
	}
	r.spare.Put(w)
	if err != nil {
		return nil, err
	}
	if len(answer.Data) == 0 && answer.Header.Get("Status") == "503" {
		return nil, nats.ErrNoResponders
	}
	return answer, nil
}

// wait returns the answer, or why there is none.
func (w *single) wait(ctx context.Context, most time.Duration) (*nats.Msg, error) {
	defer w.timer.Stop() // nothing comes out of it after this
	w.timer.Reset(min(most, firstLook))
	select {
	case answer := <-w.answer:
		return answer, nil
	case <-w.timer.C:
	}
	if most -= firstLook; most <= 0 {
		return nil, context.DeadlineExceeded
	}
	w.timer.Reset(most)
	select {
	case answer := <-w.answer:
		return answer, nil
	case <-w.timer.C:
		return nil, context.DeadlineExceeded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin makes a number for a request and who waits for its answers.
func (r *replies) begin(g *gathering) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	r.waiting[r.last] = g
	return r.last
}

// gather sends requests and calls take with every answer and the index of its request, until take reports that it has all. It owns the
// requests.
func (r *replies) gather(ctx context.Context, requests []*nats.Msg, take func(int, *nats.Msg) bool) error {
	return r.gatherWithin(ctx, patience, requests, take)
}

// gatherWithin is gather that waits at most for the given time.
func (r *replies) gatherWithin(ctx context.Context, most time.Duration, requests []*nats.Msg, take func(int, *nats.Msg) bool) error {
	if len(requests) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	g := &gathering{take: take, done: make(chan struct{})}
	id := r.begin(g)
	inbox := r.prefix + strconv.FormatUint(id, 36) + "."
	for i, request := range requests {
		request.Reply = inbox + strconv.Itoa(i)
		if err := r.nc.PublishMsg(request); err != nil {
			r.forget(id)
			return natsError(err)
		}
	}
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		r.forget(id)
		return natsError(ctx.Err())
	}
}

func (r *replies) forget(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// bySequences returns the messages with the given stream sequences, from any replica, in the order asked for; nil stands for one that is
// not there: erased, never stored, or at more than one replica not yet copied to the one that answered.
func (s *Store) bySequences(ctx context.Context, stream string, sequences []uint64) ([]*rawMsg, error) {
	found := make([]*rawMsg, len(sequences))
	for start := 0; start < len(sequences); start += maxPipelined {
		end := min(start+maxPipelined, len(sequences))
		err := untilHeard(ctx, func() error { return s.readWindow(ctx, stream, sequences[start:end], found[start:end]) })
		if err != nil {
			return nil, fmt.Errorf("read %d messages of %s: %w", end-start, stream, err)
		}
	}
	return found, nil
}

// readWindow reads into found, which is as long as sequences.
func (s *Store) readWindow(ctx context.Context, stream string, sequences []uint64, found []*rawMsg) error {
	requests := make([]*nats.Msg, len(sequences))
	for i, seq := range sequences {
		requests[i] = &nats.Msg{Subject: subjects.DirectRead(stream), Data: append(strconv.AppendUint([]byte(`{"seq":`), seq, 10), '}')}
	}
	var failure error
	missing := len(sequences)
	err := s.replies.gather(ctx, requests, func(i int, m *nats.Msg) bool {
		if i < 0 || i >= len(found) {
			return false
		}
		msg, err := directMsg(m)
		if err != nil && !errors.Is(err, ErrNotFound) {
			failure = err
			return true
		}
		found[i] = msg
		missing--
		return missing == 0
	})
	return cmp.Or(err, failure)
}

// multiLast returns the last message under each of the given subjects, from any replica, in ascending order of stream sequence; subjects
// without a message are left out. Many subjects are read in batches. A subject may be a pattern; ErrTooMany when one batch matches
// more than 1,024 messages.
func (s *Store) multiLast(ctx context.Context, stream string, names []string) ([]*rawMsg, error) {
	found, _, err := s.multiLastUpTo(ctx, stream, names)
	return found, err
}

// multiLastUpTo returns, beside what multiLast does, the last sequence of the stream that every answering replica had; 0 when nothing was found.
func (s *Store) multiLastUpTo(ctx context.Context, stream string, names []string) (found []*rawMsg, upTo uint64, err error) {
	return s.multiLastSince(ctx, stream, names, 0)
}

// multiLastSince is multiLastUpTo without the messages up to a sequence: 0 for upTo still means that there are none under any of the names.
func (s *Store) multiLastSince(ctx context.Context, stream string, names []string, since uint64) (found []*rawMsg, upTo uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	upTo = math.MaxUint64
	parts := 0
	for batch := range slices.Chunk(names, maxSubjects) {
		request := readRequest{Seq: after(since), MultiLast: batch, MaxBytes: maxBatchBytes}
		for more := true; more; {
			var part []*rawMsg
			err := untilHeard(ctx, func() (err error) {
				var end *nats.Msg
				if part, end, err = s.readBatch(ctx, stream, request); err == nil {
					more, err = request.goOn(end, &upTo)
				}
				return err
			})
			switch {
			case errors.Is(err, ErrNotFound):
				// With a part: one message vanished between the server's look-up and its read, so what came is not whole.
				more, upTo = len(part) > 0, 0
				continue
			case err != nil:
				return nil, 0, fmt.Errorf("read the last messages of %d subjects of %s: %w", len(batch), stream, err)
			}
			found = append(found, part...)
			parts++
		}
	}
	if parts > 1 {
		found = newest(found)
	}
	return found, upTo, nil
}

// after returns the sequence that a read behind one begins with; 0 = with the first.
func after(since uint64) uint64 {
	if since == 0 {
		return 0
	}
	return since + 1
}

// readBatch sends one request and returns the messages and the message without data that ends them.
func (s *Store) readBatch(ctx context.Context, stream string, request readRequest) (found []*rawMsg, end *nats.Msg, err error) {
	return s.readBatchWithin(ctx, patience, stream, request)
}

// readBatchWithin is readBatch that waits at most for the given time.
func (s *Store) readBatchWithin(ctx context.Context, most time.Duration, stream string, request readRequest) (found []*rawMsg, end *nats.Msg, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, nil, fmt.Errorf("write a request: %w", err)
	}
	err = s.replies.gatherWithin(ctx, most, []*nats.Msg{{Subject: subjects.DirectRead(stream), Data: body}}, func(_ int, m *nats.Msg) bool {
		if msg, err := directMsg(m); err == nil {
			found = append(found, msg)
			return false
		}
		end = m
		return true
	})
	return found, end, err
}

// goOn reads the end of a batch, lowers upTo to what the replica had and, where the server stopped at maxBatchBytes, sets the request to the rest
// of the batch. The rest is read as of now: what was overwritten in between comes again, with a higher sequence.
func (r *readRequest) goOn(end *nats.Msg, upTo *uint64) (more bool, err error) {
	header := end.Header
	if status := header.Get("Status"); status != "204" || header.Get("Description") != "EOB" {
		return false, statusError(status, header.Get("Description"))
	}
	last, err1 := strconv.ParseUint(header.Get("Nats-Last-Sequence"), 10, 64)
	had, err2 := strconv.ParseUint(header.Get("Nats-UpTo-Sequence"), 10, 64)
	if err := cmp.Or(err1, err2); err != nil {
		return false, fmt.Errorf("%w: the end of a batch without a sequence: %w", ErrUnavailable, err)
	}
	*upTo = min(*upTo, had)
	if pending := header.Get("Nats-Num-Pending"); pending == "" || pending == "0" {
		return false, nil
	}
	r.Seq = last + 1
	return true, nil
}

// newest drops messages that a newer one of the same subject follows, and sorts by sequence.
func newest(found []*rawMsg) []*rawMsg {
	last := make(map[string]*rawMsg, len(found))
	for _, msg := range found {
		if have := last[msg.Subject]; have == nil || have.Sequence < msg.Sequence {
			last[msg.Subject] = msg
		}
	}
	return slices.SortedFunc(maps.Values(last), func(a, b *rawMsg) int { return cmp.Compare(a.Sequence, b.Sequence) })
}

// subjectNames reads the keys of a JSON object and drops its values, in ascending order.
type subjectNames []string

// UnmarshalJSON collects the keys; the error is the decoder's.
func (n *subjectNames) UnmarshalJSON(data []byte) error {
	var counts map[string]json.RawMessage
	if err := json.Unmarshal(data, &counts); err != nil {
		return err
	}
	*n = (*n)[:0]
	for name := range counts {
		*n = append(*n, name)
	}
	slices.Sort(*n)
	return nil
}
