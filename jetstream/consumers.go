package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// DefaultPending is how many messages of one stream the instances of a function may have in hand together, those that wait for their next try
// among them. When as many fail at once, the function gets no more of that stream until some succeed or are given up.
const DefaultPending = 1000

// metadataSince is the key, in a consumer's metadata, of the time from which on its function gets entries.
const metadataSince = "confab.since"

// Codes of JetStream about consumers.
const codeConsumerMissing = 10014

// ConsumerSpec says what of the store a function is handed, message by message.
type ConsumerSpec struct {
	Function subjects.Function
	Entries  bool          // every entry of every conversation, stored from its first declaration on; implies jobs, with which operators hand over entries again
	Jobs     bool          // its work for later
	HandTime time.Duration // how long an instance may keep a message without a word before another gets it; 0 = wire.HandTime
	Pending  int           // how many messages of a stream may be in hand at once; 0 = DefaultPending
}

// DeclareConsumers makes the durable consumers of functions that are missing, and brings their settings up to date; it may be called any number of times. The
// store must have been declared. A function's consumers are named after it: one on each stream of messages, and one on IM_JOBS. It takes none away.
//
// A new function begins with what is stored from now on. Where some of its consumers are there and others are not, because a Rewind was cut short
// or somebody deleted one, the missing ones begin where the earliest of the others began: entries come twice rather than never.
func DeclareConsumers(ctx context.Context, nc *nats.Conn, specs []ConsumerSpec) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("declare consumers: %w", err)
	}
	for _, spec := range specs {
		if err := declareConsumers(ctx, js, spec); err != nil {
			return fmt.Errorf("declare the consumers of %s: %w", spec.Function, err)
		}
	}
	return nil
}

func declareConsumers(ctx context.Context, js jetstream.JetStream, spec ConsumerSpec) error {
	var failure error
	for range declareTries {
		var have [subjects.Partitions]*jetstream.ConsumerInfo
		failure = nil
		if spec.Entries {
			err := eachPartition(func(p int) (err error) {
				have[p], err = consumerInfo(ctx, js, subjects.MessagesStream(p), spec.Function)
				return err
			})
			if err != nil {
				return err
			}
			since := earliest(have[:])
			failure = eachPartition(func(p int) error {
				return declareConsumer(ctx, js, subjects.MessagesStream(p), have[p], spec.entries(since))
			})
		}
		if failure == nil && (spec.Entries || spec.Jobs) {
			info, err := consumerInfo(ctx, js, subjects.StreamJobs, spec.Function)
			if err != nil {
				return err
			}
			failure = declareConsumer(ctx, js, subjects.StreamJobs, info, spec.jobs())
		}
		// Another declarer came first with a time of its own: the next round finds its consumers.
		if !errors.Is(failure, ErrExists) {
			return failure
		}
	}
	return failure
}

// entries returns the consumer of a stream of messages. It has no filter, so that the server counts what waits without looking; kinds stand in
// headers, which it could not filter anyway. It never gives up by itself (max deliver), since that happens without a word: the runtime counts and
// leaves a dead letter.
func (spec ConsumerSpec) entries(since time.Time) jetstream.ConsumerConfig {
	c := spec.consumer()
	c.Description = "Entries for function " + string(spec.Function)
	c.DeliverPolicy = jetstream.DeliverByStartTimePolicy
	c.OptStartTime = &since
	c.Metadata[metadataSince] = since.Format(time.RFC3339Nano)
	return c
}

func (spec ConsumerSpec) jobs() jetstream.ConsumerConfig {
	c := spec.consumer()
	c.Description = "Jobs for function " + string(spec.Function)
	c.FilterSubject = subjects.AllJobsOf(spec.Function)
	return c
}

func (spec ConsumerSpec) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: string(spec.Function), Durable: string(spec.Function),
		AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1,
		AckWait:       cmp.Or(spec.HandTime, wire.HandTime),
		MaxAckPending: cmp.Or(spec.Pending, DefaultPending),
		Metadata:      map[string]string{},
	}
}

// declareConsumer makes a consumer, or changes those settings of one that may change. The error wraps ErrExists where another one was made meanwhile.
func declareConsumer(ctx context.Context, js jetstream.JetStream, stream string, have *jetstream.ConsumerInfo, want jetstream.ConsumerConfig) error {
	if have == nil {
		want.Metadata[metadataView] = "nats consumer info " + stream + " " + want.Name
		_, err := js.CreateConsumer(ctx, stream, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			return fmt.Errorf("on %s: %w", stream, ErrExists)
		}
		if err != nil {
			return fmt.Errorf("on %s: %w", stream, libraryError(err))
		}
		return nil
	}
	next := have.Config
	next.Description, next.AckWait, next.MaxAckPending, next.MaxDeliver = want.Description, want.AckWait, want.MaxAckPending, want.MaxDeliver
	next.Metadata = maps.Clone(have.Config.Metadata)
	if next.Metadata == nil {
		next.Metadata = map[string]string{}
	}
	next.Metadata[metadataView] = "nats consumer info " + stream + " " + want.Name
	if reflect.DeepEqual(next, have.Config) {
		return nil
	}
	if _, err := js.UpdateConsumer(ctx, stream, next); err != nil {
		return fmt.Errorf("on %s: %w", stream, libraryError(err))
	}
	return nil
}

// consumerInfo returns the state of a function's consumer, or nil where there is none.
func consumerInfo(ctx context.Context, js jetstream.JetStream, stream string, f subjects.Function) (*jetstream.ConsumerInfo, error) {
	consumer, err := js.Consumer(ctx, stream, string(f))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the consumer on %s: %w", stream, libraryError(err))
	}
	return consumer.CachedInfo(), nil
}

