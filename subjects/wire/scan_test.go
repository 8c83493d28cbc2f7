package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// notStrict lists JSON, or what looks like it, that some reader understands differently from another.
var notStrict = map[string]string{
	"nothing": "", "space": " ", "doubled key": `{"a":1,"a":2}`, "doubled key in other spelling": `{"a":1,"\u0061":2}`, "doubled key below": `[{"x":{"a":1,"b":2,"a":3}}]`,
	"trailing data": `{} {}`, "trailing letter": `{}x`, "trailing comma": `{"a":1,}`, "trailing comma in array": `[1,]`, "open object": `{"a":1`, "open string": `{"a":"`,
	"open array": `[1`, "no value": `{"a":}`, "no colon": `{"a" 1}`, "no key": `{1:2}`, "single quotes": `{'a':1}`, "comment": `{/**/}`, "byte order mark": "\ufeff{}",
	"lone high surrogate": `{"a":"\ud800"}`, "lone low surrogate": `{"a":"\udc00"}`, "swapped surrogates": `{"a":"\udc00\ud800"}`, "half a pair": `{"a":"\ud800\u0041"}`,
	"surrogate in a key": `{"\ud800":1}`, "invalid UTF-8": "{\"a\":\"\xff\"}", "cut UTF-8": "{\"a\":\"\xe2\x82\"}", "encoded surrogate": "{\"a\":\"\xed\xa0\x80\"}",
	"overlong": "{\"a\":\"\xc0\xaf\"}", "beyond Unicode": "{\"a\":\"\xf4\x90\x80\x80\"}", "raw newline": "{\"a\":\"\n\"}", "raw NUL": "{\"a\":\"\x00\"}", "bad escape": `{"a":"\x41"}`,
	"short escape": `{"a":"\u12"}`, "1e400": `{"a":1e400}`, "1e-400": `{"a":1e-400}`, "many digits": `{"a":` + strings.Repeat("9", 400) + `}`, "leading zero": `[01]`,
	"plus": `[+1]`, "bare point": `[1.]`, "no digit": `[.5]`, "minus": `[-]`, "hex": `[0x1]`, "bare exponent": `[1e]`, "NaN": `[NaN]`, "Infinity": `[Infinity]`, "True": `[True]`,
	"17 levels": strings.Repeat("[", 17) + strings.Repeat("]", 17), "17 objects": strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17),
	"form feed": "{\f}", "no-break space": "{\u00a0}", "two values": `1 2`, "NUL after": "{}\x00",
}

func TestWhatReadersDifferAboutIsRefused(t *testing.T) {
	for name, text := range notStrict {
		if err := CheckJSON([]byte(text)); CodeOf(err) != BadFrame {
			t.Errorf("%s: %v", name, err)
		}
		if len(text) == 0 {
			continue
		}
		var v struct{ A any }
		if err := Decode([]byte(text), &v); CodeOf(err) != BadFrame {
			t.Errorf("%s decoded: %v", name, err)
		}
		line := `{"id":7,"call":"ping","data":` + text + `}`
		if frame, err := ParseFrame([]byte(line)); CodeOf(err) != BadFrame {
			t.Errorf("%s in a frame: %+v, %v", name, frame, err)
		} else if string(frame.ID) != "7" {
			t.Errorf("%s in a frame: the id %q before it was not read", name, frame.ID)
		}
	}
}

