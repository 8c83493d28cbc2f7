package wire

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/confab-im/confab/subjects"
)

// What is said of everybody who signs in is read and written by hand too, in the form in which it is written here; what is in another is left to package encoding/json.

// Unmarshal reads what another program of confab has written, as json.Unmarshal does.
func Unmarshal(data []byte, v any) error {
	if quick, ok := v.(quickReader); ok && quick.read(data) {
		return nil
	}
	return json.Unmarshal(data, v)
}

// read reads a hello.
func (h *Hello) read(data []byte) bool {
	s, read := scanner{data: data}, *h
	switch {
	case s.literal(`{"token":`):
		token, ok := s.text()
		if read.Token = string(token); !ok || !s.literal(`,"device":`) {
			return false
		}
	case !s.literal(`{"device":`):
		return false
	}
	device, ok := s.text()
	id, err := subjects.ParseDevice(string(device))
	if read.Device = id; !ok || err != nil || !s.ends(`}`) {
		return false
	}
	*h = read
	return true
}

// ends reports whether the rest is exactly this.
func (s *scanner) ends(rest string) bool { return s.literal(rest) && s.pos == len(s.data) }

// read reads tokens.
func (v *Verifications) read(data []byte) bool {
	s := scanner{data: data}
	if v.Tokens != nil || !s.literal(`{"tokens":[`) {
		return false
	}
	tokens := make([]string, 0, MaxTogether)
	for {
		token, ok := s.text()
		if !ok {
			return false
		}
		if tokens = append(tokens, string(token)); !s.eat(',') {
			break
		}
	}
	if !s.ends(`]}`) {
		return false
	}
	v.Tokens = tokens
	return true
}

// appendTo writes tokens.
func (v Verifications) appendTo(b []byte) ([]byte, bool) {
	if len(v.Tokens) == 0 {
		return b, false
	}
	b = append(b, `{"tokens":[`...)
	for i, token := range v.Tokens {
		if !verbatim(token) {
			return b, false
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), token...), '"')
	}
	return append(b, `]}`...), true
}

// read reads whose tokens they are.
func (v *Verified) read(data []byte) bool {
	s := scanner{data: data}
	if v.Tokens != nil || !s.literal(`{"tokens":[`) {
		return false
	}
	tokens := make([]VerifiedToken, 0, MaxTogether)
	for {
		id := new(Identity)
		if !s.literal(`{"identity":`) || !id.scan(&s) || !s.eat('}') {
			return false
		}
		if tokens = append(tokens, VerifiedToken{Identity: id}); !s.eat(',') {
			break
		}
	}
	if !s.ends(`]}`) {
		return false
	}
	v.Tokens = tokens
	return true
}

// scan reads an identity.
func (id *Identity) scan(s *scanner) bool {
	if !s.literal(`{"user":`) {
		return false
	}
	text, ok := s.text()
	user, err := subjects.ParseUser(string(text))
	if id.User = user; !ok || err != nil || !s.literal(`,"session":`) {
		return false
	}
	text, ok = s.text()
	id.Session = string(text)
	return ok && s.literal(`,"expires_at":`) && s.time(&id.ExpiresAt) && s.literal(`,"issued_at":`) && s.time(&id.IssuedAt) && s.eat('}')
}

// time reads a time as it is written.
func (s *scanner) time(t *Time) bool {
	text, ok := s.text()
	if !ok || len(text) != len(timeLayout) {
		return false
	}
	number := func(from, to int) (n int) {
		for _, c := range text[from:to] {
			n = 10*n + int(c-'0')
		}
		return n
	}
	at := Time{time.Date(number(0, 4), time.Month(number(5, 7)), number(8, 10), number(11, 13), number(14, 16), number(17, 19), number(20, 23)*int(time.Millisecond), time.UTC)}
	var written [len(timeLayout)]byte
	*t = at
	return at.Year() >= 1 && at.Year() <= 9999 && string(at.AppendTo(written[:0])) == string(text) // what is no date would be written as another
}

