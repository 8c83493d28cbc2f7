package history_test

import (
	"sync"
	"testing"

	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestNothingIsSeenOfOtherTimes changes a membership as fast as it goes while messages are posted, and reads pages and heads all the
// while. Whatever the reader gets must be of a time of membership.
func TestNothingIsSeenOfOtherTimes(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	team := w.group("team", "ada")
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var (
		mu   sync.Mutex
		seen = map[wire.Seq]int{} // by bob
		all  sync.WaitGroup
	)
	all.Go(func() {
		for !stopped() {
			w.post("ada", team, "secret")
		}
	})
	for range 2 {
		all.Go(func() {
			for !stopped() {
				page, err := invoke[wire.Page](w, "bob", history.Name, history.MethodPage, wire.PageQuery{Conversation: team, Limit: 5})
				if code := wire.CodeOf(err); code != "" && code != wire.NotFound && code != wire.Unavailable {
					t.Errorf("page: %v", err)
				}
				mu.Lock()
				for _, seq := range seqs(t, page) {
					seen[seq]++
				}
				mu.Unlock()
			}
		})
	}
	for _, heads := range []func(subjects.User) []wire.ConversationHead{w.heads, w.headsTogether} {
		all.Go(func() {
			for !stopped() {
				for _, h := range heads("bob") {
					mu.Lock()
					seen[h.Head.Seq]++
					mu.Unlock()
				}
			}
		})
	}
	var times [][2]wire.Seq
	for range 60 {
		from := w.member(conversations.MethodAdd, team, "bob")
		times = append(times, [2]wire.Seq{from, w.member(conversations.MethodRemove, team, "bob")})
	}
	close(stop)
	all.Wait()
	if len(seen) == 0 {
		t.Fatal("the reader saw nothing: the test has no force")
	}
	for seq := range seen {
		inside := false
		for _, span := range times {
			inside = inside || (seq >= span[0] && seq <= span[1])
		}
		if !inside {
			t.Errorf("bob saw entry %d, of a time when he was no member", seq)
		}
	}
	t.Logf("%d entries seen of %d times", len(seen), len(times))
}
