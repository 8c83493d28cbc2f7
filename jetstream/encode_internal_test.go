package jetstream

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestEncodeWritesWhatMarshalDoes holds for all that a caller can put into a draft, also what only other functions could.
func TestEncodeWritesWhatMarshalDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z0-9_-]{1,8}`), rapid.StringN(0, 8, -1), rapid.SampledFrom([]string{`"`, `\`, "<&>", "\u2028", "\x7f", "é", "\xff"}))
		e := wire.Entry{
			Conversation: subjects.Conversation("g." + text.Draw(t, "conversation")), Seq: wire.Seq(rapid.Uint64().Draw(t, "seq")),
			Count: rapid.Uint64().Draw(t, "count"), Kind: wire.EntryKind(text.Draw(t, "kind")), From: subjects.User(text.Draw(t, "from")),
			At:       wire.At(time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "at"))),
			ClientID: text.Draw(t, "client id"), Target: wire.Seq(rapid.Uint64Range(0, 3).Draw(t, "target")),
			ReplyTo: wire.Seq(rapid.Uint64Range(0, 3).Draw(t, "reply to")), Recalled: rapid.Bool().Draw(t, "recalled"),
		}
		switch rapid.IntRange(0, 3).Draw(t, "body") {
		case 1:
			e.Body = json.RawMessage(rapid.SampledFrom([]string{" {\n \"a\" : \"<\u2028 b>\" }\t", "{}", "null", "{", "[1,", "\xff", "{} {}", ""}).Draw(t, "raw"))
		case 2:
			body, err := json.MarshalIndent(map[string]string{text.Draw(t, "key"): text.Draw(t, "value")}, " ", "\t")
			if err != nil {
				t.Fatal(err)
			}
			e.Body = body
		case 3:
			e.Body = json.RawMessage(rapid.StringN(0, 20, -1).Draw(t, "any"))
		}
		want, err1 := wire.Marshal(&e)
		got, err2 := encode(&e)
		if (err1 == nil) != (err2 == nil) || err1 == nil && !bytes.Equal(got, want) {
			t.Fatalf("encoded as %q, %v; Marshal writes %q, %v", got, err2, want, err1)
		}
	})
}

// FuzzPlainAck compares the quick way to read an acknowledgement with the long one.
func FuzzPlainAck(f *testing.F) {
	for _, s := range []string{
		`{"stream":"IM_MESSAGES_03","seq":17}`, `{"stream":"IM_MESSAGES_03", "seq":17}`, `{"stream":"a","domain":"hub","seq":1,"duplicate": true}`, `{"stream":"a", "seq":1, "domain":"hub"}`, `{"stream":"a","seq":0}`,
		`{"stream":"a","seq":9999999999999999999}`, `{"stream":"a","domain":"\u0041","seq":1}`, `{"stream":"a","seq":1,"error":{"code":503}}`, `{"stream":"a","seq":1}}`,
		`{"stream":"", "seq":1}`, `{"stream":"a\u0041", "seq":1}`, `{"stream":"a", "seq":18446744073709551616}`, `{"stream":"a", "seq":01}`, `{"stream":"a", "seq":+1}`, `{}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		quick, ok := plainAck(data)
		if !ok {
			return
		}
		var long struct {
			Stream    string
			Seq       uint64
			Duplicate bool
			Error     *apiError
		}
		if err := json.Unmarshal(data, &long); err != nil {
			return // no JSON, which no server sends
		}
		if quick != (ack{Stream: long.Stream, Sequence: long.Seq, Duplicate: long.Duplicate}) || long.Error != nil {
			t.Fatalf("%q is read as %+v, and says %+v", data, quick, long)
		}
	})
}

// BenchmarkEncode writes a usual entry, and reads what the server answers to it.
func BenchmarkEncode(b *testing.B) {
	e := wire.Entry{
		Conversation: "d.ada.bob", Seq: 57, Count: 41, Kind: wire.KindMessage, From: "ada", At: wire.At(time.UnixMilli(1795187045123)),
		ClientID: "0199-a1b2c3d4e5f6", Body: json.RawMessage(`{"text":"a message of the usual length, neither short nor long"}`),
	}
	answer := []byte(`{"stream":"IM_MESSAGES_03","seq":1234567}`)
	for name, work := range map[string]func() error{
		"entry":               func() error { _, err := encode(&e); return err },
		"entry by reflection": func() error { _, err := wire.Marshal(&e); return err },
		"acknowledgement":     func() error { _, err := readAck(&nats.Msg{Data: answer}); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := work(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
