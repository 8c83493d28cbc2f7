package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// What is told about a message in hand.
const (
	ackDone     = "+ACK"
	ackAgain    = "-NAK"
	ackProgress = "+WPI"
	ackGivenUp  = "+TERM"
)

// Waits of a delivery.
const (
	staleAfter    = time.Second      // after so long in a queue it is looked whether an entry is still there
	storeTimeout  = 5 * time.Second  // for one answer of the store
	deadRetry     = 10 * time.Second // until the next try to leave a dead letter
	maxDeadReason = 512              // bytes of an error's text that a dead letter keeps
)

// delivery is one entry or job in an instance's hand.
type delivery struct {
	subjects.Delivery
	feed   *feed
	source *source
	msg    *nats.Msg
	came   time.Time
}

// prepare returns what is to be done in a worker and in which lane; nil for what the function does not want.
func (d *delivery) prepare() (task func(), lane string) {
	if d.Stream == subjects.StreamJobs {
		return d.prepareJob()
	}
	in := d.feed.in
	header, err := wire.ParseEntryHeader(first(d.msg.Header, subjects.HeaderEntry))
	if err != nil {
		in.log.Warn("passed over what is no entry", "stream", d.Stream, "sequence", d.Sequence, "err", err)
		return nil, ""
	}
	if !slices.Contains(in.function.Events.Kinds, header.Kind) {
		return nil, ""
	}
	conversation, err := subjects.ParseMessage(d.msg.Subject)
	if err != nil {
		in.log.Warn("passed over what is no entry", "stream", d.Stream, "sequence", d.Sequence, "err", err)
		return nil, ""
	}
	return func() { d.workEntry() }, laneOfEntry(conversation)
}

// laneOfEntry is not the lane of calls in the conversation: a slow handler of entries must not hold up those.
func laneOfEntry(c subjects.Conversation) string { return "entry " + string(c) }

func (d *delivery) workEntry() {
	if time.Since(d.came) > staleAfter {
		if _, err := d.feed.in.readEntry(d.Stream, d.Sequence); errors.Is(err, errErased) {
			d.ack()
			return
		}
	}
	d.handEntry(d.msg.Data, &wire.DeadLetter{})
}

// handEntry gives an entry to the handler, and the message its end.
func (d *delivery) handEntry(data []byte, letter *wire.DeadLetter) {
	entry := &wire.Entry{}
	if err := json.Unmarshal(data, entry); err != nil {
		d.settle(fmt.Errorf("read an entry: %w (%w)", wire.Errorf(wire.BadData, "The entry cannot be read."), err), letter)
		return
	}
	// What is given up may be recalled later, and then nothing of what it said may be left anywhere.
	head := *entry
	head.Body = nil
	letter.Entry = &head
	call := &Call{
		Function: d.feed.in.function.Name, Method: wire.MethodEntry, Data: data, Attempt: d.Tries, Job: subjects.JobID(first(d.msg.Header, subjects.HeaderJob)), decoded: entry,
	}
	d.settle(d.attempt(call), letter)
}

// errErased says that an entry is not in its stream any more.
var errErased = errors.New("erased")

// readEntry reads an entry from its stream. The error is errErased, or says that nobody answered.
func (in *instance) readEntry(stream string, sequence uint64) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(in.base, storeTimeout)
	defer cancel()
	reply, err := in.nc.RequestWithContext(ctx, subjects.DirectRead(stream), []byte(`{"seq":`+strconv.FormatUint(sequence, 10)+`}`))
	if err != nil {
		return nil, fmt.Errorf("read entry %d of %s: %w", sequence, stream, err)
	}
	switch status := first(reply.Header, "Status"); status {
	case "":
		return reply, nil
	case "404":
		return nil, errErased
	default:
		return nil, fmt.Errorf("read entry %d of %s: status %s", sequence, stream, status)
	}
}

// attempt asks the handler, as an endpoint does for a call. An entry that was handed over very often and has neither succeeded nor failed is not tried any more: it may
// be what ends the instances.
func (d *delivery) attempt(call *Call) error {
	in := d.feed.in
	if d.Tries > 2*in.function.Retry.attempts() {
		return fmt.Errorf("it was handed over %d times, and no instance came to an end with it: %w", d.Tries-1, errNeverFinished)
	}
	if err := in.base.Err(); err != nil {
		return err // the drain's time was over before its turn came
	}
	e := in.endpoints[call.Method]
	ctx := WithTrace(context.WithValue(in.base, callKey{}, call), d.trace())
	ctx, cancel := context.WithTimeout(ctx, e.method.timeout())
	defer cancel()
	began := time.Now()
	_, err := e.run(ctx, call, e.handler, nil)
	e.counters.latency.add(time.Since(began))
	e.counters.processed.Add(1)
	if err != nil {
		e.counters.failed.Add(1)
	}
	return err
}

