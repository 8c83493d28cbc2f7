package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// DeadLetter is an entry or a job that a function could not handle, and the sequence under which it is kept.
type DeadLetter struct {
	Sequence uint64
	wire.DeadLetter
}

// DeadLetters returns up to limit dead letters of a function behind a sequence, oldest first, and whether there are more.
func (s *Store) DeadLetters(ctx context.Context, f subjects.Function, after uint64, limit int) (letters []DeadLetter, more bool, err error) {
	for {
		msg, err := s.readLeader(ctx, subjects.StreamDeadLetters, readRequest{Seq: after + 1, NextFor: subjects.Dead(f)})
		if errors.Is(err, ErrNotFound) {
			return letters, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read the dead letters of %s: %w", f, err)
		}
		if len(letters) == limit {
			return letters, true, nil
		}
		letter := DeadLetter{Sequence: msg.Sequence}
		if err := decode(msg, &letter.DeadLetter); err != nil {
			return nil, false, err
		}
		letters, after = append(letters, letter), msg.Sequence
	}
}

// Revive hands over again what a dead letter is about, as a job of the function, and forgets the letter then. ErrNotFound says that the function has no such
// letter. Where it is cut short and repeated within the dedupe window of two minutes, the function has it once.
func (s *Store) Revive(ctx context.Context, f subjects.Function, sequence uint64) error {
	letter, err := s.deadLetter(ctx, f, sequence)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Header: nats.Header{nats.MsgIdHdr: {"revived." + strconv.FormatUint(sequence, 10)}}}
	switch {
	case letter.Entry != nil:
		msg.Subject = subjects.Job(f, wire.MethodEntry)
		msg.Data, err = json.Marshal(wire.EntryRef{Conversation: letter.Entry.Conversation, Seq: letter.Entry.Seq, Sequence: letter.entrySequence()})
	case letter.Job != nil:
		msg.Subject, msg.Data = subjects.Job(f, letter.Job.Method), letter.Job.Data
		for key, value := range map[string]string{
			subjects.HeaderJob: letter.Job.ID, subjects.HeaderUser: string(letter.Job.User), subjects.HeaderDevice: string(letter.Job.Device),
			subjects.HeaderSession: letter.Job.Session,
		} {
			if value != "" {
				msg.Header.Set(key, value)
			}
		}
	default:
		err = errors.New("it is about nothing that this release knows")
	}
	if err == nil {
		_, err = s.publish(ctx, msg.Subject, msg.Header, msg.Data)
	}
	if err != nil {
		return fmt.Errorf("revive dead letter %d: %w", sequence, err)
	}
	return s.forget(ctx, sequence)
}

// entrySequence returns where the entry is in its stream: an entry that was handed over again by a job died as the job.
func (d DeadLetter) entrySequence() uint64 {
	var ref wire.EntryRef
	if d.Job != nil && json.Unmarshal(d.Job.Data, &ref) == nil && ref.Sequence > 0 {
		return ref.Sequence
	}
	return d.DeadLetter.Sequence
}

// ForgetDead erases a dead letter. ErrNotFound says that the function has no such letter.
func (s *Store) ForgetDead(ctx context.Context, f subjects.Function, sequence uint64) error {
	if _, err := s.deadLetter(ctx, f, sequence); err != nil {
		return err
	}
	return s.forget(ctx, sequence)
}

func (s *Store) forget(ctx context.Context, sequence uint64) error {
	if err := s.erase(ctx, subjects.StreamDeadLetters, sequence); err != nil {
		return fmt.Errorf("forget dead letter %d: %w", sequence, err)
	}
	return nil
}

func (s *Store) deadLetter(ctx context.Context, f subjects.Function, sequence uint64) (DeadLetter, error) {
	msg, err := s.sequenceFromLeader(ctx, subjects.StreamDeadLetters, sequence)
	if err == nil && msg.Subject != subjects.Dead(f) {
		err = ErrNotFound
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("dead letter %d of %s: %w", sequence, f, err)
	}
	letter := DeadLetter{Sequence: sequence}
	return letter, decode(msg, &letter.DeadLetter)
}
