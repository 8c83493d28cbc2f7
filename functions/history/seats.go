package history

import (
	"sync"

	"github.com/confab-im/confab/subjects"
)

// maxSeats is how many seats are remembered, half of them for certain; each takes about 150 bytes.
const maxSeats = 32 << 10

// seat is a user in a conversation.
type seat struct {
	conversation subjects.Conversation
	user         subjects.User
}

// seats remembers who was seen in which conversation. The newer half follows the older one when it is full. It is safe for concurrent use.
type seats struct {
	mu           sync.Mutex
	newer, older map[seat]struct{}
}

func (s *seats) known(at seat) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.newer[at]; ok {
		return true
	}
	_, ok := s.older[at]
	if ok {
		s.put(at)
	}
	return ok
}

func (s *seats) add(at seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(at)
}

func (s *seats) put(at seat) {
	if len(s.newer) >= maxSeats/2 {
		s.older, s.newer = s.newer, nil
	}
	if s.newer == nil {
		s.newer = make(map[seat]struct{})
	}
	s.newer[at] = struct{}{}
}
