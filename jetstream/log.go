package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Errors of the log of a conversation. Compare with errors.Is: each is wrapped with what was being done. Beside them every method may
// return ErrUnavailable; after an Append that means that the entry may have been stored.
var (
	// ErrTailMoved means that the conversation has a newer entry than the given tail: read the tail, decide again, try again. This try was not stored.
	ErrTailMoved = errors.New("the conversation has a newer entry")
	// ErrIDConflict means that the author used this client id before for something else.
	ErrIDConflict = errors.New("the client id was used for another entry")
	// ErrNoEntry means that the conversation has no entry with this seq.
	ErrNoEntry = errors.New("no such entry")
	// ErrErased means that the entry is there no more, or for an edit, a recall or a reaction, that its target was recalled.
	ErrErased = errors.New("the entry was erased")
	// ErrNoMessage means that the target of an edit, a recall or a reaction is an entry of another kind than message.
	ErrNoMessage = errors.New("the entry is not a message")
	// ErrAmendsFull means that a message has MaxEdits edits, or that its page holds as many edits and reactions as can be kept.
	ErrAmendsFull = errors.New("too many edits and reactions")
)

// Draft is what a new entry says; everything else follows from the tail.
type Draft struct {
	Kind     wire.EntryKind
	From     subjects.User
	ClientID string          // makes the append repeatable within Dedupe; empty = it is not
	Target   wire.Seq        // of an edit, recall, reaction or pin
	ReplyTo  wire.Seq        // 0 = to nothing
	Body     json.RawMessage // one JSON object, or empty for a recall
	At       wire.Time       // the caller's clock; zero = now. An entry is never stored as older than the one before
}

// Tail is the newest entry of a conversation as it was when it was read. The zero Tail stands for a conversation without entries.
type Tail struct {
	Seq     wire.Seq        // of the newest entry
	Count   uint64          // messages up to it
	Epoch   wire.Seq        // the seq of the newest change of membership or policy
	At      wire.Time       // when the newest entry was appended
	Payload json.RawMessage // the newest entry itself, a wire.Entry; nothing later can have changed it

	stream  uint64    // its stream sequence; 0 = no entry
	foreign uint64    // stream sequence of a message behind it that is no entry; 0 = there is none
	newest  *logEntry // the entry itself; nil = no entry
	backs   backs
	posters posters
	spent   spentIDs
	open    *amendment // what the newest entry changes in earlier ones, if that may not have been recorded yet
}

// Mark returns the tail's place in the conversation.
func (t Tail) Mark() wire.Mark { return wire.Mark{Seq: t.Seq, Count: t.Count} }

// Lean returns the tail as it is worth remembering for the next append: without the entry itself, which takes up to 64 KiB, unless something is still to be
// recorded of it.
func (t Tail) Lean() Tail {
	t.Payload = nil
	if t.open == nil {
		t.newest = nil
	}
	return t
}

// Poster returns the newest post of a user if the user is among the latest authors. It marks the conversation as read up to there; the
// read mark of a user is the larger one of this and the user's cursor.
func (t Tail) Poster(u subjects.User) (wire.Mark, bool) { return t.posters.find(u) }

// Tail returns the newest entry of a conversation, from the leader, so that it knows of everything acknowledged before.
func (s *Store) Tail(ctx context.Context, c subjects.Conversation) (Tail, error) {
	msg, err := s.newest(ctx, subjects.StreamOf(c), subjects.Message(c))
	return s.tailOf(ctx, c, msg, err)
}

// replicaTail is Tail from any replica: at more than one of them it may be a moment old.
func (s *Store) replicaTail(ctx context.Context, c subjects.Conversation) (Tail, error) {
	msg, err := s.lastDirect(ctx, subjects.StreamOf(c), subjects.Message(c))
	return s.tailOf(ctx, c, msg, err)
}

// tailAtLeast returns a tail that knows of a seq, if there is one, at the price of the leader only where a replica does not.
func (s *Store) tailAtLeast(ctx context.Context, c subjects.Conversation, seq wire.Seq) (Tail, error) {
	tail, err := s.replicaTail(ctx, c)
	if err == nil && tail.Seq < seq {
		return s.Tail(ctx, c)
	}
	return tail, err
}

