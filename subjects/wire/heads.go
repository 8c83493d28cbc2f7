package wire

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/confab-im/confab/subjects"
)

// AppendHeads appends an answer of history.heads to dst, as Marshal writes it but without reflection. The entries must be compact JSON, as
// entries are stored; they are copied as they are.
func AppendHeads(dst []byte, heads *Heads) []byte {
	dst = append(dst, `{"conversations":[`...)
	for i := range heads.Conversations {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendHead(dst, &heads.Conversations[i])
	}
	dst = append(dst, ']')
	if heads.Next != "" {
		dst = append(append(append(dst, `,"next":"`...), heads.Next...), '"')
	}
	return append(dst, '}')
}

// AppendHeadsOf appends an answer of history.heads-of to dst, as AppendHeads does one of history.heads. Users are what package subjects takes for one.
func AppendHeadsOf(dst []byte, heads *HeadsOf) []byte {
	dst = append(dst, `{"users":{`...)
	for i, u := range slices.Sorted(maps.Keys(heads.Users)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), u...), `":`...)
		theirs := heads.Users[u]
		dst = AppendHeads(dst, &theirs)
	}
	return append(dst, `}}`...)
}

func appendHead(dst []byte, h *ConversationHead) []byte {
	dst = append(append(dst, `{"conversation":"`...), h.Conversation...)
	dst = append(append(dst, `","kind":"`...), h.Kind...)
	dst = appendText(append(dst, `","title":`...), h.Title)
	dst = strconv.AppendUint(append(dst, `,"head":{"seq":`...), uint64(h.Head.Seq), 10)
	dst = strconv.AppendUint(append(dst, `,"count":`...), h.Head.Count, 10)
	if len(h.Head.Entry) > 0 {
		dst = append(append(dst, `,"entry":`...), h.Head.Entry...)
	}
	dst = strconv.AppendUint(append(dst, `},"read":{"seq":`...), uint64(h.Read.Seq), 10)
	dst = strconv.AppendUint(append(dst, `,"count":`...), h.Read.Count, 10)
	dst = strconv.AppendUint(append(dst, `},"unread":`...), h.Unread, 10)
	if h.Role != "" {
		dst = appendText(append(dst, `,"role":`...), string(h.Role))
	}
	return append(dst, '}')
}

// appendText appends a text as a JSON string.
func appendText(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			data, _ := Marshal(text) // a string always encodes
			return append(dst, data...)
		}
	}
	return append(append(append(dst, '"'), text...), '"')
}

// EachHead calls f with every conversation in an answer of history.heads and the seq of its newest entry. What is written as AppendHeads writes
// it is read without decoding the entries; an answer of another form may be told in part and then as a whole. The error is the decoder's.
func EachHead(answer []byte, f func(subjects.Conversation, Seq)) error {
	if scanHeads(answer, f) {
		return nil
	}
	var heads struct {
		Conversations []struct {
			Conversation subjects.Conversation `json:"conversation"`
			Head         struct {
				Seq Seq `json:"seq"`
			} `json:"head"`
		} `json:"conversations"`
	}
	if err := json.Unmarshal(answer, &heads); err != nil {
		return err
	}
	for _, h := range heads.Conversations {
		f(h.Conversation, h.Head.Seq)
	}
	return nil
}

// scanHeads reports whether the answer was of the form that AppendHeads writes.
func scanHeads(answer []byte, f func(subjects.Conversation, Seq)) bool {
	s := headScanner{rest: answer, ok: true}
	s.take(`{"conversations":[`)
	for first := true; s.ok && !bytes.HasPrefix(s.rest, []byte("]")); first = false {
		if !first {
			s.take(",")
		}
		s.take(`{"conversation":"`)
		id, err := subjects.ParseConversation(string(s.plain()))
		s.take(`,"kind":"`)
		s.plain()
		s.take(`,"title":"`)
		s.text()
		s.take(`,"head":{"seq":`)
		seq := s.number()
		s.leave(2)
		if s.ok = s.ok && err == nil; s.ok {
			f(id, Seq(seq))
		}
	}
	return s.ok
}

// headScanner takes parts off the front of JSON; ok turns false at the first that is not there.
type headScanner struct {
	rest []byte
	ok   bool
}

func (s *headScanner) take(text string) {
	if s.ok = s.ok && bytes.HasPrefix(s.rest, []byte(text)); s.ok {
		s.rest = s.rest[len(text):]
	}
}

// plain takes the rest of a string without escapes.
func (s *headScanner) plain() []byte {
	word, rest, ok := bytes.Cut(s.rest, []byte(`"`))
	if s.ok = s.ok && ok; !s.ok {
		return nil
	}
	s.rest = rest
	return word
}

// text takes the rest of a string.
func (s *headScanner) text() {
	if n := pastString(s.rest); n > 0 {
		s.rest = s.rest[n:]
	} else {
		s.ok = false
	}
}

// seqDigits is how many digits MaxSeq has.
const seqDigits = 16

func (s *headScanner) number() (n uint64) {
	i := 0
	for ; i < min(len(s.rest), seqDigits) && s.rest[i] >= '0' && s.rest[i] <= '9'; i++ {
		n = n*10 + uint64(s.rest[i]-'0')
	}
	s.ok = s.ok && i > 0 && n <= uint64(MaxSeq)
	s.rest = s.rest[i:]
	return n
}

// leave takes everything up to the end of a value that began this many braces before.
func (s *headScanner) leave(depth int) {
	for i := 0; s.ok && i < len(s.rest); {
		switch s.rest[i] {
		case '"':
			n := pastString(s.rest[i+1:])
			s.ok = n > 0
			i += n
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				s.rest = s.rest[i+1:]
				return
			}
		}
		i++
	}
	s.ok = false
}

// pastString returns how many bytes there are up to behind the end of a string that has begun; 0 = it does not end.
func pastString(data []byte) int {
	for from := 0; ; {
		n := bytes.IndexByte(data[from:], '"')
		if n < 0 {
			return 0
		}
		end := from + n
		escapes := 0
		for escapes < end && data[end-1-escapes] == '\\' {
			escapes++
		}
		if from = end + 1; escapes%2 == 0 {
			return from
		}
	}
}
