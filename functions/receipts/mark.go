package receipts

import (
	"context"
	"errors"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// mark raises the caller's marks to the given seqs, or to the head where they lie beyond it. Marks never go back: of racing devices the
// highest marks stand, and each answer tells what stands.
func (s *service) mark(ctx context.Context, call *functions.Call, in *wire.MarkQuery) (wire.Marked, error) {
	if _, err := s.member(ctx, in.Conversation, call.User); err != nil {
		return wire.Marked{}, err
	}
	// From the leader: a tail that does not know yet what the client has seen would cut the mark short.
	tail, err := s.existing(ctx, in.Conversation)
	if err != nil {
		return wire.Marked{}, err
	}
	cursor, err := s.store.Cursor(ctx, in.Conversation, call.User)
	if err != nil {
		return wire.Marked{}, codeOf(err)
	}
	have := standing(call.User, tail, cursor.Cursor)
	var raise jetstream.Cursor
	if read := min(in.Read, tail.Seq); read > have.Read.Seq {
		if raise.Read, err = s.markAt(ctx, in.Conversation, tail, read); err != nil {
			return wire.Marked{}, err
		}
	}
	if delivered := min(in.Delivered, tail.Seq); delivered > max(have.Delivered, raise.Read.Seq) {
		raise.Delivered = delivered
	}
	if raise != (jetstream.Cursor{}) {
		raised, err := s.store.RaiseFrom(ctx, in.Conversation, call.User, cursor, raise)
		if err != nil {
			return wire.Marked{}, codeOf(err)
		}
		have = standing(call.User, tail, raised)
		s.announce(ctx, in.Conversation, call.User, tail.Epoch, have)
	}
	answer := wire.Marked{Read: have.Read}
	answer.Delivered.Seq = have.Delivered
	return answer, nil
}

// standing returns the marks that count: the stored ones, raised by the user's own newest post. What was read was delivered too.
func standing(u subjects.User, tail jetstream.Tail, cursor jetstream.Cursor) jetstream.Cursor {
	if post, ok := tail.Poster(u); ok && post.Seq > cursor.Read.Seq {
		cursor.Read = post
	}
	cursor.Delivered = max(cursor.Delivered, cursor.Read.Seq)
	return cursor
}

// markAt returns the place of an entry that the tail knows of. An entry that retention took has none any more: Gone.
func (s *service) markAt(ctx context.Context, c subjects.Conversation, tail jetstream.Tail, seq wire.Seq) (wire.Mark, error) {
	if seq == tail.Seq {
		return tail.Mark(), nil
	}
	entry, err := s.store.Entry(ctx, c, seq)
	if err != nil {
		return wire.Mark{}, codeOf(err)
	}
	return wire.Mark{Seq: seq, Count: entry.Count}, nil
}

// announce tells the user's other devices, and in a small conversation its members. Like all that is live it may get lost; heads and who tell
// the truth.
func (s *service) announce(ctx context.Context, c subjects.Conversation, u subjects.User, epoch wire.Seq, marks jetstream.Cursor) {
	receipt := wire.Receipt{Conversation: c, User: u, Read: marks.Read.Seq, Delivered: marks.Delivered}
	s.publish(ctx, subjects.UserEvents(u), wire.UserEvent{Change: wire.ChangeMarks, Conversation: c, Receipt: &receipt})
	small, err := s.audiences.small(ctx, s.store, c, epoch)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.env.Log.WarnContext(ctx, "receipt not sent: members cannot be counted", "conv", string(c), "err", err)
	}
	if !small {
		return
	}
	data, err := wire.Marshal(receipt)
	if err != nil {
		return // ids and numbers always encode
	}
	s.publish(ctx, subjects.Signal(c), wire.Signalled{Event: wire.EventReceipt, User: u, Data: data})
}

func (s *service) publish(ctx context.Context, subject string, event any) {
	data, err := wire.Marshal(event)
	if err == nil {
		err = s.env.NATS.Publish(subject, data)
	}
	if err != nil {
		s.env.Log.WarnContext(ctx, "event not sent", "err", err)
	}
}
