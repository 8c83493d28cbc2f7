package client

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// minter makes UUIDv7s that ascend.
type minter struct {
	mu      sync.Mutex
	ms      uint64
	counter uint16 // 12 bits
}

var shared minter

// NewClientID returns a UUIDv7 (RFC 9562) of now by this machine's clock: its time lets the server tell a late repeat from a new message.
// Ids of one process ascend.
func NewClientID() string { return shared.mint(time.Now()) }

// mint returns an id of the given time, or a little later where ids of that time are used up or later ones were made.
func (m *minter) mint(at time.Time) string {
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	m.mu.Lock()
	if now := uint64(at.UnixMilli()); now > m.ms {
		m.ms, m.counter = now, binary.BigEndian.Uint16(id[6:8])&0x7ff // leaves room to count upwards
	} else if m.counter++; m.counter > 0xfff {
		m.ms, m.counter = m.ms+1, 0
	}
	ms, counter := m.ms, m.counter
	m.mu.Unlock()
	binary.BigEndian.PutUint64(id[:8], ms<<16|0x7000|uint64(counter))
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
