package jetstream

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// An entry carries the newest posts of at most maxPosters authors. When one more comes, the oldest drop out together, and keptPosters stay:
// a conversation of a few authors never drops one, and in a larger one only some posts wait until cursors are written.
const (
	maxPosters  = 16
	keptPosters = 8
)

// poster is the newest post of an author up to an entry. A post marks the conversation as read up to itself, so this is a read mark.
type poster struct {
	user subjects.User
	mark wire.Mark
}

// posters are the newest posts of the latest authors, newest first, at most maxPosters, each author once.
type posters []poster

// follow returns the posters after a post, and those that dropped out.
func (p posters) follow(user subjects.User, mark wire.Mark) (next, dropped posters) {
	next = append(make(posters, 0, len(p)+1), poster{user, mark})
	for _, other := range p {
		if other.user != user {
			next = append(next, other)
		}
	}
	if len(next) > maxPosters {
		return next[:keptPosters:keptPosters], next[keptPosters:]
	}
	return next, nil
}

// full reports whether a post of a user makes others drop out.
func (p posters) full(user subjects.User) bool {
	if len(p) < maxPosters {
		return false
	}
	_, among := p.find(user)
	return !among
}

// find returns the newest post of a user, if it is among them.
func (p posters) find(user subjects.User) (wire.Mark, bool) {
	i := slices.IndexFunc(p, func(other poster) bool { return other.user == user })
	if i < 0 {
		return wire.Mark{}, false
	}
	return p[i].mark, true
}

// String returns the written form: "ada=57/41 bob=55/40", the newest first.
func (p posters) String() string {
	text := make([]byte, 0, 24*len(p))
	for i, one := range p {
		if i > 0 {
			text = append(text, ' ')
		}
		text = append(append(text, one.user...), '=')
		text = strconv.AppendUint(text, uint64(one.mark.Seq), 10)
		text = strconv.AppendUint(append(text, '/'), one.mark.Count, 10)
	}
	return string(text)
}

var errPosters = errors.New("the posters are not of the form ada=57/41 bob=55/40")

// parsePosters reads the written form and nothing else.
func parsePosters(text string) (posters, error) {
	if text == "" {
		return nil, nil
	}
	p := make(posters, 0, min(strings.Count(text, " ")+1, maxPosters)) // tails are remembered by the thousand
	for word := range strings.SplitSeq(text, " ") {
		name, place, _ := strings.Cut(word, "=")
		seq, count, _ := strings.Cut(place, "/")
		user, err := subjects.ParseUser(name)
		mark := wire.Mark{Seq: wire.Seq(decimal(seq)), Count: decimal(count)}
		if err != nil || mark.Seq == 0 || mark.Count == 0 || mark.Count > uint64(mark.Seq) || len(p) == maxPosters {
			return nil, errPosters
		}
		if _, doubled := p.find(user); doubled || (len(p) > 0 && p[len(p)-1].mark.Seq <= mark.Seq) {
			return nil, errPosters
		}
		p = append(p, poster{user, mark})
	}
	return p, nil
}

// decimal reads a number from 1 to MaxSeq in its only written form, and returns 0 for everything else.
func decimal(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > uint64(wire.MaxSeq) || text[0] == '0' || text[0] == '+' {
		return 0
	}
	return n
}
