package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
)

// MaxCallID is the largest length, in bytes, of a call's id that is a string.
const MaxCallID = 64

// Frame is a call as a client sends it.
type Frame struct {
	ID   json.RawMessage `json:"id,omitempty"` // as the client wrote it; empty = wants no answer
	Call string          `json:"call"`
	Data json.RawMessage `json:"data,omitempty"`

	names names // what ParseFrame saw in Data
}

// names are the members of a call's data that say which conversation it speaks of, decoded; nil where they are absent.
type names struct {
	conversation, to []byte
	odd              bool // one of them is no string
}

// ParseFrame reads one line; the frame's id and data are parts of it, not copies. The error is an *Error with BadFrame, or TooLarge where only the data is too long;
// the frame then has the id if it could be read.
func ParseFrame(line []byte) (Frame, error) {
	var f Frame
	s := scanner{data: line}
	strict, shaped := s.frame(&f)
	if !strict {
		return Frame{ID: salvageID(line)}, errScan
	}
	if !shaped {
		return Frame{ID: salvageID(line)}, Errorf(BadFrame, "A frame is an object with the fields id, call and data.")
	}
	if string(f.ID) == "null" {
		f.ID = nil
	}
	if !validCallID(f.ID) {
		return Frame{}, Errorf(BadFrame, "An id is an integer below 2^53 or a string of 1 to %d bytes.", MaxCallID)
	}
	if f.Call == "" {
		return Frame{ID: f.ID}, Errorf(BadFrame, "The frame names no call.")
	}
	if len(f.Data) > MaxData {
		return Frame{ID: f.ID, Call: f.Call}, Errorf(TooLarge, "The data has %d bytes; at most %d are allowed.", len(f.Data), MaxData)
	}
	return f, nil
}

// frame reads all of the line into f. It reports whether the line is strict JSON, without a key that differs from a frame's in case only, and whether
// it has the shape of a frame.
func (s *scanner) frame(f *Frame) (strict, shaped bool) {
	s.space()
	if s.eat('{') {
		strict, shaped = s.frameMembers(f)
	} else {
		strict = s.value(nil, 0)
	}
	s.space()
	return strict && s.pos == len(s.data), shaped
}

func (s *scanner) frameMembers(f *Frame) (strict, shaped bool) {
	var keys keySet
	shaped = true
	for {
		key, more, ok := s.member(&keys)
		if !more {
			return ok, shaped
		}
		start := s.pos
		switch string(key) {
		case "id":
			ok = s.value(nil, 1)
			f.ID = s.data[start:s.pos:s.pos]
		case "call":
			var call []byte
			var known bool
			call, known, ok = s.stringOrNull(1)
			f.Call = string(call)
			shaped = known
		case "data":
			ok = s.namesAndAll(&f.names)
			f.Data = s.data[start:s.pos:s.pos]
		default:
			ok = frameShape.allows(key) && s.value(nil, 1)
		}
		if !ok {
			return false, false
		}
	}
}

// namesAndAll scans a call's data and keeps what names its conversation.
func (s *scanner) namesAndAll(n *names) bool {
	if !s.eat('{') {
		return s.value(nil, 1)
	}
	var keys keySet
	for {
		key, more, ok := s.member(&keys)
		if !more {
			return ok
		}
		known := true
		switch string(key) {
		case "conversation":
			n.conversation, known, ok = s.stringOrNull(2)
		case "to":
			n.to, known, ok = s.stringOrNull(2)
		default:
			ok = s.value(nil, 2)
		}
		if !ok {
			return false
		}
		n.odd = n.odd || !known
	}
}

// stringOrNull scans a value and returns it decoded where it is a string, nil where it is null; known is false where it is neither.
func (s *scanner) stringOrNull(depth int) (text []byte, known, ok bool) {
	if s.pos < len(s.data) && s.data[s.pos] == '"' {
		text, ok = s.text()
		return text, true, ok
	}
	start := s.pos
	ok = s.value(nil, depth)
	return nil, string(s.data[start:s.pos]) == "null", ok
}

var frameShape = shapeOf(reflect.TypeFor[Frame]())

// salvageID returns the id of a broken line where it can be read without doubt, so that the client learns which call failed. It walks
// the top level only until it has seen one id.
func salvageID(line []byte) json.RawMessage {
	s := scanner{data: line}
	s.space()
	if !s.eat('{') {
		return nil
	}
	for {
		s.space()
		key, ok := s.text()
		if !ok {
			return nil
		}
		s.space()
		if !s.eat(':') {
			return nil
		}
		s.space()
		start := s.pos
		if !s.value(nil, 1) {
			return nil
		}
		if string(key) == "id" {
			id := json.RawMessage(bytes.Clone(line[start:s.pos]))
			if validCallID(id) {
				return id
			}
			return nil
		}
		s.space()
		if !s.eat(',') {
			return nil
		}
	}
}

func validCallID(id json.RawMessage) bool {
	switch {
	case len(id) == 0:
		return true
	case id[0] == '"':
		s := scanner{data: id}
		text, ok := s.text()
		return ok && len(text) > 0 && len(text) <= MaxCallID
	}
	n, err := strconv.ParseInt(string(id), 10, 64)
	return err == nil && math.Abs(float64(n)) < 1<<53
}

// AppendOK appends the frame of a successful answer and a newline to dst; data is one JSON value and is copied as it is.
func AppendOK(dst []byte, id json.RawMessage, data []byte) []byte {
	dst = append(append(append(dst, `{"id":`...), id...), `,"ok":`...)
	if len(data) == 0 {
		data = []byte("{}")
	}
	return append(append(dst, data...), '}', '\n')
}

// AppendError appends the frame of an error and a newline to dst. An empty id is left out, as in answers to lines that had none to read.
func AppendError(dst []byte, id json.RawMessage, err *Error) []byte {
	dst = append(dst, '{')
	if len(id) > 0 {
		dst = append(append(append(dst, `"id":`...), id...), ',')
	}
	body, _ := json.Marshal(err) // a struct of strings and a number always encodes
	return append(append(append(dst, `"error":`...), body...), '}', '\n')
}

// AppendEvent appends the frame of an event and a newline to dst; data is one JSON value and is copied as it is.
func AppendEvent(dst []byte, event Event, data []byte) []byte {
	dst = append(append(append(dst, `{"event":"`...), event...), `","data":`...)
	return append(append(dst, data...), '}', '\n')
}

// ServerFrame is an answer or an event as a client reads it.
type ServerFrame struct {
	ID    json.RawMessage `json:"id,omitempty"`
	OK    json.RawMessage `json:"ok,omitempty"`
	Error *Error          `json:"error,omitempty"`
	Event Event           `json:"event,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// Problem is an error over HTTP: application/problem+json (RFC 9457) with confab's code.
type Problem struct {
	Type         string `json:"type"`
	Title        string `json:"title"`
	Status       int    `json:"status"`
	Detail       string `json:"detail"`
	Code         Code   `json:"code"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

// ProblemOf returns the form that err takes over HTTP.
func ProblemOf(err *Error) Problem {
	info := err.Code.Info()
	return Problem{Type: "about:blank", Title: info.Meaning, Status: info.Status, Detail: err.Message, Code: err.Code, RetryAfterMS: err.RetryAfterMS}
}
