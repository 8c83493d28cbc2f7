package functions

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Times of a feed.
const (
	pullTime      = 30 * time.Second       // how long the server keeps a request for messages that are not there
	pullHeartbeat = 5 * time.Second        // how often it says meanwhile that it has it; after two that are missed the request counts as lost
	pullRetry     = 250 * time.Millisecond // the wait after a request that was refused
	feedTick      = 250 * time.Millisecond // how often a feed looks after itself
	pingEvery     = wire.HandTime / 3      // how often the server hears that a message is still in hand
)

// feed pulls a function's entries and jobs from its durable consumers, which the deployer has made, and hands them to the pool. It asks for what the
// instance can work on: twice its concurrency in hand at most, half of it of one stream, and one message beside of every stream where nothing was.
//
// mu guards every field below it. The goroutine of tick pings, and repeats requests that were lost; the subscription's own goroutine receives.
type feed struct {
	in        *instance
	sub       *nats.Subscription
	prefix    string // of the reply subjects: then the number of the source and that of the request
	room      int    // messages in hand, or asked for beyond the first of each source
	share     int    // of one source
	ping      time.Duration
	connected chan nats.Status
	done      chan struct{}
	wg        sync.WaitGroup

	mu      sync.Mutex
	sources []*source
	turn    int // the source that is asked first next time
	hand    map[*delivery]struct{}
	asked   int  // sum over the sources of what is asked for beyond the first
	stalled int  // sources that the log was told of
	quiet   bool // nothing is asked for
	ended   bool // what comes goes back
}

// source is one stream.
type source struct {
	stream string
	pull   string
	number uint64    // of the newest request; answers to others are late
	open   int       // messages that it still waits for; 0 = there is no request
	ask    int       // how many to ask for the next time: it doubles while requests are filled, and is one where there was nothing
	hand   int       // messages in hand
	heard  time.Time // the newest sign of life of the request
	after  time.Time // no request before it
	failed time.Time // since when requests have been refused; zero = they are not
	told   bool      // the log knows of it
}

// newFeed subscribes; nothing comes before start.
func newFeed(in *instance) (*feed, error) {
	f := &feed{
		in: in, prefix: in.nc.NewInbox() + ".", room: 2 * in.opts.Concurrency, share: max(1, in.opts.Concurrency/2), ping: in.opts.ping,
		connected: in.nc.StatusChanged(nats.CONNECTED), done: make(chan struct{}), hand: map[*delivery]struct{}{},
	}
	if f.ping == 0 {
		f.ping = pingEvery
	}
	for _, stream := range in.function.sources() {
		f.sources = append(f.sources, &source{stream: stream, pull: subjects.PullNext(stream, in.function.Name), ask: 1})
	}
	var err error
	if f.sub, err = in.nc.Subscribe(f.prefix+">", f.receive); err != nil {
		in.nc.RemoveStatusListener(f.connected)
		return nil, fmt.Errorf("subscribe to entries and jobs: %w", err)
	}
	if err := f.sub.SetPendingLimits(-1, -1); err != nil { // what comes was asked for
		in.log.Warn("limits of a subscription", "err", err)
	}
	return f, nil
}

// start begins to ask. This and the methods below may be called on nil, the feed of a function that works on calls alone.
func (f *feed) start() {
	if f == nil {
		return
	}
	f.wg.Go(f.tick)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fill(time.Now())
}

// hush ends the asking. What was asked for goes on coming until unsubscribe.
func (f *feed) hush() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quiet = true
}

// unsubscribe lets the server forget the requests. What it sent before comes still.
func (f *feed) unsubscribe() {
	if f == nil {
		return
	}
	if !f.sub.IsValid() || f.sub.IsDraining() {
		return
	}
	if err := f.sub.Drain(); err != nil && !f.in.nc.IsClosed() {
		f.in.log.Warn("unsubscribe from entries and jobs", "err", err)
	}
}

// refuse gives back what comes from here on.
func (f *feed) refuse() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quiet, f.ended = true, true
}

// close ends the goroutine. Nothing may be in hand any more.
func (f *feed) close() {
	if f == nil {
		return
	}
	f.unsubscribe()
	f.in.nc.RemoveStatusListener(f.connected)
	close(f.done)
	f.wg.Wait()
}

func (f *feed) tick() {
	ticker := time.NewTicker(feedTick)
	defer ticker.Stop()
	pinged := time.Now()
	for {
		select {
		case <-f.done:
			return
		case <-f.connected:
			f.forget()
		case now := <-ticker.C:
			if now.Sub(pinged) >= f.ping {
				pinged = now
				f.pingAll(now)
			}
			f.mu.Lock()
			f.expire(now)
			f.fill(now)
			f.mu.Unlock()
		}
	}
}

// forget asks anew after the connection was lost, and with it the requests.
func (f *feed) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sources {
		f.settle(s)
		s.after = time.Time{}
	}
	f.fill(time.Now())
}

// expire gives up requests of which nothing was heard. mu is held.
func (f *feed) expire(now time.Time) {
	for _, s := range f.sources {
		if s.open > 0 && now.Sub(s.heard) > 2*pullHeartbeat+pullRetry {
			f.settle(s)
		}
	}
}

// settle ends a source's request. mu is held.
func (f *feed) settle(s *source) {
	f.asked -= max(0, s.open-1)
	s.open = 0
	s.number++
}

