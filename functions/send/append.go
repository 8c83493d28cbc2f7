package send

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	// tryTimeout bounds one try to append, so that a try without an answer, as while a stream changes its leader, leaves time for another.
	tryTimeout = 2 * time.Second
	// answerMargin is what is kept of a call's time to say what happened.
	answerMargin = 200 * time.Millisecond
	// minBackoff and maxBackoff bound the pause after a try that somebody else's append got ahead of.
	minBackoff = time.Millisecond
	maxBackoff = 50 * time.Millisecond
)

// entry is something to be appended.
type entry struct {
	conversation subjects.Conversation
	by           subjects.User // whose standing decides; "" for an entry that was decided elsewhere
	draft        jetstream.Draft
	// allow decides whether the draft may follow the tail; the error is the caller's answer. It runs again whenever the tail moved.
	allow func(ctx context.Context, tail jetstream.Tail) error
}

// put appends an entry, with as many tries as the call has time for. Every try is decided anew against the tail that it is appended to.
// A refusal is definite, unless an earlier try got no answer: that one may be stored. The next try with the same client id finds out; where it
// does not, because there is no time or it is refused by now, the error's code says that the outcome is unknown.
func (s *sender) put(ctx context.Context, e entry) (jetstream.Appended, error) {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	var t tries
	t.tail, t.known = s.remembered(e)
	return s.goOn(ctx, e, &t)
}

// tries is how far the tries to append an entry have come.
type tries struct {
	tail  jetstream.Tail
	known bool // the tail was remembered, not read
	count int
	open  error // of a try without an answer
	reads tailReads
}

// goOn tries until an entry is stored, or refused.
func (s *sender) goOn(ctx context.Context, e entry, t *tries) (jetstream.Appended, error) {
	for {
		if !t.known {
			var err error
			if t.tail, err = s.store.Tail(ctx, e.conversation); err != nil {
				return jetstream.Appended{}, unavailable(fmt.Errorf("read the tail of %s: %w", e.conversation, err))
			}
			t.reads.note(t.tail)
		}
		tail := t.tail
		if err := e.allow(ctx, tail); err != nil {
			if t.known {
				t.known = false // a remembered tail may be behind: refuse nobody because of it
				t.count++
				continue
			}
			return jetstream.Appended{}, definite(err, t.open)
		}
		appended, err := s.try(ctx, e, tail)
		if err == nil {
			s.settle(e.conversation, appended, t.count > 0)
			return appended, nil
		}
		if err := s.failed(ctx, e, t, err); err != nil {
			return jetstream.Appended{}, err
		}
	}
}

// failed notes that a try failed. It returns nil where another one is to follow, after a pause where that helps, and otherwise the caller's answer.
func (s *sender) failed(ctx context.Context, e entry, t *tries, err error) error {
	s.tails.drop(e.conversation)
	behind := t.known && errors.Is(err, jetstream.ErrTailMoved)
	t.known = false
	t.count++
	if behind { // what was remembered: no sign of many writers at once, which the pause is for
		s.others.hear(e.conversation)
		return nil
	}
	if unanswered(err) {
		t.open = err
	}
	if err := s.again(ctx, e.conversation, err, t.count-1, t.reads); err != nil {
		return definite(err, t.open)
	}
	return nil
}

// tailReads tells whether a conversation goes on while appends to it are overtaken. Where it does not, what is ahead of them is an append that a cluster without a
// majority has taken and cannot store.
type tailReads struct {
	first wire.Seq
	any   bool
	same  bool // it was read more than once, and was the same each time
}

func (r *tailReads) note(tail jetstream.Tail) {
	if !r.any {
		r.first, r.any = tail.Seq, true
		return
	}
	r.same = tail.Seq == r.first
}

// definite returns a refusal, or that the outcome is unknown where a try is open.
func definite(refusal, open error) error {
	if open == nil || wire.CodeOf(refusal).Info().Unknown {
		return refusal
	}
	return unavailable(fmt.Errorf("%w, after a try without an answer: %w", refusal, open))
}

// remembered returns the tail of the conversation if it is known, to those alone whose standing is known as well: to others, a conversation in
// use must not take another time to refuse them than one that does not exist.
func (s *sender) remembered(e entry) (jetstream.Tail, bool) {
	tail, known := s.tails.get(e.conversation)
	if known && e.by != "" {
		_, known = s.decided(seat{e.conversation, e.by}, tail)
	}
	return tail, known
}

func (s *sender) try(ctx context.Context, e entry, tail jetstream.Tail) (jetstream.Appended, error) {
	ctx, cancel := functions.WithDeadline(ctx, time.Now().Add(tryTimeout))
	defer cancel()
	return s.store.Append(ctx, e.conversation, tail, e.draft)
}

