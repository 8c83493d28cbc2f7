package edge

import (
	"sync"
	"time"
)

// The wheel's turning. A time farther away than one round is looked at once more after a round.
const (
	wheelTick  = 100 * time.Millisecond
	wheelSlots = 256
)

// wheel is the one timer of all sockets. Each stands in one slot, and is looked at when the wheel comes there; what happens on a socket
// meanwhile need not move it, for whoever looks finds that it is too early.
type wheel struct {
	mu    sync.Mutex
	tick  int64 // the last that was looked at
	slots [wheelSlots]*socket
}

// spoke is a socket's place in the wheel, guarded by the wheel's mutex.
type spoke struct {
	before, after *socket
	slot          int16 // from 1; 0 = in none
	gone          bool  // and never again
}

// arm has a socket looked at soon after a moment, and not before.
func (w *wheel) arm(s *socket, at moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.spoke.gone {
		return
	}
	w.takeLocked(s)
	ticks := min(max(int64(at)/int64(wheelTick)+1-w.tick, 1), wheelSlots-1)
	slot := (w.tick + ticks) % wheelSlots
	first := w.slots[slot]
	s.spoke = spoke{after: first, slot: int16(slot) + 1}
	if first != nil {
		first.spoke.before = s
	}
	w.slots[slot] = s
}

// forget takes a socket out for ever.
func (w *wheel) forget(s *socket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.takeLocked(s)
	s.spoke.gone = true
}

func (w *wheel) takeLocked(s *socket) {
	if s.spoke.slot == 0 {
		return
	}
	if s.spoke.before != nil {
		s.spoke.before.spoke.after = s.spoke.after
	} else {
		w.slots[s.spoke.slot-1] = s.spoke.after
	}
	if s.spoke.after != nil {
		s.spoke.after.spoke.before = s.spoke.before
	}
	s.spoke = spoke{}
}

// turn takes out the sockets that are due and appends them to list.
func (w *wheel) turn(now moment, list []*socket) []*socket {
	w.mu.Lock()
	defer w.mu.Unlock()
	target := int64(now) / int64(wheelTick)
	for w.tick = max(w.tick, target-wheelSlots); w.tick < target; {
		w.tick++
		slot := w.tick % wheelSlots
		for w.slots[slot] != nil {
			s := w.slots[slot]
			w.takeLocked(s)
			list = append(list, s)
		}
	}
	return list
}
