package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// BenchmarkFrames measures what an edge does with every line: it reads a call, and writes the answer and the event.
func BenchmarkFrames(b *testing.B) {
	body := strings.Repeat("x", 100)
	call := []byte(`{"id":7,"call":"send.post","data":{"conversation":"d.ada.bob","client_id":"01980000-0000-7000-8000-000000000000","body":{"text":"` + body + `"}}}`)
	entry := []byte(`{"conversation":"d.ada.bob","seq":57,"count":41,"kind":"message","from":"ada","at":"2026-11-20T15:04:05.123Z","client_id":"01980000-0000-7000-8000-000000000000","body":{"text":"` + body + `"}}`)
	posted := []byte(`{"conversation":"d.ada.bob","seq":57,"count":41,"at":"2026-11-20T15:04:05.123Z"}`)
	b.Run("call", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseFrame(call); err != nil {
				b.Fatal(err)
			}
		}
	})
	buffer := make([]byte, 0, 1024)
	b.Run("answer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buffer = AppendOK(buffer[:0], json.RawMessage("7"), posted)
		}
	})
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buffer = AppendEvent(buffer[:0], EventEntry, entry)
		}
	})
}
