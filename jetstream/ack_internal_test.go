package jetstream

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
)

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

// BenchmarkPlainAck reads what the server answers to a usual entry.
func BenchmarkPlainAck(b *testing.B) {
	answer := nats.Msg{Data: []byte(`{"stream":"IM_MESSAGES_03","seq":1234567}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readAck(&answer); err != nil {
			b.Fatal(err)
		}
	}
}
