package lab

import (
	"bytes"
	"slices"
	"testing"
)

// A filter must pass everything but the one message, however the bytes are cut into pieces.
func TestOneMessageIsSwallowed(t *testing.T) {
	const (
		before = "INFO {\"a\": 1}\r\nMSG a.b 1 5\r\nMSG a\r\nPING\r\n"
		lost   = "HMSG a.c 2 4 6\r\nab\r\ncd\r\n"
		after  = "MSG a.c 2 reply 0\r\n\r\n+OK\r\n"
	)
	said := []byte(before + lost + after)
	for size := 1; size <= len(said); size++ {
		s := &swallows{}
		done := s.next("a.c")
		filter := s.filter()
		var got bytes.Buffer
		for piece := range slices.Chunk(said, size) {
			got.Write(filter.pass(bytes.Clone(piece)))
		}
		if got.String() != before+after {
			t.Fatalf("in pieces of %d bytes there passed %q", size, got.String())
		}
		select {
		case <-done:
		default:
			t.Fatal("nobody is told that the message was swallowed")
		}
	}
}