func (d *delivery) trace() Trace {
	if trace, ok := ParseTraceparent(first(d.msg.Header, subjects.HeaderTraceparent)); ok {
		return trace.Child()
	}
	return NewTrace()
}

var errNeverFinished = errors.New("given up")

// settle tells the server what became of the message.
func (d *delivery) settle(err error, letter *wire.DeadLetter) {
	in := d.feed.in
	log := in.log.With("stream", d.Stream, "sequence", d.Sequence, "attempt", d.Tries)
	if letter.Entry != nil {
		log = log.With("conv", string(letter.Entry.Conversation), "seq", uint64(letter.Entry.Seq))
	}
	switch {
	case err == nil:
		log.Debug("work done")
		d.ack()
	case in.base.Err() != nil:
		d.tell(ackAgain) // the drain's time is over: another instance has it at once
	case d.Tries < in.function.Retry.attempts() && !permanent(err):
		wait := in.function.Retry.wait(d.Tries, err)
		log.Warn("work failed and is tried again", "after", wait, "err", err)
		d.retry(wait)
	default:
		d.bury(log, err, letter)
	}
}

// permanent reports whether an error says that a repeat would fail too.
func permanent(err error) bool {
	if errors.Is(err, errNeverFinished) {
		return true
	}
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Code.Known() && !e.Code.Info().Unknown && e.Code != wire.RateLimited
}

// bury leaves a dead letter, and only when that is stored lets go of the message.
func (d *delivery) bury(log *slog.Logger, err error, letter *wire.DeadLetter) {
	in := d.feed.in
	letter.Function, letter.Stream, letter.Sequence = in.function.Name, d.Stream, d.Sequence
	letter.Attempts, letter.At = d.Tries, wire.At(in.env.Now())
	letter.Code, letter.Message = wire.Internal, err.Error()
	if e, ok := errors.AsType[*wire.Error](err); ok && e.Code.Known() {
		letter.Code = e.Code
		if error(e) == err {
			letter.Message = e.Message
		}
	} else if errors.Is(err, context.DeadlineExceeded) {
		letter.Code = wire.Timeout
	}
	letter.Message = letter.Message[:min(len(letter.Message), maxDeadReason)]
	body, encodeErr := wire.Marshal(letter)
	if encodeErr == nil {
		// Without an id for the stream to recognise a repeat: a letter more does no harm, and one that was forgotten may have to be left again.
		encodeErr = storeMsg(in.base, in.nc, &nats.Msg{Subject: subjects.Dead(in.function.Name), Data: body})
	}
	if encodeErr != nil {
		log.Warn("dead letter not stored; the work stays", "err", encodeErr)
		d.retry(deadRetry)
		return
	}
	log.Error("work given up; it is a dead letter now", "code", string(letter.Code), "err", err)
	d.confirm(ackGivenUp + " " + string(letter.Code))
}

// ack ends the message. For an entry it is not confirmed: if it is lost the entry comes again, which authors must expect anyway.
func (d *delivery) ack() {
	if d.Stream == subjects.StreamJobs {
		d.confirm(ackDone)
		return
	}
	d.tell(ackDone)
}

func (d *delivery) retry(wait time.Duration) {
	d.tell(ackAgain + ` {"delay":` + strconv.FormatInt(int64(wait), 10) + `}`)
}

// tell does not wait for the server.
func (d *delivery) tell(what string) {
	if err := d.feed.in.nc.Publish(d.msg.Reply, []byte(what)); err != nil {
		d.feed.in.log.Debug("word about a message not sent", "what", what, "err", err)
	}
}

// confirm tells the server and waits until it knows: what would follow from a lost word is worse than the wait.
func (d *delivery) confirm(what string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.feed.in.base), storeTimeout)
	defer cancel()
	if _, err := d.feed.in.nc.RequestWithContext(ctx, d.msg.Reply, []byte(what)); err != nil {
		d.feed.in.log.Warn("end of a message not confirmed; it may come again", "stream", d.Stream, "sequence", d.Sequence, "err", err)
	}
}

// storeMsg stores a message in the stream that captures its subject. The error is a *wire.Error with StorageUnavailable, or says what the server
// refused.
func storeMsg(ctx context.Context, nc *nats.Conn, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return fmt.Errorf("store on %s: %w (%w)", msg.Subject, wire.Errorf(wire.StorageUnavailable, "The store did not answer."), err)
	}
	var stored struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &stored); err != nil || stored.Error == nil && stored.Seq == 0 {
		return fmt.Errorf("store on %s: %w", msg.Subject, wire.Errorf(wire.StorageUnavailable, "The store did not answer."))
	}
	if stored.Error != nil {
		return &refusedByStore{code: stored.Error.Code, text: stored.Error.Description}
	}
	return nil
}

// refusedByStore is an error that JetStream answered.
type refusedByStore struct {
	code int
	text string
}

// Error returns the server's sentence and code.
func (e *refusedByStore) Error() string { return fmt.Sprintf("%s (NATS error %d)", e.text, e.code) }
