package wire

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/confab-im/confab/subjects"
)

// The bodies that every message passes through are read and written here by hand where they have their usual form: with package encoding/json that costs more than
// all else that is done with them. What is not in that form, or wrong in any way, is left to Decode and Marshal, which say what is wrong.

// quickReader is a body that Decode reads by hand: read reports whether it has read all of data. Where it has not, the body is as it was.
type quickReader interface {
	read(data []byte) bool
}

// quickWriter is a body that Marshal writes by hand: appendTo reports whether it did.
type quickWriter interface {
	appendTo(b []byte) ([]byte, bool)
}

// read reads a post. Its body is a part of data.
func (p *Post) read(data []byte) bool {
	s := scanner{data: data}
	read, seen := *p, 0
	s.space()
	if !s.eat('{') {
		return false
	}
	for more := true; more; {
		s.space()
		key, ok := s.text()
		s.space()
		if !ok || !s.eat(':') {
			return false
		}
		s.space()
		field := read.field(&s, key)
		if field == 0 || seen&field != 0 { // wrong, or there twice
			return false
		}
		seen |= field
		s.space()
		more = s.eat(',')
	}
	if !s.eat('}') {
		return false
	}
	if s.space(); s.pos != len(data) {
		return false
	}
	*p = read
	return true
}

// field reads the value of a field and returns a bit that stands for it, or 0 where it is none or needs a closer look.
func (p *Post) field(s *scanner, key []byte) int {
	start := s.pos
	switch string(key) {
	case "conversation":
		text, ok := s.text()
		id, err := subjects.ParseConversation(string(text))
		if p.Conversation = id; ok && err == nil {
			return 1
		}
	case "to":
		text, ok := s.text()
		id, err := subjects.ParseUser(string(text))
		if p.To = id; ok && err == nil {
			return 2
		}
	case "client_id":
		text, ok := s.text()
		if p.ClientID = string(text); ok && len(text) > 0 {
			return 4
		}
	case "body":
		if s.pos < len(s.data) && s.data[s.pos] == '{' && s.value(nil, 1) {
			p.Body = s.data[start:s.pos:s.pos]
			return 8
		}
	case "reply_to":
		if n, ok := s.seq(); ok {
			p.ReplyTo = n
			return 16
		}
	}
	return 0
}

// seq reads a number that is a seq as it is written.
func (s *scanner) seq() (n Seq, ok bool) {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		n = 10*n + Seq(s.data[s.pos]-'0')
		if s.pos++; n > MaxSeq {
			return 0, false
		}
	}
	if s.pos == start || s.data[start] == '0' && s.pos > start+1 {
		return 0, false
	}
	// A fraction or an exponent makes another number of it.
	return n, s.pos == len(s.data) || s.data[s.pos] != '.' && s.data[s.pos]|0x20 != 'e'
}

// appendTo writes the answer to a post.
func (p Posted) appendTo(b []byte) ([]byte, bool) {
	if !verbatim(p.Conversation) {
		return b, false
	}
	b = append(append(b, `{"conversation":"`...), p.Conversation...)
	b = strconv.AppendUint(append(b, `","seq":`...), uint64(p.Seq), 10)
	b = strconv.AppendUint(append(b, `,"count":`...), p.Count, 10)
	b = append(p.At.AppendTo(append(b, `,"at":"`...)), '"')
	if p.Duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	return append(b, '}'), true
}

// appendTo writes an entry as it is stored, into which nothing is folded.
func (e *Entry) appendTo(b []byte) ([]byte, bool) {
	if !verbatim(e.Conversation) || !verbatim(e.Kind) || !verbatim(e.From) || !verbatim(e.ClientID) || e.EditedAt != nil || e.Recalled || e.Reactions != nil {
		return b, false
	}
	b = append(append(b, `{"conversation":"`...), e.Conversation...)
	b = strconv.AppendUint(append(b, `","seq":`...), uint64(e.Seq), 10)
	b = strconv.AppendUint(append(b, `,"count":`...), e.Count, 10)
	b = append(append(b, `,"kind":"`...), e.Kind...)
	b = append(append(b, `","from":"`...), e.From...)
	b = append(e.At.AppendTo(append(b, `","at":"`...)), '"')
	if e.ClientID != "" {
		b = append(append(append(b, `,"client_id":"`...), e.ClientID...), '"')
	}
	if e.Target != 0 {
		b = strconv.AppendUint(append(b, `,"target":`...), uint64(e.Target), 10)
	}
	if e.ReplyTo != 0 {
		b = strconv.AppendUint(append(b, `,"reply_to":`...), uint64(e.ReplyTo), 10)
	}
	if len(e.Body) > 0 {
		var ok bool
		if b, ok = appendCompact(append(b, `,"body":`...), e.Body); !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}

// quickSize is how much room an entry or an answer needs beside its body, mostly, in bytes.
const quickSize = 256

// sizeOf returns how much room to begin with.
func sizeOf(v quickWriter) int {
	if e, ok := v.(*Entry); ok {
		return quickSize + len(e.Body)
	}
	return quickSize / 2
}

// verbatim reports whether a text stands in JSON as it is.
func verbatim[T ~string](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return true
}

// appendCompact appends JSON without the white space between its parts.
func appendCompact(b []byte, raw json.RawMessage) ([]byte, bool) {
	if CheckJSON(raw) == nil && isCompact(raw) {
		return append(b, raw...), true
	}
	out := bytes.NewBuffer(b)
	if err := json.Compact(out, raw); err != nil {
		return b, false
	}
	return out.Bytes(), true
}

// isCompact reports whether valid JSON has no white space outside of strings.
func isCompact(raw []byte) bool {
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\':
			i++ // only strings have it, and nothing that follows it ends one
		case c <= ' ' && !quoted:
			return false
		}
	}
	return true
}
