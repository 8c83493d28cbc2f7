package wire

import (
	"unicode/utf8"
)

// MaxDepth is how deep JSON from outside may nest.
const MaxDepth = 16

// scanner walks JSON once and refuses what decoders differ about: doubled keys, trailing data, lone surrogates, invalid UTF-8 and
// deep nesting. Two programs that read the same bytes must not understand different things.
type scanner struct {
	data    []byte
	pos     int
	emptyID bool // an id that the shape names is an empty string
}

var errScan = Errorf(BadFrame, "This is not strict JSON: check for doubled keys, trailing data, nesting deeper than %d, lone surrogates and invalid UTF-8.", MaxDepth)

// errEmptyID is what an empty id gets, like every other string that is no id.
var errEmptyID = Errorf(BadID, "An id is an empty string.")

// CheckJSON returns an *Error with BadFrame unless data is exactly one strict JSON value: no doubled keys in one object, no more than
// MaxDepth levels, no lone surrogate, invalid UTF-8, byte order mark or number beyond what a float64 holds, and nothing but white space
// around it. It runs in linear time.
func CheckJSON(data []byte) error { return checkJSON(data, nil) }

// checkJSON is CheckJSON; shape, if not nil, also refuses keys that differ from a field's name in case only, and empty ids (BadID).
func checkJSON(data []byte, s *shape) error {
	sc := scanner{data: data}
	sc.space()
	if !sc.value(s, 0) {
		return errScan
	}
	sc.space()
	if sc.pos != len(data) {
		return errScan
	}
	if sc.emptyID {
		return errEmptyID
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// eat advances over b if it comes next.
func (s *scanner) eat(b byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == b {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) value(sh *shape, depth int) bool {
	if s.pos >= len(s.data) {
		return false
	}
	switch s.data[s.pos] {
	case '{':
		return depth < MaxDepth && s.object(sh, depth+1)
	case '[':
		return depth < MaxDepth && s.array(sh, depth+1)
	case '"':
		_, ok := s.text()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) literal(word string) bool {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return false
	}
	s.pos += len(word)
	return true
}

func (s *scanner) object(sh *shape, depth int) bool {
	s.pos++
	var keys keySet
	for {
		key, more, ok := s.member(&keys)
		if !more {
			return ok
		}
		if !sh.allows(key) {
			return false
		}
		field, start := sh.field(key), s.pos
		if !s.value(field, depth) {
			return false
		}
		if field != nil && field.id && string(s.data[start:s.pos]) == `""` {
			s.emptyID = true
		}
	}
}

// member advances to the value of the next member of an object, behind the brace or the value before it, and returns its key. Where there is no other
// member, more is false; ok then says whether the object ended as it should.
func (s *scanner) member(keys *keySet) (key []byte, more, ok bool) {
	s.space()
	if s.eat('}') {
		return nil, false, true
	}
	if keys.n > 0 {
		if !s.eat(',') {
			return nil, false, false
		}
		s.space()
	}
	if key, ok = s.text(); !ok || !keys.add(key) {
		return nil, false, false
	}
	s.space()
	if !s.eat(':') {
		return nil, false, false
	}
	s.space()
	return key, true, true
}

func (s *scanner) array(sh *shape, depth int) bool {
	s.pos++
	s.space()
	if s.eat(']') {
		return true
	}
	for {
		if !s.value(sh.element(), depth) {
			return false
		}
		s.space()
		if s.eat(']') {
			return true
		}
		if !s.eat(',') {
			return false
		}
		s.space()
	}
}

// plain are the bytes that stand for themselves in a string, and alone.
var plain = func() (is [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		is[c] = c != '"' && c != '\\'
	}
	return is
}()

// text scans a string and returns its decoded bytes; they alias the input where there is no escape.
func (s *scanner) text() ([]byte, bool) {
	if !s.eat('"') {
		return nil, false
	}
	start := s.pos
	for s.pos < len(s.data) && plain[s.data[s.pos]] {
		s.pos++
	}
	var decoded []byte // nil until the first escape
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			end := s.pos
			s.pos++
			if decoded != nil {
				return decoded, true
			}
			return s.data[start:end], true
		case c < 0x20:
			return nil, false
		case c == '\\':
			if decoded == nil {
				decoded = append(make([]byte, 0, 2*(s.pos-start)+16), s.data[start:s.pos]...)
			}
			var ok bool
			if decoded, ok = s.escape(decoded); !ok {
				return nil, false
			}
		default:
			size := 1
			if c >= utf8.RuneSelf {
				var r rune
				if r, size = utf8.DecodeRune(s.data[s.pos:]); r == utf8.RuneError && size == 1 {
					return nil, false
				}
			}
			if decoded != nil {
				decoded = append(decoded, s.data[s.pos:s.pos+size]...)
			}
			s.pos += size
		}
	}
	return nil, false
}

// escape decodes one escape at the position of its backslash and appends it to out.
func (s *scanner) escape(out []byte) ([]byte, bool) {
	if s.pos+1 >= len(s.data) {
		return nil, false
	}
	c := s.data[s.pos+1]
	s.pos += 2
	switch c {
	case '"', '\\', '/':
		return append(out, c), true
	case 'b':
		return append(out, '\b'), true
	case 'f':
		return append(out, '\f'), true
	case 'n':
		return append(out, '\n'), true
	case 'r':
		return append(out, '\r'), true
	case 't':
		return append(out, '\t'), true
	case 'u':
		r, ok := s.hex()
		if !ok || (r >= 0xDC00 && r <= 0xDFFF) {
			return nil, false
		}
		if r >= 0xD800 && r <= 0xDBFF {
			if !s.eat('\\') || !s.eat('u') {
				return nil, false
			}
			low, ok := s.hex()
			if !ok || low < 0xDC00 || low > 0xDFFF {
				return nil, false
			}
			r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
		}
		return utf8.AppendRune(out, r), true
	}
	return nil, false
}

func (s *scanner) hex() (rune, bool) {
	if s.pos+4 > len(s.data) {
		return 0, false
	}
	var r rune
	for _, c := range s.data[s.pos : s.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.pos += 4
	return r, true
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// maxDigits bounds the digits before a number's point: with an exponent of two digits, every number is below 1e300.
const maxDigits = 200

// number scans a JSON number. Readers disagree about 1e400 (an error, infinity, or the largest float), so what is larger than a float64
// can hold is refused by its form: more than maxDigits digits before the point, or more than two in the exponent.
func (s *scanner) number() bool {
	s.eat('-')
	start := s.pos
	if !s.eat('0') && (!s.digits() || s.pos-start > maxDigits) {
		return false
	}
	if s.eat('.') && !s.digits() {
		return false
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if !s.eat('+') {
			s.eat('-')
		}
		start = s.pos
		return s.digits() && s.pos-start <= 2
	}
	return true
}

// keySet finds doubled keys: by comparison while there are few, by a map beyond, so that the cost stays linear.
type keySet struct {
	few  [16][]byte
	n    int
	many map[string]struct{}
}

// add reports whether key was not there yet.
func (k *keySet) add(key []byte) bool {
	if k.many == nil {
		for _, seen := range k.few[:k.n] {
			if string(seen) == string(key) {
				return false
			}
		}
		if k.n < len(k.few) {
			k.few[k.n] = key
			k.n++
			return true
		}
		k.many = make(map[string]struct{}, 64)
		for _, seen := range k.few {
			k.many[string(seen)] = struct{}{}
		}
	}
	if _, ok := k.many[string(key)]; ok {
		return false
	}
	k.many[string(key)] = struct{}{}
	return true
}
