package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// How many messages of a lane are remembered that are on their way to the other socket: at first, and at most before the oldest is forgotten.
const (
	fewUnderWay = 8
	underWay    = 512
)

// mail posts on lanes, one a conversation with one who posts in it, and follows every message to the sockets of those who should get it.
type mail struct {
	lanes []*lane
	run   uint32 // in client ids, so that those of another mail are not taken for this one's
	text  string
	begun time.Time

	phase   atomic.Pointer[phase]
	repeats atomic.Uint64
}

// phase is what is measured at the moment: deliveries of messages that were due from a time on.
type phase struct {
	from    time.Duration // since the mail began
	latency *Histogram
}

// lane is one who posts in one conversation.
type lane struct {
	from         *socket
	conversation subjects.Conversation
	receivers    int32 // sockets that get what is posted

	mu     sync.Mutex // guards what follows
	next   uint32
	sent   []letter // a place for each number, by its remainder
	wholes []func() // as many, or none

	forgotten uint64 // deliveries that had not come when as many messages as a lane remembers followed
}

// letter is one message on its way. It holds no pointer, for there are many and the collector of garbage would look at each.
type letter struct {
	due    time.Duration // since the mail began
	number uint32        // from 1 on; 0 = the place was never used
	left   int32         // receivers that do not have it yet; 0 = done
	acked  bool
}

// done reports whether nothing more is to come of a letter.
func (l *letter) done() bool { return l.number == 0 || l.acked && l.left == 0 }

func newMail(r *run) *mail {
	return &mail{run: r.random.Uint32() >> 2, text: strings.Repeat("x", r.config.Bytes), begun: time.Now()}
}

// add adds a lane and returns its number.
func (m *mail) add(from *socket, conversation subjects.Conversation, receivers int) int {
	m.lanes = append(m.lanes, &lane{from: from, conversation: conversation, receivers: int32(receivers), sent: make([]letter, fewUnderWay)})
	return len(m.lanes) - 1
}

// begin begins a phase, in which deliveries of messages that are due from now plus warm on are recorded.
func (m *mail) begin(warm time.Duration) *phase {
	p := &phase{from: time.Since(m.begun) + warm, latency: &Histogram{}}
	m.phase.Store(p)
	return p
}

// post is the operation of a load: it is done when the message is acknowledged.
func (m *mail) post(lane int, due time.Time, done func(error)) { m.send(lane, due, done, nil) }

// send posts and calls done when the post is answered, and whole when everybody has the message besides.
func (m *mail) send(number int, due time.Time, done func(error), whole func()) {
	m.deliver(number, m.lanes[number].enter(due.Sub(m.begun), whole), due, done)
}

// buffers hold the data of calls while they are made.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Repeats of messages of which nobody knows whether they were stored, as the protocol asks of clients: with the same client id.
const (
	repeatAfter  = 200 * time.Millisecond
	repeatWithin = time.Minute // of when the message was due
)

// deliver makes the call of a message, and again while its outcome is unknown.
func (m *mail) deliver(number int, count uint32, due time.Time, done func(error)) {
	l := m.lanes[number]
	buffer := buffers.Get().(*[]byte)
	data := append(append((*buffer)[:0], `{"conversation":"`...), l.conversation...)
	data = appendClientID(append(data, `","client_id":"`...), due, m.run, uint32(number), count)
	data = append(append(append(data, `","body":{"text":"`...), m.text...), `"}}`...)
	err := l.from.call("send.post", data, func(_ []byte, err error) {
		if unknown(err) && time.Since(due) < repeatWithin {
			m.repeats.Add(1)
			time.AfterFunc(repeatAfter, func() { m.deliver(number, count, due, done) })
			return
		}
		if err == nil {
			m.acknowledged(l, count)
		}
		done(err)
	})
	*buffer = data
	buffers.Put(buffer)
	if err != nil {
		done(err)
	}
}

// enter notes a message that is about to leave and returns its number.
func (l *lane) enter(due time.Duration, whole func()) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	for !l.place(l.next).done() && len(l.sent) < underWay {
		l.grow()
	}
	slot := l.place(l.next)
	if slot.acked {
		l.forgotten += uint64(slot.left)
	}
	*slot = letter{number: l.next, due: due, left: l.receivers}
	if whole != nil && l.wholes == nil {
		l.wholes = make([]func(), len(l.sent))
	}
	if l.wholes != nil {
		l.wholes[l.next%uint32(len(l.wholes))] = whole
	}
	return l.next
}

// place returns where a number is noted, or was.
func (l *lane) place(number uint32) *letter { return &l.sent[number%uint32(len(l.sent))] }

