package client

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

var lastID struct {
	sync.Mutex
	ms      uint64
	counter uint16 // 12 bits
}

// NewClientID returns a UUIDv7 (RFC 9562) of now by this machine's clock: its time lets the server tell a late repeat from a new message.
// Ids of one process ascend.
func NewClientID() string { return newClientID(time.Now()) }

func newClientID(at time.Time) string {
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	lastID.Lock()
	if now := uint64(at.UnixMilli()); now > lastID.ms {
		lastID.ms, lastID.counter = now, binary.BigEndian.Uint16(id[6:8])&0x7ff // leaves room to count upwards
	} else if lastID.counter++; lastID.counter > 0xfff {
		lastID.ms, lastID.counter = lastID.ms+1, 0
	}
	ms, counter := lastID.ms, lastID.counter
	lastID.Unlock()
	binary.BigEndian.PutUint64(id[:8], ms<<16|0x7000|uint64(counter))
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
