package jetstream

import (
	"bytes"
	"strconv"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// plainMember reads a membership in the form in which nearly all are stored: as the encoder writes one that is not muted. It is decode without
// reflection; a list of conversations reads one record for each group.
func plainMember(data []byte) (m Member, ok bool) {
	conversation, rest, ok := plainField(data, `{"conversation":"`)
	if !ok {
		return Member{}, false
	}
	user, rest, ok := plainField(rest, `,"user":"`)
	if !ok {
		return Member{}, false
	}
	role, rest, given := plainField(rest, `,"role":"`)
	rest, first := bytes.CutPrefix(rest, []byte(`,"joined_seq":`))
	number, last := bytes.CutSuffix(rest, []byte("}"))
	seq, err := strconv.ParseUint(string(number), 10, 64)
	if !first || !last || err != nil || seq > uint64(wire.MaxSeq) || strconv.FormatUint(seq, 10) != string(number) || given != (len(role) > 0) {
		return Member{}, false
	}
	var err1, err2 error
	m.Conversation, err1 = subjects.ParseConversation(string(conversation))
	m.User, err2 = subjects.ParseUser(string(user))
	if err1 != nil || err2 != nil {
		return Member{}, false
	}
	m.Role, m.JoinedSeq = wire.Role(role), wire.Seq(seq)
	return m, true
}

// plainField takes a string without escapes off the front, with its name and quotes, or returns data as it is.
func plainField(data []byte, name string) (value, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(data, []byte(name))
	if !ok {
		return nil, data, false
	}
	value, rest, ok = bytes.Cut(rest, []byte(`"`))
	if !ok || !isPlain(value) {
		return nil, data, false
	}
	return value, rest, true
}

// isPlain reports whether a text is written in JSON as it is.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return true
}
