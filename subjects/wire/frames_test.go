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

// slowFrame reads a line with encoding/json and the strict scanner, and with neither ParseFrame nor its walk over the members.
func slowFrame(line []byte) (Frame, error) {
	var f struct {
		ID, Data json.RawMessage
		Call     string
	}
	if err := checkJSON(line, frameShape); err != nil {
		return Frame{ID: salvageID(line)}, err
	}
	if !isObject(line) || json.Unmarshal(line, &f) != nil {
		return Frame{ID: salvageID(line)}, Errorf(BadFrame, "A frame is an object with the fields id, call and data.")
	}
	if string(f.ID) == "null" {
		f.ID = nil
	}
	switch {
	case !validCallID(f.ID):
		return Frame{}, Errorf(BadFrame, "An id is an integer below 2^53 or a string of 1 to %d bytes.", MaxCallID)
	case f.Call == "":
		return Frame{ID: f.ID}, Errorf(BadFrame, "The frame names no call.")
	case len(f.Data) > MaxData:
		return Frame{ID: f.ID, Call: f.Call}, Errorf(TooLarge, "The data has %d bytes; at most %d are allowed.", len(f.Data), MaxData)
	}
	return Frame{ID: f.ID, Call: f.Call, Data: f.Data}, nil
}

// slowLane finds the conversation of a call's data with encoding/json, which takes names in any case; exact is false where it met one in another.
func slowLane(data []byte, from subjects.User) (lane string, exact bool) {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(data, &members) // nothing where it is no object
	for name := range members {
		if (strings.EqualFold(name, "conversation") || strings.EqualFold(name, "to")) && name != "conversation" && name != "to" {
			return "", false
		}
	}
	var named struct {
		Conversation subjects.Conversation
		To           subjects.User
	}
	if len(data) == 0 || json.Unmarshal(data, &named) != nil {
		return "", true
	}
	if named.To != "" && named.Conversation == "" {
		named.Conversation, _ = subjects.Direct(from, named.To)
	}
	return string(named.Conversation), true
}

// FuzzFramesAsBefore compares ParseFrame and Frame.Lane with a reader that decodes with encoding/json: the same frames, errors and sentences.
func FuzzFramesAsBefore(f *testing.F) {
	for _, text := range notStrict {
		f.Add([]byte(`{"id":7,"call":"send.post","data":` + text + `}`))
		f.Add([]byte(text))
	}
	for _, line := range []string{
		`{"id":"x","call":"hello","data":{"token":"t","device":"web-1"}}`, ` { "data" : {"to":"bob"} , "call":"send\u002epost","id" : -1 } `, `{"\u0069d":1,"call":"x"}`,
		`{"call":"x","data":{"conversation":"d.ada.bob","to":"eve"}}`, `{"call":"x","data":{"conversation":"d.bob.ada"}}`, `{"call":"x","data":{"conversation":"","to":"bob"}}`,
		`{"call":"x","data":{"conversation":null,"to":"bob"}}`, `{"call":"x","data":{"conversation":5,"to":"bob"}}`, `{"call":"x","data":{"to":"ada"}}`, `{"call":"x","data":{"to":"A b"}}`,
		`{"call":"x","data":{"\u0074o":"\u0062ob"}}`, `{"call":"x","data":{"To":"bob"}}`, `{"call":"x","data":[{"to":"bob"}]}`, `{"call":"x","data":{"to":{"to":"bob"}}}`,
		`{"call":null}`, `{"id":null,"call":"x","data":null}`, `{"call":["x"]}`, `{"cALL":"x"}`, `{"call":"x","Data":{}}`, `[1]`, `7`, `"x"`, `{"id":7,"id":7,"call":"x"}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := ParseFrame(line)
		want, wantErr := slowFrame(line)
		if !bytes.Equal(got.ID, want.ID) || got.Call != want.Call || !bytes.Equal(got.Data, want.Data) || (got.Data == nil) != (want.Data == nil) {
			t.Fatalf("%q is read as %+v instead of %+v", line, got, want)
		}
		if (err == nil) != (wantErr == nil) || err != nil && (CodeOf(err) != CodeOf(wantErr) || err.Error() != wantErr.Error()) {
			t.Fatalf("%q: %v instead of %v", line, err, wantErr)
		}
		if err != nil {
			return
		}
		if lane, exact := slowLane(got.Data, "ada"); exact && got.Lane("ada") != lane {
			t.Fatalf("%q has the lane %q instead of %q", line, got.Lane("ada"), lane)
		}
	})
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