// settle remembers the new tail, and says an entry again on the live subject where the store does not: after a retry and for a duplicate.
func (s *sender) settle(c subjects.Conversation, appended jetstream.Appended, retried bool) {
	// Another instance may have appended since, and have been heard.
	s.tails.putUnless(c, appended.Tail.Lean(), func(heard jetstream.Tail) bool { return heard.Seq > appended.Tail.Seq })
	if !retried && !appended.Duplicate {
		return
	}
	if err := s.store.Announce(c, appended); err != nil {
		// Edges compare heads with the store every few seconds, so they find what they are not told.
		s.log.Warn("live copy not sent", "conv", string(c), "seq", appended.Entry.Seq, "err", err)
	}
}

// again decides after a failed try whether there is another one, and pauses before it. The pauses are random and grow, so that several
// instances that append to one conversation do not stay in step.
func (s *sender) again(ctx context.Context, c subjects.Conversation, failure error, try int, reads tailReads) error {
	moved := errors.Is(failure, jetstream.ErrTailMoved)
	if !moved && !unanswered(failure) {
		return refusal(failure)
	}
	pause := min(minBackoff<<min(try, 6), maxBackoff)
	select {
	case <-ctx.Done():
	case <-time.After(pause/2 + rand.N(pause)):
		return nil
	}
	if moved && reads.same {
		return unavailable(fmt.Errorf("append to %s: %d tries were behind one that is not stored: %w", c, try+1, failure))
	}
	if moved {
		return fmt.Errorf("%w (append to %s: %d tries were overtaken)",
			wire.RetryAfter(wire.Unavailable, maxBackoff, "Too many write to this conversation at once; send it again with the same client_id."), c, try+1)
	}
	return unavailable(fmt.Errorf("append to %s: %w", c, failure))
}

// unanswered reports whether the store said nothing, so that another try may find it, or another leader, awake. What it did say, such as that
// it is full, it would say again.
func unanswered(err error) bool {
	return errors.Is(err, jetstream.ErrUnavailable) &&
		(errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout))
}

// refusal maps the errors of the store that no other try would change.
func refusal(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrTooLarge):
		return fmt.Errorf("%w (%w)", wire.Errorf(wire.TooLarge, "The entry is too large for the store."), err)
	case errors.Is(err, jetstream.ErrNoEntry), errors.Is(err, jetstream.ErrNoMessage):
		return errNoEntry
	case errors.Is(err, jetstream.ErrErased):
		return errRecalled
	case errors.Is(err, jetstream.ErrAmendsFull):
		return errTooManyEdits
	case errors.Is(err, jetstream.ErrIDConflict):
		return wire.Errorf(wire.IDConflict, "This client_id was used before with another content; use a new one.")
	case errors.Is(err, jetstream.ErrUnavailable):
		return unavailable(err)
	}
	return err
}

// withMargin shortens the time of a call by what its answer needs.
func withMargin(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return functions.WithDeadline(ctx, deadline.Add(-answerMargin))
}

// errNotFirst says that an entry that had to be the first of its conversation is not.
var errNotFirst = wire.Errorf(wire.Conflict, "The conversation has entries already.")

// append is the method by which other functions put changes of membership and policy into the log. Who may change what was decided there.
func (s *sender) append(ctx context.Context, _ *functions.Call, in *wire.Append) (wire.Posted, error) {
	appended, err := s.put(ctx, entry{
		conversation: in.Conversation,
		draft:        jetstream.Draft{Kind: in.Kind, From: in.From, ClientID: in.ClientID, Body: in.Body},
		allow: func(_ context.Context, tail jetstream.Tail) error {
			switch {
			case in.First && tail.Seq > 0:
				return errNotFirst
			case in.Epoch > 0 && in.Epoch != tail.Epoch:
				return wire.Errorf(wire.Conflict, "Membership or policy changed since epoch %d.", in.Epoch)
			}
			return nil
		},
	})
	if err == errNotFirst {
		return s.repeatedFirst(ctx, in)
	}
	if err != nil {
		return wire.Posted{}, err
	}
	return posted(in.Conversation, appended), nil
}

// repeatedFirst answers a call for a first entry where there is one: with the seq of the entry if an earlier try of the same call stored it,
// however long ago, and with errNotFirst otherwise.
func (s *sender) repeatedFirst(ctx context.Context, in *wire.Append) (wire.Posted, error) {
	first, err := s.store.Entry(ctx, in.Conversation, 1)
	if err != nil {
		return wire.Posted{}, unavailable(fmt.Errorf("read the first entry of %s: %w", in.Conversation, err))
	}
	if first.Kind != in.Kind || first.From != in.From || first.ClientID != in.ClientID {
		return wire.Posted{}, errNotFirst
	}
	return wire.Posted{Conversation: in.Conversation, Seq: first.Seq, Count: first.Count, At: first.At, Duplicate: true}, nil
}

// posted is the answer to a call whose entry is stored.
func posted(c subjects.Conversation, appended jetstream.Appended) wire.Posted {
	e := appended.Entry
	return wire.Posted{Conversation: c, Seq: e.Seq, Count: e.Count, At: e.At, Duplicate: appended.Duplicate}
}
