package edge

import (
	"encoding/binary"
	"encoding/json"

	"github.com/confab-im/confab/subjects/wire"
)

// framed is one whole frame as a server writes it: final, not masked, and so the same bytes for every socket.
type framed []byte

// First bytes of a server's frames.
const (
	finalText  = 0x81
	finalClose = 0x88
	finalPing  = 0x89
	finalPong  = 0x8a
)

// headroom is how much the header of a frame takes at most.
const headroom = 10

// room returns the beginning of a text of about n bytes, with room for its header before it.
func room(n int) []byte { return make([]byte, headroom, headroom+n) }

// seal makes a text that was appended to room a frame.
func seal(text []byte) framed {
	n := len(text) - headroom
	switch {
	case n < 126:
		text = text[headroom-2:]
		text[1] = byte(n)
	case n < 1<<16:
		text = text[headroom-4:]
		text[1] = 126
		binary.BigEndian.PutUint16(text[2:], uint16(n))
	default:
		text[1] = 127
		binary.BigEndian.PutUint64(text[2:], uint64(n))
	}
	text[0] = finalText
	return text
}

// eventFrame returns the frame of an event; data is one JSON value.
func eventFrame(event wire.Event, data []byte) framed {
	return seal(wire.AppendEvent(room(len(data)+48), event, data))
}

// okFrame returns the frame of an answer.
func okFrame(id json.RawMessage, data []byte) framed {
	return seal(wire.AppendOK(room(len(id)+len(data)+24), id, data))
}

// errorFrame returns the frame of an error.
func errorFrame(id json.RawMessage, err *wire.Error) framed {
	return seal(wire.AppendError(room(len(id)+len(err.Message)+96), id, err))
}

// appendControl appends a control frame; its payload has at most 125 bytes.
func appendControl(dst []byte, first byte, payload []byte) []byte {
	return append(append(dst, first, byte(len(payload))), payload...)
}

// farewell returns the payload of a close frame.
func farewell(code wire.CloseCode, text string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...)
}
