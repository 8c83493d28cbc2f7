package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// Headers of the key-value layer of NATS (ADR-8).
const (
	headerOperation = "KV-Operation"
	headerMarker    = "Nats-Marker-Reason"
	operationDelete = "DEL"
)

const (
	// markerTTL is how long the note of a removal stays where it guards a concurrent write against an absent key.
	markerTTL = time.Minute
	// raiseTries bounds compare-and-set loops; each try waits a random moment longer.
	raiseTries = 20
)

// gone reports whether a message is the note that a key was removed or has expired.
func (m *rawMsg) gone() bool {
	return m.Header.Get(headerOperation) != "" || m.Header.Get(headerMarker) != ""
}

// key returns the key of a bucket's message.
func (m *rawMsg) key(bucket string) string {
	return strings.TrimPrefix(m.Subject, subjects.BucketSubject(bucket, ""))
}

// readKey reads a record from the leader into value and returns its revision, or ErrNotFound, with the revision of the note of a removal if
// there is one: a compare-and-set against it makes the key anew.
func (s *Store) readKey(ctx context.Context, bucket, key string, value any) (revision uint64, err error) {
	msg, err := s.newest(ctx, subjects.BucketStream(bucket), subjects.BucketSubject(bucket, key))
	if err != nil {
		return 0, fmt.Errorf("read %s of %s: %w", key, bucket, err)
	}
	if msg.gone() {
		return msg.Sequence, fmt.Errorf("read %s of %s: %w", key, bucket, ErrNotFound)
	}
	if err := json.Unmarshal(msg.Data, value); err != nil {
		return 0, fmt.Errorf("read %s of %s: %w", key, bucket, err)
	}
	return msg.Sequence, nil
}

// put writes a record whatever was there. A ttl of 0 keeps it for ever; others are rounded up to seconds.
func (s *Store) put(ctx context.Context, bucket, key string, value any, ttl time.Duration) (revision uint64, err error) {
	return s.write(ctx, bucket, key, value, nats.Header{}, ttl)
}

// update writes a record if its revision still is the given one, 0 for a key that must not exist, else ErrConflict.
func (s *Store) update(ctx context.Context, bucket, key string, value any, revision uint64, ttl time.Duration) (uint64, error) {
	return s.write(ctx, bucket, key, value, expecting(revision), ttl)
}

// createTries bounds how often a record is looked for that somebody else is making, over about a second.
const createTries = 40

// create writes a record that must not exist, else ErrExists, after which a read finds what is there. The leader of several servers refuses a record as soon as it has proposed another one, which nobody
// can read before most of them have it.
func (s *Store) create(ctx context.Context, bucket, key string, value any, ttl time.Duration) (revision uint64, err error) {
	var at uint64 // the note of a removal, which may be written over; 0 = there is none
	for try := range createTries {
		revision, err = s.update(ctx, bucket, key, value, at, ttl)
		if !errors.Is(err, ErrConflict) {
			return revision, err
		}
		before := at
		var there json.RawMessage
		at, err = s.readKey(ctx, bucket, key, &there)
		switch {
		case err == nil:
			return 0, fmt.Errorf("create %s of %s: %w", key, bucket, ErrExists)
		case !errors.Is(err, ErrNotFound):
			return 0, err
		case at != before: // this note was not known
			continue
		}
		if err := pause(ctx, try); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("create %s of %s: %w", key, bucket, ErrExists)
}

// remove leaves the note of a removal, which expires after ttl, if the revision still is the given one, else ErrConflict. It returns the note's revision.
func (s *Store) remove(ctx context.Context, bucket, key string, revision uint64, ttl time.Duration) (uint64, error) {
	header := expecting(revision)
	header.Set(headerOperation, operationDelete)
	return s.write(ctx, bucket, key, nil, header, ttl)
}

func (s *Store) write(ctx context.Context, bucket, key string, value any, header nats.Header, ttl time.Duration) (uint64, error) {
	var data []byte
	if value != nil {
		var err error
		if data, err = json.Marshal(value); err != nil {
			return 0, fmt.Errorf("write %s of %s: %w", key, bucket, err)
		}
	}
	if ttl > 0 {
		header.Set(nats.MsgTTLHdr, strconv.FormatInt(int64((ttl+time.Second-1)/time.Second), 10)+"s")
	}
	stored, err := s.publish(ctx, subjects.BucketSubject(bucket, key), header, data)
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", key, bucket, err)
	}
	return stored.Sequence, nil
}

func expecting(revision uint64) nats.Header {
	return nats.Header{nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(revision, 10)}}
}

// lifetime returns the ttl of a record that ends at a time, at least a second: 0 would keep it for ever.
func lifetime(end time.Time) time.Duration { return max(time.Second, time.Until(end)) }