// fill asks every source that has no request, as far as there is room. mu is held.
func (f *feed) fill(now time.Time) {
	for i := range f.sources {
		if f.quiet {
			return
		}
		at := (f.turn + i) % len(f.sources)
		s := f.sources[at]
		if s.open > 0 || now.Before(s.after) {
			continue
		}
		n := min(s.ask, f.share-s.hand, f.room-len(f.hand)-f.asked)
		if n < (s.ask+1)/2 { // a request for each that is finished would cost more than it brings
			continue
		}
		f.request(at, s, n, now)
		if n > 1 {
			f.turn = at + 1
		}
	}
}

// request asks the server for n messages: for one that may come later, or for those of several that are there. Several are never waited for: the room that they
// need would be kept from streams that have something. mu is held.
func (f *feed) request(at int, s *source, n int, now time.Time) {
	s.number++
	ask := pullRequest{Batch: n, NoWait: true}
	if n == 1 {
		ask = pullRequest{Batch: n, Expires: pullTime, Heartbeat: pullHeartbeat}
	}
	body, _ := json.Marshal(ask) // numbers always encode
	reply := f.prefix + strconv.Itoa(at) + "." + strconv.FormatUint(s.number, 10)
	if err := f.in.nc.PublishRequest(s.pull, reply, body); err != nil {
		s.after = now.Add(pullRetry) // the connection is down; its return asks again
		return
	}
	s.open, s.heard = n, now
	f.asked += n - 1
}

// pullRequest is what JetStream takes as a request for messages; times are in nanoseconds.
type pullRequest struct {
	Batch     int           `json:"batch"`
	NoWait    bool          `json:"no_wait,omitempty"`
	Expires   time.Duration `json:"expires,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// receive runs in the subscription's goroutine.
func (f *feed) receive(msg *nats.Msg) {
	delivered, ok := subjects.ParseDelivery(msg.Reply)
	if !ok {
		f.status(msg)
		return
	}
	d := &delivery{feed: f, msg: msg, Delivery: delivered, came: time.Now()}
	task, lane := d.prepare()
	f.mu.Lock()
	for _, s := range f.sources {
		if s.stream == d.Stream {
			d.source = s
		}
	}
	if d.source == nil || f.ended {
		f.mu.Unlock()
		d.tell(ackAgain)
		return
	}
	f.arrived(d, task != nil)
	f.mu.Unlock()
	if task == nil {
		d.ack()
		return
	}
	f.in.activity.begin()
	f.in.pool.put(lane, taskFunc(func() {
		defer f.finished(d)
		task()
	}))
}

// arrived counts a message. mu is held.
func (f *feed) arrived(d *delivery, work bool) {
	s := d.source
	s.heard = d.came
	f.served(s)
	if work {
		s.hand++
		f.hand[d] = struct{}{}
	}
	if s.open > 1 {
		f.asked--
	}
	s.open = max(0, s.open-1)
	if s.open == 0 {
		s.ask = min(2*s.ask, f.share)
		f.fill(d.came)
	}
}

// finished makes room for the next.
func (f *feed) finished(d *delivery) {
	f.in.activity.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hand, d)
	d.source.hand--
	f.fill(time.Now())
}

// status reads what the server says of a request instead of a message: that it lives, has come to its end, or cannot be served.
func (f *feed) status(msg *nats.Msg) {
	at, number, ok := strings.Cut(strings.TrimPrefix(msg.Subject, f.prefix), ".")
	i, err := strconv.Atoi(at)
	n, err2 := strconv.ParseUint(number, 10, 64)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !ok || err != nil || err2 != nil || i < 0 || i >= len(f.sources) || f.sources[i].number != n {
		return // of a request that counts as lost
	}
	s, now := f.sources[i], time.Now()
	s.heard = now
	status := first(msg.Header, "Status")
	if status == "100" { // it waits with us
		f.served(s)
		return
	}
	f.settle(s)
	s.ask = 1
	if status == "404" || status == "408" { // its time is over, or there is nothing
		f.served(s)
	} else {
		s.after = now.Add(pullRetry)
		f.refused(s, status+" "+first(msg.Header, "Description"), now)
	}
	f.fill(now)
}

// served notes that a source gives, or has nothing. mu is held.
func (f *feed) served(s *source) {
	s.failed = time.Time{}
	if !s.told {
		return
	}
	s.told = false
	if f.stalled--; f.stalled == 0 && f.in.opts.Stalled != nil {
		f.in.opts.Stalled("")
	}
}

// refused tells the log, and whoever asked for it, of a source that gives nothing, once, and not at once: a server that starts, a leader that changes and a
// consumer that is made anew look the same for a moment. mu is held.
func (f *feed) refused(s *source, why string, now time.Time) {
	if s.failed.IsZero() {
		s.failed = now
	}
	if !s.told && now.Sub(s.failed) > pullHeartbeat {
		s.told = true
		f.stalled++
		f.in.log.Error("entries or jobs cannot be had; are the consumers declared?", "stream", s.stream, "err", why)
		if f.in.opts.Stalled != nil {
			f.in.opts.Stalled("nothing can be had from " + s.stream + ": " + why)
		}
	}
}

// pingAll tells the server that what has been in hand for a while still is.
func (f *feed) pingAll(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d := range f.hand {
		if now.Sub(d.came) >= f.ping {
			d.tell(ackProgress)
		}
	}
}
