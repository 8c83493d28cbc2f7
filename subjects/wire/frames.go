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
}

// ParseFrame reads one line. The error is an *Error with BadFrame, or TooLarge where only the data is too long; the frame then has the id if it could be read.
func ParseFrame(line []byte) (Frame, error) {
	var f Frame
	if err := checkJSON(line, frameShape); err != nil {
		return Frame{ID: salvageID(line)}, err
	}
	if !isObject(line) || json.Unmarshal(line, &f) != nil {
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
