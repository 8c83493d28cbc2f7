package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/confab-im/confab/subjects"
)

// TestWritingByHandWritesWhatReflectionDoes holds for all that a caller can put into a draft, also what only other functions could.
func TestWritingByHandWritesWhatReflectionDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z0-9_-]{1,8}`), rapid.StringN(0, 8, -1), rapid.SampledFrom([]string{`"`, `\`, "<&>", "\u2028", "\x7f", "é", "\xff"}))
		e := Entry{
			Conversation: subjects.Conversation("g." + text.Draw(t, "conversation")), Seq: Seq(rapid.Uint64().Draw(t, "seq")),
			Count: rapid.Uint64().Draw(t, "count"), Kind: EntryKind(text.Draw(t, "kind")), From: subjects.User(text.Draw(t, "from")),
			At:       At(time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "at"))),
			ClientID: text.Draw(t, "client id"), Target: Seq(rapid.Uint64Range(0, 3).Draw(t, "target")),
			ReplyTo: Seq(rapid.Uint64Range(0, 3).Draw(t, "reply to")), Recalled: rapid.Bool().Draw(t, "recalled"),
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
		same(t, &e)
		same(t, Posted{Conversation: e.Conversation, Seq: e.Seq, Count: e.Count, At: e.At, Duplicate: e.Recalled})
	})
}

// same fails unless both ways to write a value agree.
func same(t *rapid.T, v any) {
	want, err1 := marshalSlowly(v)
	got, err2 := Marshal(v)
	if (err1 == nil) != (err2 == nil) || err1 == nil && !bytes.Equal(got, want) {
		t.Fatalf("written as %q, %v; by reflection %q, %v", got, err2, want, err1)
	}
}

// usual are posts as clients send them: they are read by hand.
var usual = []string{
	`{"conversation":"g.general","client_id":"0197c5c0-7d3c-7b1e-8000-5b6f3c2d1e0f","body":{"text":"good morning, everybody"}}`,
	`{"to":"bob","client_id":"a","body":{"text":"\ud83d\ude00 \"x\"","n":[1,2.5e3,{"a":null}]},"reply_to":12}`,
	" { \"body\" : {} ,\n\"client_id\":\"\\u0041\" , \"reply_to\" : 0 , \"conversation\" : \"d.ada.bob\" } ",
	`{"reply_to":9007199254740991,"body":{},"client_id":"x","to":"b"}`,
}

func TestUsualPostsAreReadByHand(t *testing.T) {
	for _, text := range usual {
		if !new(Post).read([]byte(text)) {
			t.Errorf("%s needs reflection", text)
		}
	}
}

// FuzzReadPost compares both ways to read a post: what is read by hand is what Decode would have read, and it would have taken it.
func FuzzReadPost(f *testing.F) {
	for _, text := range usual {
		f.Add([]byte(text))
	}
	for _, text := range notStrict {
		f.Add([]byte(text))
		f.Add([]byte(`{"to":"bob","client_id":"a","body":` + text + `}`))
	}
	for _, text := range []string{
		`{"to":"bob","client_id":"","body":{}}`, `{"to":"Bob","client_id":"a","body":{}}`, `{"to":null,"client_id":"a","body":{}}`, `{"to":"bob","To":"eve","client_id":"a","body":{}}`,
		`{"to":"bob","client_id":"a","body":null}`, `{"to":"bob","client_id":"a","body":[]}`, `{"to":"bob","client_id":"a","body":{},"reply_to":-1}`, `{"to":"bob","client_id":"a","body":{},"reply_to":1e3}`,
		`{"to":"bob","client_id":"a","body":{},"reply_to":01}`, `{"to":"bob","client_id":"a","body":{},"reply_to":9007199254740992}`, `{"to":"bob","client_id":"a","body":{},"from":"eve"}`,
		`{"conversation":"d.b.a","client_id":"a","body":{}}`, `{"to":"bob","to":"bob","client_id":"a","body":{}}`, `{"to":"bob","client_id":"a","body":{},}`, `{"to":"bob" "client_id":"a"}`, `{,"to":"bob"}`,
		`{"t\u006f":"bob","client_id":"a","body":{}}`, `{"to":"b\u006fb"}`, `{}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		quick, slow := Post{ReplyTo: 7}, Post{ReplyTo: 7}
		if !quick.read(data) {
			if !reflect.DeepEqual(quick, Post{ReplyTo: 7}) {
				t.Fatalf("%q is not read, and leaves %+v", data, quick)
			}
			return
		}
		if err := decodeSlowly(data, &slow); err != nil || !reflect.DeepEqual(quick, slow) {
			t.Fatalf("%q is read as %+v, by reflection as %+v, %v", data, quick, slow, err)
		}
	})
}

// TestTimesAreWrittenAsTheirLayoutSays compares the digits with those of package time.
func TestTimesAreWrittenAsTheirLayoutSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := Time{time.Unix(rapid.Int64Range(-70_000_000_000, 270_000_000_000).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))}
		if got, want := at.String(), at.UTC().Format(timeLayout); string(at.AppendTo(nil)) != want || got != want {
			t.Fatalf("%s instead of %s", at.AppendTo(nil), want)
		}
	})
}

// BenchmarkQuick writes a usual entry and the answer to it, by hand and by reflection.
func BenchmarkQuick(b *testing.B) {
	at := At(time.UnixMilli(1795187045123))
	e := Entry{
		Conversation: "d.ada.bob", Seq: 57, Count: 41, Kind: KindMessage, From: "ada", At: at,
		ClientID: "0199-a1b2c3d4e5f6", Body: json.RawMessage(`{"text":"a message of the usual length, neither short nor long"}`),
	}
	for name, v := range map[string]any{"entry": &e, "answer": Posted{Conversation: "d.ada.bob", Seq: 57, Count: 41, At: at}} {
		for how, write := range map[string]func(any) ([]byte, error){"by hand": Marshal, "by reflection": marshalSlowly} {
			b.Run(name+" "+how, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := write(v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
