package receipts

import (
	"context"
	"sync"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// audienceFor is how long a count of members is believed; maxAudiences bounds how many are remembered, at about 100 bytes each.
const (
	audienceFor  = 10 * time.Second
	maxAudiences = 4096
)

// audiences remembers which conversations are small enough for receipts to go to all members. A count holds until the epoch of the conversation
// moves; the time bounds it where a count was taken between the log's entry and the bucket's. Edges check membership themselves, so an old answer
// sends a few receipts too many or too few, never to strangers.
type audiences struct {
	now func() time.Time

	mu    sync.Mutex
	known map[subjects.Conversation]audience
}

type audience struct {
	small bool
	epoch wire.Seq // of the tail that the count was taken after
	until time.Time
}

func newAudiences(now func() time.Time) *audiences {
	return &audiences{now: now, known: map[subjects.Conversation]audience{}}
}

// small reports whether a conversation, whose newest change of membership or policy is epoch, has at most wire.SmallConversation members.
func (a *audiences) small(ctx context.Context, store *jetstream.Store, c subjects.Conversation, epoch wire.Seq) (bool, error) {
	if c.Kind() == subjects.KindDirect {
		return true, nil
	}
	now := a.now()
	a.mu.Lock()
	found := a.known[c]
	a.mu.Unlock()
	if found.epoch == epoch && now.Before(found.until) {
		return found.small, nil
	}
	members, err := store.CountMembers(ctx, c)
	if err != nil {
		return false, err
	}
	small := members <= wire.SmallConversation
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxAudiences {
		clear(a.known) // what is in use comes back with one count each
	}
	a.known[c] = audience{small: small, epoch: epoch, until: now.Add(audienceFor)}
	return small, nil
}