// appendTo writes whose tokens they are.
func (v Verified) appendTo(b []byte) ([]byte, bool) {
	if len(v.Tokens) == 0 {
		return b, false
	}
	b = append(b, `{"tokens":[`...)
	for i, one := range v.Tokens {
		id := one.Identity
		if id == nil || one.Error != nil || !verbatim(id.User) || !verbatim(id.Session) {
			return b, false
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"identity":{"user":"`...), id.User...)
		b = append(append(b, `","session":"`...), id.Session...)
		b = id.ExpiresAt.AppendTo(append(b, `","expires_at":"`...))
		b = id.IssuedAt.AppendTo(append(b, `","issued_at":"`...))
		b = append(b, `"}}`...)
	}
	return append(b, `]}`...), true
}

// read reads the memberships of users.
func (m *MembershipsOf) read(data []byte) bool {
	s := scanner{data: data}
	if m.Users != nil || !s.literal(`{"users":{`) {
		return false
	}
	users := make(map[subjects.User][]Membership, MaxTogether)
	for {
		text, ok := s.text()
		user, err := subjects.ParseUser(string(text))
		if _, twice := users[user]; !ok || err != nil || twice || !s.literal(`:[`) {
			return false
		}
		list := []Membership{}
		for !s.eat(']') {
			var one Membership
			if len(list) > 0 && !s.eat(',') || !one.scan(&s) {
				return false
			}
			list = append(list, one)
		}
		if users[user] = list; !s.eat(',') {
			break
		}
	}
	if !s.ends(`}}`) {
		return false
	}
	m.Users = users
	return true
}

// scan reads a membership.
func (m *Membership) scan(s *scanner) bool {
	if !s.literal(`{"conversation":`) {
		return false
	}
	text, ok := s.text()
	id, err := subjects.ParseConversation(string(text))
	if m.Conversation = id; !ok || err != nil || !s.literal(`,"from":`) {
		return false
	}
	m.From, ok = s.seq()
	return ok && s.eat('}')
}

// appendTo writes the memberships of users.
func (m MembershipsOf) appendTo(b []byte) ([]byte, bool) {
	if len(m.Users) == 0 {
		return b, false
	}
	b = append(b, `{"users":{`...)
	for i, u := range slices.Sorted(maps.Keys(m.Users)) {
		if m.Users[u] == nil || !verbatim(u) {
			return b, false
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), u...), `":[`...)
		for k, one := range m.Users[u] {
			if !verbatim(one.Conversation) || one.Small {
				return b, false
			}
			if k > 0 {
				b = append(b, ',')
			}
			b = append(append(b, `{"conversation":"`...), one.Conversation...)
			b = append(strconv.AppendUint(append(b, `","from":`...), uint64(one.From), 10), '}')
		}
		b = append(b, ']')
	}
	return append(b, `}}`...), true
}

// appendTo writes the answer to a hello.
func (w Welcome) appendTo(b []byte) ([]byte, bool) {
	if !verbatim(w.User) || !verbatim(w.Device) || !verbatim(w.Session) || w.Calls == nil || w.Limits.CallsASec != float64(int32(w.Limits.CallsASec)) {
		return b, false
	}
	b = append(append(b, `{"user":"`...), w.User...)
	b = append(append(b, `","device":"`...), w.Device...)
	b = append(append(b, `","session":"`...), w.Session...)
	b = w.ServerTime.AppendTo(append(b, `","server_time":"`...))
	b = w.ExpiresAt.AppendTo(append(b, `","expires_at":"`...))
	b = strconv.AppendInt(append(b, `","ping_seconds":`...), int64(w.PingSeconds), 10)
	b = strconv.AppendInt(append(b, `,"limits":{"frame_bytes":`...), int64(w.Limits.FrameBytes), 10)
	b = strconv.AppendInt(append(b, `,"body_bytes":`...), int64(w.Limits.BodyBytes), 10)
	if w.Limits.CallsASec != 0 {
		b = strconv.AppendInt(append(b, `,"calls_a_second":`...), int64(w.Limits.CallsASec), 10)
	}
	if w.Limits.OpenCalls != 0 {
		b = strconv.AppendInt(append(b, `,"open_calls":`...), int64(w.Limits.OpenCalls), 10)
	}
	b = append(b, `},"calls":[`...)
	for i, call := range w.Calls {
		if !verbatim(call) {
			return b, false
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), call...), '"')
	}
	return append(b, `]}`...), true
}

// read reads the record of a device.
func (d *DeviceRecord) read(data []byte) bool {
	s := scanner{data: data}
	if !s.literal(`{"edge":`) {
		return false
	}
	text, ok := s.text()
	edge, err := subjects.ParseEdge(string(text))
	var at Time
	if !ok || err != nil || !s.literal(`,"at":`) || !s.time(&at) {
		return false
	}
	left := d.LeftAt
	if s.literal(`,"left_at":`) {
		left = new(Time)
		if !s.time(left) {
			return false
		}
	}
	if !s.ends(`}`) {
		return false
	}
	d.Edge, d.At, d.LeftAt = edge, at, left
	return true
}

// appendTo writes the record of a device.
func (d DeviceRecord) appendTo(b []byte) ([]byte, bool) {
	if !verbatim(d.Edge) {
		return b, false
	}
	b = append(append(b, `{"edge":"`...), d.Edge...)
	b = append(d.At.AppendTo(append(b, `","at":"`...)), '"')
	if d.LeftAt != nil {
		b = append(d.LeftAt.AppendTo(append(b, `,"left_at":"`...)), '"')
	}
	return append(b, '}'), true
}
