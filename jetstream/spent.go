package jetstream

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The server recognises repeats by the ids of what it stores. When it starts again it reads them from the stream, and an entry that a recall
// erased is no longer there: the repeat of a recalled message would be stored anew. So each entry carries the ids of those erased entries
// whose repeats may still come.
const (
	maxSpent   = 32          // ids that an entry carries at most, the newest
	spentSlack = time.Minute // by which clocks may differ
	idLength   = 22          // of 16 bytes in base64url
)

// entryID returns what the server recognises a repeat by, or "" where there is no client id. It is a hash over user and conversation as
// well, since the server compares ids over a whole stream: a plain client id would let one user swallow another's message.
func entryID(c subjects.Conversation, d *Draft) string {
	if d.ClientID == "" {
		return ""
	}
	return idOf(c, d.From, d.Kind, d.ClientID)
}

func idOf(c subjects.Conversation, from subjects.User, kind wire.EntryKind, clientID string) string {
	h := make([]byte, 0, 256)
	h = append(append(h, from...), 0)
	h = append(append(h, c...), 0)
	h = append(h, clientID...)
	if kind != wire.KindMessage {
		h = append(append(h, 0), kind...)
	}
	sum := sha256.Sum256(h)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// spentID is the id of an erased entry, with what the answer to a repeat needs.
type spentID struct {
	id   string
	mark wire.Mark
	at   int64 // Unix milliseconds
}

// spentIDs are ids of erased entries, those erased last first.
type spentIDs []spentID

// find returns the erased entry with an id.
func (s spentIDs) find(id string) (spentID, bool) {
	for _, one := range s {
		if one.id == id && id != "" {
			return one, true
		}
	}
	return spentID{}, false
}

// follow returns the ids after the entry erased more, without those whose repeats are no longer recognised at the given time.
func (s spentIDs) follow(c subjects.Conversation, erased []remnant, now wire.Time, window time.Duration) spentIDs {
	if len(s) == 0 && len(erased) == 0 {
		return nil
	}
	var next spentIDs
	oldest := now.Add(-window - spentSlack).UnixMilli()
	for _, r := range erased {
		if r.ClientID != "" && r.At.UnixMilli() >= oldest {
			mark := wire.Mark{Seq: r.Seq, Count: r.Count}
			next = append(next, spentID{idOf(c, r.From, r.Kind, r.ClientID), mark, r.At.UnixMilli()})
		}
	}
	for _, one := range s {
		if one.at >= oldest {
			next = append(next, one)
		}
	}
	return next[:min(len(next), maxSpent)]
}

// String returns the written form: "<id>=57/41/1795187045123 …".
func (s spentIDs) String() string {
	text := make([]byte, 0, 48*len(s))
	for i, one := range s {
		if i > 0 {
			text = append(text, ' ')
		}
		text = append(append(text, one.id...), '=')
		text = strconv.AppendUint(text, uint64(one.mark.Seq), 10)
		text = strconv.AppendUint(append(text, '/'), one.mark.Count, 10)
		text = strconv.AppendInt(append(text, '/'), one.at, 10)
	}
	return string(text)
}

var errSpent = errors.New("the spent ids are not of the form <id>=57/41/1795187045123")

// parseSpent reads the written form and nothing else. A count may be 0: an erased edit can stand before the first message that counts.
func parseSpent(text string) (spentIDs, error) {
	if text == "" {
		return nil, nil
	}
	var s spentIDs
	for word := range strings.SplitSeq(text, " ") {
		id, place, _ := strings.Cut(word, "=")
		parts := strings.Split(place, "/")
		if raw, err := base64.RawURLEncoding.Strict().DecodeString(id); err != nil || len(raw) != 16 || len(id) != idLength || len(parts) != 3 || len(s) == maxSpent {
			return nil, errSpent
		}
		one := spentID{id: id, mark: wire.Mark{Seq: wire.Seq(decimal(parts[0])), Count: decimal(parts[1])}, at: int64(decimal(parts[2]))}
		if one.mark.Seq == 0 || (one.mark.Count == 0 && parts[1] != "0") || one.mark.Count > uint64(one.mark.Seq) || one.at == 0 {
			return nil, errSpent
		}
		s = append(s, one)
	}
	return s, nil
}
