package wire

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// timeLayout is RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Time is a moment in UTC, in whole milliseconds, written as 2026-11-20T15:04:05.123Z.
type Time struct{ time.Time }

// At returns t cut to milliseconds in UTC.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// String returns the written form.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

// AppendTo appends the time as String returns it.
func (t Time) AppendTo(b []byte) []byte {
	u := t.UTC()
	year, month, day := u.Date()
	if year < 0 || year > 9999 {
		return u.AppendFormat(b, timeLayout)
	}
	hour, minute, second := u.Clock()
	b = append(appendPair(appendPair(b, year/100), year%100), '-')
	b = append(appendPair(b, int(month)), '-')
	b = append(appendPair(b, day), 'T')
	b = append(appendPair(b, hour), ':')
	b = append(appendPair(b, minute), ':')
	b = append(appendPair(b, second), '.')
	ms := u.Nanosecond() / int(time.Millisecond)
	return append(appendPair(b, ms/10), byte('0'+ms%10), 'Z')
}

// appendPair appends a number below 100 with two digits.
func appendPair(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// MarshalJSON writes the time with milliseconds.
func (t Time) MarshalJSON() ([]byte, error) {
	return append(t.AppendTo(append(make([]byte, 0, len(timeLayout)+2), '"')), '"'), nil
}

// UnmarshalJSON reads any RFC 3339 time; the error is an *Error with BadData.
func (t *Time) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return Errorf(BadData, "A time must be a string in RFC 3339 form.")
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	lenient := err == nil && (text[13] != ':' || strings.Contains(text, ",")) // time.Parse takes an hour of one digit, and a comma
	if year := parsed.UTC().Year(); err != nil || lenient || year < 1 || year > 9999 {
		return Errorf(BadData, "A time must be in RFC 3339 form, such as 2026-11-20T15:04:05.123Z.")
	}
	*t = At(parsed)
	return nil
}

// MaxSeq is the largest seq, 2^53-1: the largest integer that every JSON reader keeps exact.
const MaxSeq Seq = 1<<53 - 1

// Seq is the dense number of an entry in its conversation, from 1. A number below 0 is read as 0, which names no entry, and one above
// MaxSeq as MaxSeq, so that whatever a client asks for is simply not there.
type Seq uint64

// UnmarshalJSON reads an integer; the error is an *Error with BadData.
func (s *Seq) UnmarshalJSON(data []byte) error {
	text := string(data)
	if text == "null" {
		return nil
	}
	if negative, ok := strings.CutPrefix(text, "-"); ok && negative != "" && strings.Trim(negative, "0123456789") == "" {
		*s = 0
		return nil
	}
	if strings.Trim(text, "0123456789") != "" || text == "" {
		return Errorf(BadData, "A seq must be an integer.")
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || Seq(n) > MaxSeq {
		n = uint64(MaxSeq)
	}
	*s = Seq(n)
	return nil
}
