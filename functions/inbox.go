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
	waiting map[uint64]chan *nats.Msg
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
	b := &inbox{nc: nc, prefix: nc.NewInbox() + ".", waiting: map[uint64]chan *nats.Msg{}}
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
	b.mu.Lock()
	defer b.mu.Unlock()
	if ch, ok := b.waiting[n]; ok {
		delete(b.waiting, n)
		ch <- msg // has room: one message at most is sent to it
	}
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
	b.last++
	p.number = b.last
	b.waiting[p.number] = p.answer
	b.mu.Unlock()
	msg.Reply = b.prefix + strconv.FormatUint(p.number, 36)
	if err := b.nc.PublishMsg(msg); err != nil {
		b.forget(p)
		return pending{}, err
	}
	return p, nil
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
