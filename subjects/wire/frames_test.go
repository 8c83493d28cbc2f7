package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/confab-im/confab/subjects"
)

func TestFramesKeepTheIDOfTheCall(t *testing.T) {
	for line, want := range map[string]string{
		`{"id":7,"call":"ping"}`: "7", `{"id":"a-1","call":"ping","data":{}}`: `"a-1"`, `{"call":"signal"}`: "", `{"id":null,"call":"signal"}`: "", `{"call":"ping","id":-3}`: "-3",
		`{"id":9007199254740991,"call":"ping"}`: "9007199254740991", `{"id":0,"call":"ping","more":{"id":1}}`: "0", ` {"id" : 7 , "call":"ping"} ` + "\r": "7",
		`{"id":"` + strings.Repeat("x", 64) + `","call":"ping"}`: `"` + strings.Repeat("x", 64) + `"`,
	} {
		frame, err := ParseFrame([]byte(line))
		if err != nil || string(frame.ID) != want || frame.Call == "" {
			t.Errorf("%s: %+v, %v", line, frame, err)
		}
	}
}

func TestBrokenFramesAreAnsweredWithTheirIDWhereItCanBeRead(t *testing.T) {
	for line, want := range map[string]string{
		``: "", `[]`: "", `7`: "", `null`: "", `"x"`: "", `{`: "", `{}`: "", `{"id":7}`: "7", `{"id":7,"call":""}`: "7", `{"id":7,"call":5}`: "7", `{"id":7,"call":"x","data":{`: "7",
		`{"id":7,"call":"x"} {}`: "7", `{"call":"x","data":{"a":1,"a":2},"id":7}`: "", `{"id":7,"call":"x","data":{"a":1,"a":2}}`: "7", `{"data":{"id":1},"id":7,"call":5}`: "7",
		`{"id":7,"Call":"x"}`: "7", `{"ID":7,"call":"x"}`: "", `{"id":"","call":"x"}`: "", `{"id":1.5,"call":"x"}`: "", `{"id":1e3,"call":"x"}`: "", `{"id":true,"call":"x"}`: "",
		`{"id":{},"call":"x"}`: "", `{"id":[7],"call":"x"}`: "", `{"id":9007199254740992,"call":"x"}`: "", `{"id":-9007199254740992,"call":"x"}`: "", `{"id":99999999999999999999,"call":"x"}`: "",
		`{"id":"` + strings.Repeat("x", 65) + `","call":"x"}`: "", `{"id":7,"id":8,"call":"x"}`: "7",
	} {
		frame, err := ParseFrame([]byte(line))
		if CodeOf(err) != BadFrame || string(frame.ID) != want {
			t.Errorf("%s: id %q, %v", line, frame.ID, err)
		}
	}
}

func TestWrittenFramesAreOneLineEach(t *testing.T) {
	var out []byte
	out = AppendOK(out, json.RawMessage("7"), []byte(`{"seq":1}`))
	out = AppendOK(out, json.RawMessage(`"x"`), nil)
	out = AppendError(out, json.RawMessage("8"), &Error{Code: RateLimited, Message: "Slow\ndown.", RetryAfterMS: 5})
	out = AppendError(out, nil, errScan)
	out = AppendEvent(out, EventHead, []byte(`{"conversation":"g.a","seq":1}`))
	want := []ServerFrame{
		{ID: json.RawMessage("7"), OK: json.RawMessage(`{"seq":1}`)},
		{ID: json.RawMessage(`"x"`), OK: json.RawMessage("{}")},
		{ID: json.RawMessage("8"), Error: &Error{RateLimited, "Slow\ndown.", 5}},
		{Error: errScan},
		{Event: EventHead, Data: json.RawMessage(`{"conversation":"g.a","seq":1}`)},
	}
	lines := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	for i, line := range lines {
		expected, _ := Marshal(want[i])
		var got ServerFrame
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if again, _ := Marshal(got); !bytes.Equal(again, expected) {
			t.Errorf("%s instead of %s", again, expected)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, text := range notStrict {
		f.Add([]byte(`{"id":7,"call":"send.post","data":` + text + `}`))
	}
	f.Add([]byte(`{"id":"x","call":"hello","data":{"token":"t","device":"web-1"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		frame, err := ParseFrame(line)
		if len(frame.ID) > 0 {
			if !json.Valid(frame.ID) || !validCallID(frame.ID) || bytes.ContainsAny(frame.ID, "\n\r") {
				t.Fatalf("%q has the id %q", line, frame.ID)
			}
			if answer := AppendOK(nil, frame.ID, nil); !json.Valid(answer) || bytes.Count(answer, []byte("\n")) != 1 {
				t.Fatalf("%q is answered %q", line, answer)
			}
		}
		if err != nil {
			if code := CodeOf(err); code != BadFrame && code != TooLarge {
				t.Fatalf("%q: %v", line, err)
			}
			return
		}
		if frame.Call == "" || CheckJSON(line) != nil || len(frame.Data) > MaxData {
			t.Fatalf("%q was accepted", line)
		}
		if _, _, err := subjects.ParseCall(frame.Call); err == nil && !json.Valid(line) {
			t.Fatalf("%q is no JSON", line)
		}
	})
}
