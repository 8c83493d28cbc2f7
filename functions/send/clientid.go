package send

import (
	"encoding/hex"
	"time"
)

// mintedAt returns the time that a client id carries in itself: ok is true for the canonical form of a UUIDv7, whose first 48 bits are
// Unix milliseconds (RFC 9562, section 5.7). Every other form is opaque and recognised within the dedupe window only.
func mintedAt(clientID string) (at time.Time, ok bool) {
	if len(clientID) != 36 || clientID[8] != '-' || clientID[13] != '-' || clientID[18] != '-' || clientID[23] != '-' {
		return time.Time{}, false
	}
	var id [16]byte
	for part, span := range [...][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}} {
		if _, err := hex.Decode(id[[...]int{0, 4, 6, 8, 10}[part]:], []byte(clientID[span[0]:span[1]])); err != nil {
			return time.Time{}, false
		}
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return time.Time{}, false
	}
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms), true
}
