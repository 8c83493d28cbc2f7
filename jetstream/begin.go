package jetstream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Begin is Append for a message that needs one publish and no more, which is nearly all of them, without a goroutine that waits: it calls done once, after the given
// time at the latest. done runs where all answers of the store come through, so it must not wait. Begin reports false, and has done nothing, where the outcome may need
// more: a repeat, an author who drops out of the posters, or what an earlier entry left undone; then Append is to be called.
//
// A repeat that only the server recognises is ErrTailMoved here: the next try, with Append, finds the first entry. The other errors are those of Append.
func (s *Store) Begin(c subjects.Conversation, tail Tail, d Draft, most time.Duration, done func(Appended, error)) bool {
	if d.Kind != wire.KindMessage || tail.foreign > 0 || tail.open != nil || tail.stream == 0 || tail.posters.full(d.From) {
		return false
	}
	id := entryID(c, &d)
	if _, repeated := tail.spent.find(id); repeated {
		return false
	}
	entry, next, dropped, err := s.compose(c, tail, &d, nil)
	if err != nil || len(dropped) > 0 {
		return false
	}
	expect(next.newest.header, id, tail.stream)
	request := &nats.Msg{Subject: subjects.Message(c), Header: next.newest.header, Data: next.newest.payload}
	err = s.replies.tell(request, most, func(m *nats.Msg, err error) {
		stored, err := begun(m, err)
		switch {
		case err != nil:
			done(Appended{}, fmt.Errorf("append to %s: %w", c, err))
		default:
			done(appendedAt(entry, next, stored), nil)
		}
	})
	return err == nil
}

// begun reads the answer to what Begin published.
func begun(m *nats.Msg, err error) (stream uint64, _ error) {
	if err == nil && len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		err = nats.ErrNoResponders
	}
	if err != nil {
		return 0, natsError(err)
	}
	stored, err := readAck(m)
	switch {
	case err != nil:
		return 0, appendError(err)
	case stored.Duplicate:
		return 0, fmt.Errorf("%w: it was stored before", ErrTailMoved)
	}
	return stored.Sequence, nil
}