// pause waits a random moment that grows with the number of tries, after somebody else wrote first.
func pause(ctx context.Context, try int) error {
	select {
	case <-ctx.Done():
		return natsError(ctx.Err())
	case <-time.After(rand.N(time.Duration(try+1) * 2 * time.Millisecond)):
		return nil
	}
}

// matching returns the records of a bucket under keys and patterns, in ascending order of key, from any replica. It costs one request for up
// to 1,024 records. Where there are more it asks for the names first, from the leader, and then for the records by name.
func (s *Store) matching(ctx context.Context, bucket string, patterns ...string) ([]*rawMsg, error) {
	found, _, err := s.matchingSubjects(ctx, subjects.BucketStream(bucket), bucketSubjects(bucket, patterns))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, (*rawMsg).gone), nil
}

// bucketSubjects returns the subjects under which a bucket's stream stores keys and patterns of keys.
func bucketSubjects(bucket string, patterns []string) []string {
	names := make([]string, len(patterns))
	for i, pattern := range patterns {
		names[i] = subjects.BucketSubject(bucket, pattern)
	}
	return names
}

func (s *Store) matchingSubjects(ctx context.Context, stream string, names []string) (found []*rawMsg, upTo uint64, err error) {
	found, upTo, err = s.multiLastUpTo(ctx, stream, names)
	if errors.Is(err, ErrTooMany) {
		var all []string
		for _, name := range names {
			if !strings.ContainsAny(name, "*>") {
				all = append(all, name)
				continue
			}
			matched, err := s.keys(ctx, stream, name)
			if err != nil {
				return nil, 0, err
			}
			all = append(all, matched...)
		}
		found, upTo, err = s.multiLastUpTo(ctx, stream, all)
	}
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(found, func(a, b *rawMsg) int { return cmp.Compare(a.Subject, b.Subject) })
	return found, upTo, nil
}

// fresh is matching that sees every write that was acknowledged before. Of one server that is so by itself. Of more, the answering
// replica tells how far it had come, which is compared with the leader's last sequence.
func (s *Store) fresh(ctx context.Context, bucket string, patterns ...string) ([]*rawMsg, error) {
	return s.freshBy(ctx, subjects.BucketStream(bucket), bucketSubjects(bucket, patterns), s.matchingSubjects)
}

// freshBy is fresh with what reads the names from any replica, and says how far that had come.
func (s *Store) freshBy(ctx context.Context, stream string, names []string, read func(ctx context.Context, stream string, names []string) ([]*rawMsg, uint64, error)) ([]*rawMsg, error) {
	if s.alone() {
		found, _, err := read(ctx, stream, names)
		return slices.DeleteFunc(found, (*rawMsg).gone), err
	}
	last, err := s.lastSequence(ctx, stream)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		found, upTo, err := read(ctx, stream, names)
		if err != nil {
			return nil, err
		}
		if upTo == 0 { // nothing found, so nobody told how far it had come
			if found, err = s.eachFromLeader(ctx, stream, names); err != nil {
				return nil, err
			}
		}
		if upTo == 0 || upTo >= last {
			return slices.DeleteFunc(found, (*rawMsg).gone), nil
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// leaderReads is how many requests for single records are on their way at once.
const leaderReads = 64

// eachFromLeader is matchingSubjects with a request to the leader for every name: dear, and only for what a replica does not have.
func (s *Store) eachFromLeader(ctx context.Context, stream string, names []string) ([]*rawMsg, error) {
	var exact []string
	for _, name := range names {
		if !strings.ContainsAny(name, "*>") {
			exact = append(exact, name)
			continue
		}
		matched, err := s.keys(ctx, stream, name)
		if err != nil {
			return nil, err
		}
		exact = append(exact, matched...)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1) // the first failure
	found := make([]*rawMsg, len(exact))
	turns := make(chan struct{}, leaderReads)
	var all sync.WaitGroup
	for i, subject := range exact {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			msg, err := s.lastFromLeader(ctx, stream, subject)
			if found[i] = msg; err == nil || errors.Is(err, ErrNotFound) {
				return
			}
			select {
			case failed <- err:
				cancel() // the others need not be tried
			default:
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	return slices.DeleteFunc(found, func(m *rawMsg) bool { return m == nil }), nil
}

// decode reads a record that matching or fresh found.
func decode(msg *rawMsg, value any) error {
	if err := json.Unmarshal(msg.Data, value); err != nil {
		return fmt.Errorf("read %s: %w", msg.Subject, err)
	}
	return nil
}

// lastToken returns the user that a key ends with.
func lastToken(subject string) subjects.User {
	return subjects.User(subject[strings.LastIndexByte(subject, '.')+1:])
}