func TestStrictJSONPasses(t *testing.T) {
	for _, text := range []string{
		`{}`, ` {"a" : [ 1 , -0 , 0.5e+10, 1E-99, true, false, null, "x" ] } `, `"\u0000\ud83d\ude00\n\/"`, `{"a":{"a":1},"b":{"a":2}}`, `{"":1}`, "[\"\u2028\ufffd\U0010ffff\"]",
		strings.Repeat("[", 16) + strings.Repeat("]", 16), "\t\r\n1", `{"A":1,"a":2}`,
	} {
		if err := CheckJSON([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestScanTimeIsLinear scans inputs that make naive scanners quadratic; each takes well under a millisecond, so the bound only tells
// linear from quadratic on a busy machine.
func TestScanTimeIsLinear(t *testing.T) {
	const size = 64 << 10
	long := strings.Repeat("k", 4000)
	var keys, similar, escaped, small strings.Builder
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(&keys, `"%d":0,`, i)
	}
	for i := 0; similar.Len() < size-5000; i++ {
		fmt.Fprintf(&similar, `"%s%d":0,`, long, i)
	}
	for escaped.Len() < size {
		escaped.WriteString(`\ud83d\ude00`)
	}
	for small.Len() < size {
		small.WriteString(`{"a":0,"b":{}},`)
	}
	for name, text := range map[string]string{
		"many keys":       "{" + strings.TrimSuffix(keys.String(), ",") + "}",
		"long keys":       "{" + strings.TrimSuffix(similar.String(), ",") + "}",
		"one key":         `{"` + strings.Repeat("k", size) + `":0}`,
		"escaped key":     `{"` + escaped.String() + `":0}`,
		"small objects":   "[" + strings.TrimSuffix(small.String(), ",") + "]",
		"elements":        "[" + strings.Repeat("0,", size/2) + "0]",
		"brackets":        strings.Repeat("[", size),
		"quotes":          strings.Repeat(`"`, size),
		"backslashes":     `"` + strings.Repeat(`\`, size),
		"spaces":          strings.Repeat(" ", size),
		"digits":          strings.Repeat("1", size),
		"open ids":        strings.Repeat(`{"id":`, size/6),
		"broken frame":    `{"id":[` + strings.Repeat(`[],`, size/3) + `x],"call":"x"}`,
		"escaped in case": `{"` + strings.Repeat("ſ", size/2) + `":0}`,
	} {
		best := time.Hour
		for range 5 {
			start := time.Now()
			_ = CheckJSON([]byte(text))
			_, _ = ParseFrame([]byte(text))
			var post Post
			_ = Decode([]byte(text), &post)
			best = min(best, time.Since(start))
		}
		if best > 100*time.Millisecond {
			t.Errorf("%s: %v for %d bytes", name, best, len(text))
		}
	}
}

// reference says whether text is strict by encoding/json and a walk over its tokens: slow, and independent of the scanner.
func reference(text []byte) bool {
	if !json.Valid(text) || !utf8.Valid(text) || loneSurrogate(text) {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	type level struct {
		keys  map[string]bool // nil in an array
		value bool            // in an object: a value comes next
	}
	var levels []level
	for {
		token, err := decoder.Token()
		if err != nil {
			return true // the end, since the text is valid
		}
		top := len(levels) - 1
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			levels = levels[:top]
			continue
		}
		if top >= 0 && levels[top].keys != nil {
			if !levels[top].value {
				key := token.(string)
				if levels[top].keys[key] {
					return false
				}
				levels[top].keys[key] = true
			}
			levels[top].value = !levels[top].value
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{keys: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		}
		if len(levels) > MaxDepth {
			return false
		}
	}
}

// loneSurrogate looks for escapes of half a pair in valid JSON.
func loneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		first := strings.ToLower(string(text[i+1 : i+5]))
		i += 4
		if first < "d800" || first > "dfff" {
			continue
		}
		if first >= "dc00" || len(text) < i+7 || text[i+1] != '\\' || text[i+2] != 'u' {
			return true
		}
		second := strings.ToLower(string(text[i+3 : i+7]))
		if second < "dc00" || second > "dfff" {
			return true
		}
		i += 6
	}
	return false
}

// hugeNumber reports whether text has a number that may be beyond a float64, by the same generous form that the scanner documents.
func hugeNumber(text []byte) bool {
	digits, exponent := 0, false
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			digits++
			if (exponent && digits > 2) || digits > maxDigits {
				return true
			}
		case c == 'e' || c == 'E':
			exponent, digits = true, 0
		case c != '+' && c != '-':
			exponent, digits = false, 0
		}
	}
	return false
}

func FuzzCheckJSON(f *testing.F) {
	for _, text := range notStrict {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"a":[1,2.5e-3,"\ud83d\ude00",{"b":null}],"c":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		accepted, strict := CheckJSON(text) == nil, reference(text)
		if accepted && !strict {
			t.Fatalf("%q was accepted", text)
		}
		if !accepted && strict && !hugeNumber(text) {
			t.Fatalf("%q was refused", text)
		}
		if accepted {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				t.Fatalf("%q was accepted and does not decode: %v", text, err)
			}
		}
	})
}

func TestErrorsDoNotRepeatTheInput(t *testing.T) {
	secret := "hunter2hunter2"
	var login Login
	for _, text := range []string{`{"user":"ada","password":"` + secret + `",}`, `{"user":"` + secret + `!","password":"x"}`, `{"user":["` + secret + `"]}`, `{"password":` + `{"` + secret + `":1}}`} {
		err := Decode([]byte(text), &login)
		var e *Error
		if !errors.As(err, &e) || strings.Contains(e.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func BenchmarkDecodePost(b *testing.B) {
	data := []byte(`{"conversation":"g.general","client_id":"0197c5c0-7d3c-7b1e-8000-5b6f3c2d1e0f","body":{"text":"good morning, everybody"}}`)
	b.ReportAllocs()
	for b.Loop() {
		var post Post
		if err := Decode(data, &post); err != nil {
			b.Fatal(err)
		}
	}
}
