package functions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Job names work for later: a call of a method that a function makes to itself. It is done at least once, by any instance, which is woken for it; the method must
// stand a repeat. Errors are treated as Function.Retry says. The call has the job's id in Call.Job.
type Job struct {
	Function subjects.Function // it must declare Jobs
	Method   subjects.Method
	ID       subjects.JobID // chosen by whoever asks; a new one where it is empty. A job that waits under the same id is replaced, so asking twice is asking once
	From     *Call          // in whose name; nil = nobody's, which a method that clients may call refuses
}

// everyTTL is how long a run of a repeated job waits for an instance: what nobody could begin within a day has been overtaken by later runs.
const everyTTL = "24h"

// Codes of JetStream that are looked at.
const (
	codeBadSchedule = 10189
)

// Later has a job done after a time, at once where that is not above 0; see At. At once, the same id counts once within two minutes, also where the job is done already.
func Later[In any](ctx context.Context, c *Caller, job Job, in In, after time.Duration) (subjects.JobID, error) {
	if after > 0 {
		return At(ctx, c, job, in, time.Now().Add(after))
	}
	msg, err := job.message(in)
	if err != nil {
		return "", err
	}
	msg.Subject = subjects.Job(job.Function, job.Method)
	if job.ID != "" {
		msg.Header[nats.MsgIdHdr] = []string{string(job.Function) + "." + string(job.ID)}
	}
	return subjects.JobID(first(msg.Header, subjects.HeaderJob)), c.store(ctx, msg)
}

// At has a job done at a time, or at once where that is over, and returns its id. Nil means that it is stored; a job begins within a second of its time where an
// instance is up, and within two where the function sleeps. The error is a *wire.Error: BadID, BadData, TooLarge, or StorageUnavailable, which leaves
// open whether it is stored.
func At[In any](ctx context.Context, c *Caller, job Job, in In, at time.Time) (subjects.JobID, error) {
	msg, err := job.message(in)
	if err != nil {
		return "", err
	}
	// Written here since the client library cuts the time to seconds.
	return subjects.JobID(first(msg.Header, subjects.HeaderJob)), c.schedule(ctx, job, msg, "@at "+at.UTC().Format(time.RFC3339Nano))
}

// Every has a job done again and again. The pattern is "@every 90s" (a Go duration from 1 s), "@hourly", "@daily" and the like, or six fields of a cron
// table, seconds first, in UTC: "0 30 4 * * *". The job needs an id. Where the same is asked for already nothing changes, so a function may ask at each
// start; anything else under the id is replaced. While nothing could run for a while, missed runs become one. Errors are those of At.
func Every[In any](ctx context.Context, c *Caller, job Job, in In, pattern string) error {
	if job.ID == "" {
		return wire.Errorf(wire.BadID, "A repeated job needs an id.")
	}
	msg, err := job.message(in)
	if err != nil {
		return err
	}
	msg.Header[subjects.HeaderScheduleTTL] = []string{everyTTL}
	return c.schedule(ctx, job, msg, pattern)
}

// Cancel forgets a job that waits under an id, also a repeated one. It succeeds where there is none; a job whose time has come may be done all the same. The error is
// a *wire.Error as of At.
func Cancel(ctx context.Context, c *Caller, f subjects.Function, id subjects.JobID) error {
	if _, err := subjects.ParseJobID(string(id)); err != nil {
		return wire.Errorf(wire.BadID, "The id of the job is not of the allowed form.")
	}
	// What takes the place of the schedule is no schedule, and goes away by itself.
	header := nats.Header{nats.MsgRollup: {nats.MsgRollupSubject}, nats.MsgTTLHdr: {"1s"}}
	return c.store(ctx, &nats.Msg{Subject: subjects.Schedule(f, id), Header: header})
}

// message returns the message of a job, without a subject.
func (j Job) message(in any) (*nats.Msg, error) {
	if _, _, err := subjects.ParseCall(string(j.Function) + "." + string(j.Method)); err != nil {
		return nil, wire.Errorf(wire.BadID, "The method of the job is not of the allowed form.")
	}
	id := j.ID
	if id == "" {
		id = subjects.JobID("j-" + strconv.FormatUint(rand.Uint64(), 36))
	}
	if _, err := subjects.ParseJobID(string(id)); err != nil {
		return nil, wire.Errorf(wire.BadID, "The id of the job is not of the allowed form.")
	}
	data, err := encode(in)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", wire.Errorf(wire.BadData, "The data of the job cannot be written as JSON."), err)
	}
	header := nats.Header{}
	if j.From != nil {
		header = j.From.Header()
	}
	header[subjects.HeaderJob] = []string{string(id)}
	return &nats.Msg{Header: header, Data: data}, nil
}

// schedule stores a job under its id until its time, if it does not wait there already.
func (c *Caller) schedule(ctx context.Context, job Job, msg *nats.Msg, pattern string) error {
	msg.Subject = subjects.Schedule(job.Function, subjects.JobID(first(msg.Header, subjects.HeaderJob)))
	msg.Header[subjects.HeaderSchedule] = []string{pattern}
	msg.Header[subjects.HeaderScheduleTarget] = []string{subjects.Job(job.Function, job.Method)}
	if job.ID != "" && c.scheduled(ctx, msg) {
		return nil // storing it again would begin an interval anew: a function that starts often would never come to its run
	}
	return c.store(ctx, msg)
}

// scheduled reports whether the same waits already. Where nobody answers it does not.
func (c *Caller) scheduled(ctx context.Context, msg *nats.Msg) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	there, err := c.nc.RequestWithContext(ctx, subjects.DirectReadLast(subjects.StreamJobs, msg.Subject), nil)
	if err != nil || first(there.Header, "Status") != "" || string(there.Data) != string(msg.Data) {
		return false
	}
	want, have := maps.Clone(msg.Header), maps.Clone(there.Header)
	for _, added := range []string{"Nats-Stream", headerSubject, "Nats-Sequence", "Nats-Time-Stamp", "Nats-Last-Sequence", "Nats-Num-Pending", nats.MsgRollup} {
		delete(have, added)
	}
	delete(want, subjects.HeaderTraceparent)
	delete(have, subjects.HeaderTraceparent)
	return maps.EqualFunc(map[string][]string(want), map[string][]string(have), slices.Equal)
}

// store is storeMsg for those outside, and continues their trace.
func (c *Caller) store(ctx context.Context, msg *nats.Msg) error {
	if trace, ok := TraceOf(ctx); ok {
		msg.Header[subjects.HeaderTraceparent] = []string{trace.String()}
	}
	err := storeMsg(ctx, c.nc, msg)
	if refused, ok := errors.AsType[*refusedByStore](err); ok {
		switch refused.code {
		case codeBadSchedule:
			return wire.Errorf(wire.BadData, "The pattern of the job is not one that the server knows.")
		default:
			c.log.WarnContext(ctx, "job not stored", "subject", msg.Subject, "err", err)
			return wire.Errorf(wire.StorageUnavailable, "The job was not stored.")
		}
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return wire.Errorf(wire.TooLarge, "The data of the job is larger than a message may be.")
	}
	if refusal, ok := errors.AsType[*wire.Error](err); ok {
		c.log.DebugContext(ctx, "job not stored", "err", err)
		return refusal
	}
	return err
}