// grow doubles the places; letters that did not meet do not meet in twice as many.
func (l *lane) grow() {
	sent, wholes := l.sent, l.wholes
	l.sent = make([]letter, 2*len(sent))
	if wholes != nil {
		l.wholes = make([]func(), len(l.sent))
	}
	for i, letter := range sent {
		if letter.done() {
			continue
		}
		*l.place(letter.number) = letter
		if wholes != nil {
			l.wholes[letter.number%uint32(len(l.wholes))] = wholes[i]
		}
	}
}

// whole returns what is called for a letter that everybody has; nil = nothing.
func (l *lane) whole(letter *letter) func() {
	if l.wholes == nil || letter.left > 0 || !letter.acked {
		return nil
	}
	return l.wholes[letter.number%uint32(len(l.wholes))]
}

func (m *mail) acknowledged(l *lane, count uint32) {
	l.mu.Lock()
	slot := l.place(count)
	var whole func()
	if slot.number == count {
		slot.acked = true
		whole = l.whole(slot)
	}
	l.mu.Unlock()
	if whole != nil {
		whole()
	}
}

// receive takes in an entry that a socket got which is one of the receivers of its message.
func (m *mail) receive(number int, count uint32) {
	now := time.Since(m.begun)
	l := m.lanes[number]
	l.mu.Lock()
	slot := l.place(count)
	if slot.number != count || slot.left == 0 {
		l.mu.Unlock()
		return // it came twice, or was forgotten
	}
	slot.left--
	due, whole := slot.due, l.whole(slot)
	l.mu.Unlock()
	if p := m.phase.Load(); p != nil && due >= p.from {
		p.latency.Record(now - due)
	}
	if whole != nil {
		whole()
	}
}

// lane returns which lane an entry is of and its number there.
func (m *mail) lane(entry []byte) (lane int, count uint32, ok bool) {
	number, count, ok := splitClientID(entry, m.run)
	return int(number), count, ok && int(number) < len(m.lanes)
}

// arriveWithin bounds the way of an acknowledged message to a socket that is there: an edge looks for what it missed every two seconds.
const arriveWithin = 30 * time.Second

// tell says what became of the messages, at the end of a scenario.
func (m *mail) tell(ctx context.Context, r *ScenarioReport) {
	r.Lost += m.missing(ctx, arriveWithin)
	if n := m.repeats.Load(); n > 0 {
		r.note("%d messages were sent again, since the answer left open whether they were stored; that counts as latency.", n)
	}
}

// missing waits until everything that was acknowledged has arrived everywhere, at most within a time, and returns how many deliveries have not come.
func (m *mail) missing(ctx context.Context, within time.Duration) uint64 {
	end := time.Now().Add(within)
	for {
		var left uint64
		for _, l := range m.lanes {
			l.mu.Lock()
			left += l.forgotten
			for i := range l.sent {
				if l.sent[i].acked {
					left += uint64(l.sent[i].left)
				}
			}
			l.mu.Unlock()
		}
		if left == 0 || time.Now().After(end) || ctx.Err() != nil {
			return left
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// appendClientID appends a UUIDv7 of a time whose random part says which message it is: the run, the lane and the number. Its time is what a server judges it by.
func appendClientID(dst []byte, at time.Time, run, lane, count uint32) []byte {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|uint64(lane>>20))
	binary.BigEndian.PutUint64(id[8:], 1<<63|uint64(run&(1<<18-1))<<44|uint64(lane&(1<<20-1))<<24|uint64(count&(1<<24-1)))
	var text [32]byte
	hex.Encode(text[:], id[:])
	for i, part := range [...][2]int{{0, 8}, {8, 12}, {12, 16}, {16, 20}, {20, 32}} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = append(dst, text[part[0]:part[1]]...)
	}
	return dst
}

var clientIDKey = []byte(`"client_id":"`)

// splitClientID finds the client id of an entry and says which message of a run it is.
func splitClientID(entry []byte, run uint32) (lane, count uint32, ok bool) {
	_, rest, ok := bytes.Cut(entry, clientIDKey)
	if !ok || len(rest) < 37 || rest[36] != '"' || rest[8] != '-' || rest[23] != '-' {
		return 0, 0, false
	}
	var text [16]byte
	copy(text[:], rest[19:23])
	copy(text[4:], rest[24:36])
	var id [8]byte
	if _, err := hex.Decode(id[:], text[:]); err != nil {
		return 0, 0, false
	}
	v := binary.BigEndian.Uint64(id[:])
	if v>>62 != 2 || uint32(v>>44)&(1<<18-1) != run&(1<<18-1) {
		return 0, 0, false
	}
	return uint32(v>>24) & (1<<20 - 1), uint32(v) & (1<<24 - 1), true
}

// entryOnly returns what a socket hears with when entries alone are of interest.
func entryOnly(entry func(data []byte)) func(wire.Event, []byte) {
	return func(event wire.Event, data []byte) {
		if event == wire.EventEntry {
			entry(data)
		}
	}
}
