package jetstream

import (
	"errors"
	"strconv"
	"strings"

	"github.com/confab-im/confab/subjects/wire"
)

// The log is cut into pages of pageSize entries: page 0 holds the seqs 1 to 64. An entry knows where the earlier entries of its own page
// are, and where the last entries of some earlier pages are: for each level i, of the newest page before its own whose number plus one is a
// multiple of fanout^i. From the tail any page is reached over at most (fanout-1) pages a level, and what a new page points at follows
// from the tail alone, so an append reads nothing for it.
const (
	pageSize    = 64
	fanout      = 4
	fanoutBits  = 2  // 1<<fanoutBits = fanout
	maxLevels   = 24 // of MaxSeq entries
	maxBackText = pageSize*14 + maxLevels*14
)

// pageOf returns the page that holds a seq; seq must not be 0.
func pageOf(seq wire.Seq) uint64 { return uint64(seq-1) / pageSize }

// firstOf and lastOf return the ends of a page.
func firstOf(page uint64) wire.Seq { return wire.Seq(page*pageSize + 1) }
func lastOf(page uint64) wire.Seq  { return wire.Seq((page + 1) * pageSize) }

// levels returns how many levels of pointers the entries of a page have: those with a page to point at.
func levels(page uint64) int {
	n := 0
	for ; n < maxLevels && page>>(fanoutBits*n) > 0; n++ {
	}
	return n
}

// pointee returns the page that the pointer of a level points at from a page; level must be below levels(page).
func pointee(page uint64, level int) uint64 {
	shift := fanoutBits * level
	return page>>shift<<shift - 1
}

// backs are the back pointers of an entry: stream sequences.
type backs struct {
	page   []uint64 // of the earlier entries of the same page, ascending
	before []uint64 // of the last entries of earlier pages, one a level, from the nearest
}

// follow returns the back pointers of the entry after the one with this seq, stream sequence and back pointers; seq 0 stands for no entry.
func (b backs) follow(seq wire.Seq, stream uint64) backs {
	if seq == 0 {
		return backs{}
	}
	page := pageOf(seq + 1)
	if page == pageOf(seq) {
		here := make([]uint64, len(b.page)+1) // append would make room for as many again
		here[copy(here, b.page)] = stream
		return backs{page: here, before: b.before}
	}
	next := backs{before: make([]uint64, levels(page))}
	for level := range next.before {
		next.before[level] = stream
		if pointee(page, level) != page-1 {
			next.before[level] = b.before[level]
		}
	}
	return next
}

// String returns the written form: "page=3f9.1.1.2 before=3f8.2k", numbers in base 36, each after the first as the distance from the one
// before. Without pointers it is empty.
func (b backs) String() string {
	text := make([]byte, 0, 32+3*len(b.page)+5*len(b.before))
	last := uint64(0)
	for i, stream := range b.page {
		text = append(text, separator("page=", i)...)
		text = strconv.AppendUint(text, stream-last, 36)
		last = stream
	}
	for i, stream := range b.before {
		if i == 0 {
			if len(text) > 0 {
				text = append(text, ' ')
			}
			last = 2 * stream // so that the first is written as it is
		}
		text = append(text, separator("before=", i)...)
		text = strconv.AppendUint(text, last-stream, 36)
		last = stream
	}
	return string(text)
}

func separator(name string, i int) string {
	if i == 0 {
		return name
	}
	return "."
}

var errBacks = errors.New("the back pointers are not of the form page=… before=…, or do not fit the seq")

// parseBacks reads the written form of the back pointers of the entry with a seq, and nothing else.
func parseBacks(text string, seq wire.Seq) (backs, error) {
	var b backs
	if seq == 0 || seq > wire.MaxSeq || len(text) > maxBackText {
		return b, errBacks
	}
	page := pageOf(seq)
	inPage, levels := int(seq-firstOf(page)), levels(page)
	first, second, both := strings.Cut(text, " ")
	if both != (inPage > 0 && levels > 0) {
		return b, errBacks
	}
	if inPage > 0 {
		b.page = parseDistances(first, "page=", inPage, true)
	} else {
		second = first
	}
	if levels > 0 {
		b.before = parseDistances(second, "before=", levels, false)
	}
	switch {
	case len(b.page) != inPage || len(b.before) != levels,
		inPage == 0 && levels == 0 && text != "",
		inPage > 0 && levels > 0 && b.page[0] <= b.before[0]:
		return backs{}, errBacks
	}
	return b, nil
}

// parseDistances reads n numbers, growing strictly or not growing, or returns nil.
func parseDistances(text, name string, n int, growing bool) []uint64 {
	rest, ok := strings.CutPrefix(text, name)
	if !ok || strings.Count(rest, ".") != n-1 {
		return nil
	}
	numbers := make([]uint64, 0, n)
	last := uint64(0)
	for word := range strings.SplitSeq(rest, ".") {
		distance, err := strconv.ParseUint(word, 36, 63)
		if err != nil || (word[0] == '0' && len(word) > 1) || strings.ToLower(word) != word || word[0] == '+' {
			return nil
		}
		switch {
		case len(numbers) == 0:
			last = distance
		case growing && distance > 0:
			last += distance
		case !growing && distance < last:
			last -= distance
		default:
			return nil
		}
		if last == 0 || last > 1<<63 {
			return nil
		}
		numbers = append(numbers, last)
	}
	return numbers
}
