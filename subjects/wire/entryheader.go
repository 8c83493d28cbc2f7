package wire

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/confab-im/confab/subjects"
)

// EntryHeader is what the header Confab-Entry says of a stored or live entry, so that whoever only has to order and address it need not
// read the body. Its written form is "seq=57 count=41 epoch=12 kind=message from=ada".
type EntryHeader struct {
	Seq   Seq           // of the entry itself, from 1
	Count uint64        // messages up to here
	Epoch Seq           // seq of the newest change of membership or policy up to here, which may be the entry itself; 0 = none yet
	Kind  EntryKind     // one of the kinds that this release knows, or a later one
	From  subjects.User // the author
}

// maxEntryHeader bounds the written form in bytes: three numbers of 16 digits, a kind, a user and the five names.
const maxEntryHeader = 192

// String returns the written form.
func (h EntryHeader) String() string {
	b := make([]byte, 0, 96)
	b = strconv.AppendUint(append(b, "seq="...), uint64(h.Seq), 10)
	b = strconv.AppendUint(append(b, " count="...), h.Count, 10)
	b = strconv.AppendUint(append(b, " epoch="...), uint64(h.Epoch), 10)
	b = append(append(b, " kind="...), h.Kind...)
	b = append(append(b, " from="...), h.From...)
	return string(b)
}

// ParseEntryHeader reads the written form and nothing else: the five fields in their order, one space between them, numbers without
// leading zeros of at most MaxSeq, and epoch and count not above seq. A kind it does not know is accepted as long as it consists of
// lower-case letters, so that a later release may add one.
func ParseEntryHeader(s string) (EntryHeader, error) {
	var h EntryHeader
	if len(s) > maxEntryHeader {
		return h, fmt.Errorf("entry header of %d bytes is too long", len(s))
	}
	r := headerReader{rest: s, ok: true}
	h.Seq = Seq(r.number("seq="))
	h.Count = r.number(" count=")
	h.Epoch = Seq(r.number(" epoch="))
	h.Kind = EntryKind(r.word(" kind="))
	h.From = subjects.User(r.word(" from="))
	if !r.ok || r.rest != "" {
		return EntryHeader{}, fmt.Errorf("entry header %q is not of the form seq=… count=… epoch=… kind=… from=…", s)
	}
	if h.Seq == 0 || h.Count > uint64(h.Seq) || h.Epoch > h.Seq {
		return EntryHeader{}, fmt.Errorf("entry header %q: count and epoch must not exceed seq, which begins at 1", s)
	}
	if strings.Trim(string(h.Kind), "abcdefghijklmnopqrstuvwxyz") != "" || len(h.Kind) > 16 {
		return EntryHeader{}, fmt.Errorf("entry header %q: the kind is no lower-case word", s)
	}
	if _, err := subjects.ParseUser(string(h.From)); err != nil {
		return EntryHeader{}, fmt.Errorf("entry header: %w", err)
	}
	return h, nil
}

// headerReader takes named fields off the front of a header; ok turns false at the first that is not there.
type headerReader struct {
	rest string
	ok   bool
}

// word takes the name and what follows up to the next space, which must not be empty.
func (r *headerReader) word(name string) string {
	rest, found := strings.CutPrefix(r.rest, name)
	end := strings.IndexByte(rest, ' ')
	if end < 0 {
		end = len(rest)
	}
	if !found || end == 0 {
		r.ok = false
	}
	r.rest = rest[end:]
	return rest[:end]
}

// number takes a field that is a number in its only written form.
func (r *headerReader) number(name string) uint64 {
	text := r.word(name)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || Seq(n) > MaxSeq || (len(text) > 1 && text[0] == '0') {
		r.ok = false
	}
	return n
}
