package functions

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Bounds of a relay.
const (
	maxRelayed = 256                    // calls under way; beyond it they are refused at once
	relayTime  = 30 * time.Second       // the longest that a relayed call takes
	relayGrace = 500 * time.Millisecond // for what is under way when the relay ends
)

// Relay is the endpoint im.call.<function>.<method>, which is there while functions sleep: what is asked there goes through a Caller, so that
// a bare request wakes a function. NATS permissions say who may use it; the identity headers of a request are passed on as they are.
type Relay struct {
	caller *Caller
	name   string
	sub    *nats.Subscription
	asked  chan *nats.Msg // when it is full requests are dropped, and whoever asked asks again
	places chan struct{}
	wg     sync.WaitGroup
}

// Relay subscribes as one of those that share the requests on im.call; name stands in the answers. The caller runs it with Run.
func (c *Caller) Relay(name string) (*Relay, error) {
	r := &Relay{caller: c, name: name, asked: make(chan *nats.Msg, maxRelayed), places: make(chan struct{}, maxRelayed)}
	var err error
	if r.sub, err = c.nc.ChanQueueSubscribe(subjects.AllCalls, subjects.RelayQueue, r.asked); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subjects.AllCalls, err)
	}
	return r, nil
}

// Run answers requests until ctx ends. Those that have come get another relayGrace; then those that are held are refused, and of those that
// were sent it is not known whether they ran.
func (r *Relay) Run(ctx context.Context) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for ctx.Err() == nil {
		select {
		case msg := <-r.asked:
			r.take(work, msg)
		case <-ctx.Done():
		}
	}
	_ = r.sub.Unsubscribe() // fails only where the connection has forgotten it already
	for len(r.asked) > 0 {
		r.take(work, <-r.asked)
	}
	end := time.AfterFunc(relayGrace, cancel)
	defer end.Stop()
	r.wg.Wait()
}

func (r *Relay) take(ctx context.Context, msg *nats.Msg) {
	select {
	case r.places <- struct{}{}:
	default:
		r.answer(msg, nil, wire.RetryAfter(wire.Unavailable, retryAfter, "Too many calls are under way here."))
		return
	}
	r.wg.Go(func() {
		defer func() { <-r.places }()
		data, err := r.call(ctx, msg)
		r.answer(msg, data, err)
	})
}

func (r *Relay) call(ctx context.Context, msg *nats.Msg) ([]byte, error) {
	f, m, err := subjects.ParseRelayed(msg.Subject)
	if err != nil {
		return nil, wire.Errorf(wire.UnknownCall, "There is no such call.")
	}
	hold, timeout := r.caller.Times(f, m)
	deadline := time.Now().Add(min(hold+timeout, relayTime))
	if given, ok := parseDeadline(first(msg.Header, subjects.HeaderDeadline)); ok && given.Before(deadline) {
		deadline = given
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	header := make(nats.Header, 6)
	for _, key := range []string{
		subjects.HeaderUser, subjects.HeaderDevice, subjects.HeaderSession, subjects.HeaderAddress, subjects.HeaderTraceparent,
	} {
		if value := first(msg.Header, key); value != "" {
			header[key] = []string{value}
		}
	}
	return r.caller.Call(ctx, f, m, header, msg.Data)
}

func (r *Relay) answer(msg *nats.Msg, data []byte, err error) {
	if msg.Reply == "" {
		return
	}
	header := nats.Header{subjects.HeaderReply: {r.name}}
	if err != nil {
		setError(header, err)
	}
	if err := r.caller.nc.PublishMsg(&nats.Msg{Subject: msg.Reply, Header: header, Data: data}); err != nil {
		r.caller.log.Warn("answer not sent", "subject", msg.Subject, "err", err)
	}
}

// setError writes an error in the form of micro's own errors.
func setError(header nats.Header, err error) {
	refusal, ok := errors.AsType[*wire.Error](err)
	if !ok {
		refusal = wire.Errorf(wire.Internal, internalText)
	}
	header[subjects.HeaderErrorCode] = []string{string(refusal.Code)}
	header[subjects.HeaderErrorText] = []string{refusal.Message}
	if refusal.RetryAfterMS > 0 {
		header[subjects.HeaderRetryAfter] = []string{strconv.FormatInt(refusal.RetryAfterMS, 10)}
	}
}