// earliest returns where new consumers begin: with the earliest of those that are there, or now.
func earliest(have []*jetstream.ConsumerInfo) time.Time {
	since := time.Now().UTC()
	for _, info := range have {
		if info == nil {
			continue
		}
		began, err := time.Parse(time.RFC3339Nano, info.Config.Metadata[metadataSince])
		if err != nil { // made by somebody else: all there is
			return time.Unix(0, 0).UTC()
		}
		if began.Before(since) {
			since = began
		}
	}
	return since
}

// eachPartition calls f for each partition, all at once, and joins the errors.
func eachPartition(f func(p int) error) error {
	var errs [subjects.Partitions]error
	var all sync.WaitGroup
	for p := range subjects.Partitions {
		all.Go(func() { errs[p] = f(p) })
	}
	all.Wait()
	return errors.Join(errs[:]...)
}

// RemoveConsumers removes the consumers of a function, and with them its place in the streams. Its jobs stay where they are.
func RemoveConsumers(ctx context.Context, nc *nats.Conn, f subjects.Function) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("remove the consumers of %s: %w", f, err)
	}
	err = errors.Join(eachPartition(func(p int) error { return removeConsumer(ctx, js, subjects.MessagesStream(p), f) }),
		removeConsumer(ctx, js, subjects.StreamJobs, f))
	if err != nil {
		return fmt.Errorf("remove the consumers of %s: %w", f, err)
	}
	return nil
}

func removeConsumer(ctx context.Context, js jetstream.JetStream, stream string, f subjects.Function) error {
	if err := js.DeleteConsumer(ctx, stream, string(f)); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("on %s: %w", stream, libraryError(err))
	}
	return nil
}

// Rewind makes a function get every entry again that was stored at a time or later, also those it has had, and those it had not yet got from before that time
// no more. ErrNotDeclared says that it has no consumers. Jobs are not touched.
//
// JetStream cannot move a consumer, so each is deleted and made anew. That is sound while the function sleeps, and while it works: instances ask the new consumer
// as soon as they hear of the end of the old one. Of an entry that is in hand at that moment the end may be told to the new consumer, which then
// counts it as had; it was, after the call of Rewind had begun. A Rewind that ends with an error is repeated; DeclareConsumers mends it too.
func Rewind(ctx context.Context, nc *nats.Conn, f subjects.Function, since time.Time) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("rewind %s: %w", f, err)
	}
	var have [subjects.Partitions]*jetstream.ConsumerInfo
	err = eachPartition(func(p int) (err error) {
		have[p], err = consumerInfo(ctx, js, subjects.MessagesStream(p), f)
		return err
	})
	if err != nil {
		return fmt.Errorf("rewind %s: %w", f, err)
	}
	spec := ConsumerSpec{Function: f, Entries: true}
	known := false
	for _, info := range have {
		if info != nil {
			spec.HandTime, spec.Pending, known = info.Config.AckWait, info.Config.MaxAckPending, true
		}
	}
	if !known {
		return fmt.Errorf("rewind %s: it gets no entries: %w", f, ErrNotDeclared)
	}
	since = since.UTC()
	err = eachPartition(func(p int) error {
		stream := subjects.MessagesStream(p)
		if err := removeConsumer(ctx, js, stream, f); err != nil {
			return err
		}
		return declareConsumer(ctx, js, stream, nil, spec.entries(since))
	})
	if err != nil {
		return fmt.Errorf("rewind %s: %w", f, err)
	}
	return nil
}

// Backlog returns how many entries and jobs a function has not had yet, or not finished: those that wait, those in hand, and those that wait for their next try.
// Entries of kinds that it does not want count too, until an instance has passed over them. It costs one small request a stream, all at once.
// ErrNotDeclared says that the function has no consumers at all, so that nothing will ever wake it.
func Backlog(ctx context.Context, nc *nats.Conn, f subjects.Function) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var counts [subjects.Partitions + 1]int
	var errs [len(counts)]error
	var all sync.WaitGroup
	for i := range counts {
		stream := subjects.StreamJobs
		if i < subjects.Partitions {
			stream = subjects.MessagesStream(i)
		}
		all.Go(func() { counts[i], errs[i] = backlogOf(ctx, nc, stream, f) })
	}
	all.Wait()
	total, missing := 0, 0
	for i, err := range errs {
		switch {
		case errors.Is(err, errNoConsumer):
			missing++
		case err != nil:
			return 0, fmt.Errorf("backlog of %s: %w", f, err)
		}
		total += counts[i]
	}
	if missing == len(counts) {
		return 0, fmt.Errorf("backlog of %s: it gets neither entries nor jobs: %w", f, ErrNotDeclared)
	}
	return total, nil
}

// errNoConsumer says that a stream has no consumer for a function.
var errNoConsumer = errors.New("no consumer")

func backlogOf(ctx context.Context, nc *nats.Conn, stream string, f subjects.Function) (int, error) {
	reply, err := nc.RequestWithContext(ctx, subjects.ConsumerInfo(stream, f), nil)
	if err != nil {
		return 0, natsError(err)
	}
	var info struct {
		Error   *apiError `json:"error"`
		Waiting int       `json:"num_pending"`
		InHand  int       `json:"num_ack_pending"`
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return 0, fmt.Errorf("%w: an answer that is not JSON: %w", ErrUnavailable, err)
	}
	if info.Error != nil {
		if info.Error.ErrCode == codeConsumerMissing {
			return 0, errNoConsumer
		}
		return 0, info.Error
	}
	return info.Waiting + info.InHand, nil
}
