package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"
)

func TestTimesAreWrittenInUTCWithMilliseconds(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-20T15:04:05.123Z": "2026-11-20T15:04:05.123Z", "2026-11-20T15:04:05Z": "2026-11-20T15:04:05.000Z", "2026-11-20T16:04:05.1239+01:00": "2026-11-20T15:04:05.123Z",
		"0001-01-01T00:00:00Z": "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z": "9999-12-31T23:59:59.999Z",
	} {
		var got Time
		if err := json.Unmarshal([]byte(`"`+text+`"`), &got); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{`""`, `"yesterday"`, `7`, `{}`, `"2026-11-20"`, `"2026-11-20T15:04:05"`, `"2026-11-20 15:04:05Z"`, `"2026-13-20T15:04:05Z"`, `"2026-11-20T1:04:05Z"`, `"2026-11-20T15:04:05,5Z"`,
		`"0000-01-01T00:00:00Z"`, `"0001-01-01T00:00:00+01:00"`, `"9999-12-31T23:59:59-01:00"`, `"2026-11-20T15:04:05+99:99"`} {
		var got Time
		if err := json.Unmarshal([]byte(text), &got); CodeOf(err) != BadData {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

func TestSeqsBeyondTheRangeNameNothing(t *testing.T) {
	for text, want := range map[string]Seq{
		"0": 0, "1": 1, "9007199254740991": MaxSeq, "9007199254740992": MaxSeq, "18446744073709551615": MaxSeq, "99999999999999999999999": MaxSeq, "-1": 0, "-0": 0, "-99999999999999999999": 0, "null": 7,
	} {
		got := Seq(7)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{`"1"`, "1.0", "1e3", "true", "{}", "[]", `""`, "-1.5"} {
		var got Seq
		if err := json.Unmarshal([]byte(text), &got); CodeOf(err) != BadData {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, text := range []string{`"2026-11-20T15:04:05.123Z"`, `"0000-12-31T23:59:59-23:59"`, "7", "-1", "18446744073709551616", "null", "1e3", `"\u0031"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var at, again Time
		if json.Unmarshal(text, &at) == nil {
			written, err := json.Marshal(at)
			if err != nil || (string(text) != "null" && (json.Unmarshal(written, &again) != nil || !again.Equal(at.Time))) || len(written) != len(timeLayout)+2 {
				t.Fatalf("%q became %q, %v", text, written, err)
			}
		}
		var seq, same Seq
		if json.Unmarshal(text, &seq) == nil {
			written, err := json.Marshal(seq)
			if err != nil || json.Unmarshal(written, &same) != nil || same != seq || seq > MaxSeq {
				t.Fatalf("%q became %q, %v", text, written, err)
			}
		}
		_ = new(Seq).UnmarshalJSON(text)
		_ = new(Time).UnmarshalJSON(text)
	})
}

func TestCodesAreTheClosedSetOfTheProtocol(t *testing.T) {
	want := []string{
		"bad_frame 400", "bad_id 400", "bad_data 400", "too_large 413", "unauthenticated 401", "token_expired 401", "token_in_query 400", "forbidden 403", "not_found 404", "conflict 409",
		"id_conflict 409", "retry_window_expired 409", "gone 410", "rate_limited 429", "unknown_call 404", "unavailable 503?", "timeout 504?", "storage_unavailable 503?", "internal 500?",
	}
	var got []string
	for _, info := range Codes {
		text := fmt.Sprintf("%s %d", info.Code, info.Status)
		if info.Unknown {
			text += "?"
		}
		got = append(got, text)
		if http.StatusText(info.Status) == "" || info.Meaning == "" || info.Remedy == "" || !info.Code.Known() || info.Code.Info() != info {
			t.Errorf("%+v", info)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if Code("made_up").Known() || Code("made_up").Info().Code != Internal {
		t.Error("a code outside the set is not explained as internal")
	}
	sentence := regexp.MustCompile(`^[A-Z].*\.$`)
	for i, c := range CloseCodes {
		if !sentence.MatchString(c.Meaning) || (i > 0 && c.Code <= CloseCodes[i-1].Code) {
			t.Errorf("%+v", c)
		}
		if c.Code.Reconnect() != (c.Code < 4500) {
			t.Errorf("reconnect after %d: %v", c.Code, c.Code.Reconnect())
		}
	}
}

func TestErrorsCarryTheirCode(t *testing.T) {
	wrapped := fmt.Errorf("append to g.a: %w", Errorf(NotFound, "There is no %q.", "g.a"))
	if CodeOf(wrapped) != NotFound || !errors.Is(wrapped, &Error{Code: NotFound}) || errors.Is(wrapped, &Error{Code: Gone}) {
		t.Errorf("%v has the code %s", wrapped, CodeOf(wrapped))
	}
	if CodeOf(nil) != "" || CodeOf(errors.New("x")) != Internal {
		t.Error("nil has a code, or an error without one is not internal")
	}
	for wait, want := range map[time.Duration]int64{0: 1, time.Nanosecond: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second: 1000} {
		if e := RetryAfter(RateLimited, wait, "x"); e.RetryAfterMS != want {
			t.Errorf("%v: %d ms", wait, e.RetryAfterMS)
		}
	}
	problem := ProblemOf(RetryAfter(RateLimited, time.Second, "Slow down."))
	if problem.Status != 429 || problem.Code != RateLimited || problem.Detail != "Slow down." || problem.RetryAfterMS != 1000 {
		t.Errorf("%+v", problem)
	}
}
