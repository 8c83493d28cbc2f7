package edge

import (
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// heard knows which messages of each partition have come as live copies. Where all have come that were stored since the last comparison, nothing of its conversations
// can be missing, and they need not be compared: what is compared would grow with all conversations of those who are here, and not with what is said.
type heard struct {
	mu   sync.Mutex // guards all
	runs [subjects.Partitions]run
}

// run is the newest run of stream sequences that have come without one missing; empty where first is 0.
type run struct{ first, last uint64 }

// note notes a live copy that was taken. One that was said again does not tell where its entry is stored, and is noted by nobody.
func (h *heard) note(id subjects.Conversation, copied *nats.Msg) {
	p := id.Partition()
	if stored(copied, subjects.HeaderStream) != subjects.MessagesStream(p) {
		return
	}
	seq, err := strconv.ParseUint(stored(copied, subjects.HeaderSequence), 10, 64)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := &h.runs[p]; r.first > 0 && seq == r.last+1 {
		r.last = seq
	} else {
		*r = run{seq, seq}
	}
}

// stored returns a header that the server has added to a live copy: it stands behind those that came with the message.
func stored(copied *nats.Msg, name string) string {
	values := copied.Header[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// all reports whether everything has come that was stored in a partition behind one sequence and up to another.
func (h *heard) all(partition int, behind, upTo uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.runs[partition]
	return behind <= upTo && r.first > 0 && r.first <= behind+1 && r.last >= upTo
}

// forget has nothing count that has come so far.
func (h *heard) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.runs[:])
}