// LiveTail returns the tail that a live copy shows: the one that the store itself republished, for a copy that was said again does not tell where the
// entry is stored. It may be older than what is known; that of a conversation's newest entry is as good as one that was read.
func (s *Store) LiveTail(c subjects.Conversation, copied *nats.Msg) (tail Tail, ok bool) {
	msg, err := directMsg(copied) // republished messages have the same fields
	if err != nil || msg.Subject != subjects.Message(c) || !wire.IsEntryOf(c, msg.Data) {
		return Tail{}, false
	}
	e, err := parseEntry(msg)
	if err != nil {
		return Tail{}, false
	}
	tail, err = e.tail(c)
	return tail, err == nil
}

// maxForeign is how many messages that are no entries are looked behind. Who is refused the subject of a conversation can have an acknowledgement or a copy of
// something stored published there, as the answer to a request to JetStream that names it; each costs a request, and goes with the next append.
const maxForeign = 64

// tailOf makes a tail of the last message of a conversation, or of the last one before it that is an entry.
func (s *Store) tailOf(ctx context.Context, c subjects.Conversation, msg *rawMsg, err error) (Tail, error) {
	var foreign uint64
	for tries := 0; err == nil; tries++ {
		e, broken := parseEntry(msg)
		if broken == nil && wire.IsEntryOf(c, msg.Data) {
			tail, err := e.tail(c)
			tail.foreign = foreign
			return tail, err
		}
		if tries == maxForeign {
			return Tail{}, fmt.Errorf("read the tail of %s: the last %d messages are no entries: %w", c, tries, cmp.Or(broken, ErrNoEntry))
		}
		foreign = cmp.Or(foreign, msg.Sequence)
		msg, err = s.lastBefore(ctx, subjects.StreamOf(c), msg.Subject, msg.Sequence)
	}
	if errors.Is(err, ErrNotFound) {
		return Tail{foreign: foreign}, nil
	}
	return Tail{}, fmt.Errorf("read the tail of %s: %w", c, err)
}

// logEntry is one entry as it is stored.
type logEntry struct {
	wire.EntryHeader
	stream  uint64
	header  nats.Header
	payload json.RawMessage
}

func parseEntry(m *rawMsg) (*logEntry, error) {
	h, err := wire.ParseEntryHeader(m.Header.Get(subjects.HeaderEntry))
	if err != nil {
		return nil, fmt.Errorf("message %d: %w", m.Sequence, err)
	}
	return &logEntry{EntryHeader: h, stream: m.Sequence, header: m.Header, payload: m.Data}, nil
}

func (e *logEntry) decode() (wire.Entry, error) {
	var entry wire.Entry
	if err := json.Unmarshal(e.payload, &entry); err != nil {
		return entry, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	return entry, nil
}

// at returns when the entry was appended, without decoding the rest where it can: before the field stand only ids and numbers, in which its
// name cannot occur.
func (e *logEntry) at() (wire.Time, error) {
	const name, length = `,"at":"`, len("2026-11-20T15:04:05.123Z")
	if i := bytes.Index(e.payload, []byte(name)); i > 0 && len(e.payload) > i+len(name)+length {
		if at, err := time.Parse(time.RFC3339Nano, string(e.payload[i+len(name):][:length])); err == nil {
			return wire.At(at), nil
		}
	}
	entry, err := e.decode()
	return entry.At, err
}

func (e *logEntry) backs() (backs, error) {
	b, err := parseBacks(e.header.Get(subjects.HeaderBack), e.Seq)
	if err != nil {
		return b, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	return b, nil
}

func (e *logEntry) tail(c subjects.Conversation) (Tail, error) {
	t := Tail{Seq: e.Seq, Count: e.Count, Epoch: e.Epoch, Payload: e.payload, stream: e.stream, newest: e}
	var err1, err2, err3, err4, err5 error
	t.At, err1 = e.at()
	t.backs, err2 = e.backs()
	t.posters, err3 = parsePosters(e.header.Get(subjects.HeaderPosters))
	t.spent, err4 = parseSpent(e.header.Get(subjects.HeaderSpent))
	if amends(e.Kind) {
		var entry wire.Entry
		if entry, err5 = e.decode(); err5 == nil {
			t.open, err5 = e.amendment(entry)
		}
	}
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return Tail{}, fmt.Errorf("read entry %d of %s: %w", e.Seq, c, err)
	}
	return t, nil
}
