package bench

import (
	"bytes"
	"encoding/binary"

	"github.com/confab-im/confab/subjects/wire"
)

// Opcodes of WebSocket frames (RFC 6455), and the bit of the last frame of a message.
const (
	frameText  = 1
	frameClose = 8
	framePing  = 9
	framePong  = 10
	frameLast  = 0x80
)

// begin appends the head of a masked text frame to out. The mask is zero, which the protocol allows and which makes masking cost nothing here; to a server it is like any other.
func begin(out []byte, length int) []byte {
	out = append(out, frameLast|frameText)
	switch {
	case length < 126:
		out = append(out, 0x80|byte(length))
	case length < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(length))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(length))
	}
	return append(out, 0, 0, 0, 0)
}

func digits(n uint64) int {
	count := 1
	for ; n > 9; n /= 10 {
		count++
	}
	return count
}

// frame splits the first frame off; length is that of the whole frame where it is known, 0 else.
func frame(data []byte) (head byte, payload []byte, length int, ok bool) {
	if len(data) < 2 {
		return 0, nil, 0, false
	}
	size, begin := int(data[1]&0x7f), 2
	switch size {
	case 126:
		begin = 4
		if len(data) < begin {
			return 0, nil, 0, false
		}
		size = int(binary.BigEndian.Uint16(data[2:]))
	case 127:
		begin = 10
		if len(data) < begin {
			return 0, nil, 0, false
		}
		size = int(binary.BigEndian.Uint64(data[2:]) & (1<<40 - 1))
	}
	if length = begin + size; len(data) < length {
		return 0, nil, length, false
	}
	return data[0], data[begin:length], length, true
}

// splitEvent takes {"event":"NAME","data":DATA} apart, if it looks exactly so.
func splitEvent(line []byte) (event wire.Event, data []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"event":"`))
	if !ok || line[len(line)-1] != '}' {
		return "", nil, false
	}
	name, data, ok := bytes.Cut(rest, []byte(`","data":`))
	if !ok || len(name) > 32 {
		return "", nil, false
	}
	if string(name) == string(wire.EventEntry) { // the one that comes in masses costs no allocation
		return wire.EventEntry, data[:len(data)-1], true
	}
	return wire.Event(name), data[:len(data)-1], true
}

// splitOK takes {"id":NUMBER,"ok":DATA} apart, if it looks exactly so.
func splitOK(line []byte) (id uint64, data []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	if !ok || line[len(line)-1] != '}' {
		return 0, nil, false
	}
	i := 0
	for ; i < len(rest) && rest[i] >= '0' && rest[i] <= '9' && i < 19; i++ {
		id = id*10 + uint64(rest[i]-'0')
	}
	data, ok = bytes.CutPrefix(rest[i:], []byte(`,"ok":`))
	if !ok || i == 0 {
		return 0, nil, false
	}
	return id, data[:len(data)-1], true
}
