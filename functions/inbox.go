package functions

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// errTryOver is returned by await when the try's own time was over before ctx ended.
var errTryOver = errors.New("no answer within the time of the try")

// inbox gets the answers to a Caller's calls on one subscription. Unlike the client library's own, it goes on waiting when something comes
// that is no function's answer: the acknowledgement of a stream that captures the subject, or the echo of a subscriber that should not be there.
type inbox struct {
	nc     *nats.Conn
	prefix string // ends in a dot; a number follows
	sub    *nats.Subscription
	spare  sync.Pool // of *slot, empty and with the timer stopped

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]waiting
}

// waiting is where the answer to a call goes: the channel of a slot, or a flight.
type waiting struct {
	answer chan *nats.Msg
	flight *Flight
}

// slot is where one call waits for its answer.
type slot struct {
	answer chan *nats.Msg // with room for one
	timer  *time.Timer
}

func newSlot() any {
	s := &slot{make(chan *nats.Msg, 1), time.NewTimer(time.Hour)}
	s.timer.Stop()
	return s
}

func newInbox(nc *nats.Conn) (*inbox, error) {
	b := &inbox{nc: nc, prefix: nc.NewInbox() + ".", waiting: map[uint64]waiting{}}
	b.spare.New = newSlot
	var err error
	b.sub, err = nc.Subscribe(b.prefix+"*", b.deliver)
	return b, err
}

func (b *inbox) close() { _ = b.sub.Unsubscribe() } // fails only where the connection has forgotten it already

// deliver hands an answer to the call that waits for it, and forgets the call.
func (b *inbox) deliver(msg *nats.Msg) {
	if !isAnswer(msg) && !isNoResponders(msg) {
		return
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(msg.Subject, b.prefix), 36, 64)
	if err != nil {
		return
	}
	if f := b.take(n, msg); f != nil {
		f.land(msg, nil)
	}
}

// take forgets a call, whose answer, if there is one, goes into the channel of its slot. It returns its flight, if it has one that is still in the air.
func (b *inbox) take(n uint64, answer *nats.Msg) *Flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.waiting[n]
	delete(b.waiting, n)
	if w.answer != nil && answer != nil {
		w.answer <- answer // has room: one message at most is sent to it
	}
	return w.flight
}

// pending is a call that was published. Whoever began it must await it.
type pending struct {
	number uint64
	*slot
}

// begin publishes msg. It does not wait for the answer, and an error says that nothing was sent.
func (b *inbox) begin(msg *nats.Msg) (pending, error) {
	p := pending{slot: b.spare.Get().(*slot)}
	b.mu.Lock()
	p.number = b.addLocked(waiting{answer: p.answer})
	b.mu.Unlock()
	if err := b.publish(msg, p.number); err != nil {
		b.forget(p)
		return pending{}, err
	}
	return p, nil
}

// launch prepares a flight that is to be published, for as long as it may take.
func (b *inbox) launch(f *Flight, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.number = b.addLocked(waiting{flight: f})
	f.timer = time.AfterFunc(left, func() { f.end(f.late) })
}

// addLocked makes a number for a call.
func (b *inbox) addLocked(w waiting) uint64 {
	b.last++
	b.waiting[b.last] = w
	return b.last
}

func (b *inbox) publish(msg *nats.Msg, number uint64) error {
	msg.Reply = b.prefix + strconv.FormatUint(number, 36)
	return b.nc.PublishMsg(msg)
}

// await waits for the answer to a call until ctx ends or a deadline, and at most for try.
func (b *inbox) await(ctx context.Context, p pending, try time.Duration, deadline time.Time) (*nats.Msg, error) {
	defer b.forget(p)
	left, late := time.Until(deadline), context.DeadlineExceeded
	if left > try {
		left, late = try, errTryOver
	}
	p.timer.Reset(left)
	select {
	case answer := <-p.answer:
		if isNoResponders(answer) {
			return nil, nats.ErrNoResponders
		}
		return answer, nil
	case <-p.timer.C:
		return nil, late
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// forget gives the slot back, empty. After the number is gone from the map nobody sends to it.
func (b *inbox) forget(p pending) {
	b.mu.Lock()
	delete(b.waiting, p.number)
	b.mu.Unlock()
	p.timer.Stop() // nothing comes out of it after this
	select {
	case <-p.answer:
	default:
	}
	b.spare.Put(p.slot)
}

func isAnswer(msg *nats.Msg) bool { return first(msg.Header, subjects.HeaderReply) != "" }

// isNoResponders recognises the server's notice that nobody subscribes to the subject.
func isNoResponders(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && first(msg.Header, "Status") == "503"
}
