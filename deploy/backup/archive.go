package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"

	"github.com/confab-im/confab/jetstream"
)

// The archive of a copy is the server's: the state of the stream, its consumers, its messages by ascending sequence, and an entry in which everything is
// empty. The parts that confab adds are archives of messages alone.
const stateName = "state.json"

// encoder writes an archive, compressed.
type encoder struct {
	compressed *s2.Writer
	archive    *archive.Writer
}

func newEncoder(w io.Writer) *encoder {
	compressed := s2.NewWriter(w, s2.WriterConcurrency(1))
	return &encoder{compressed, archive.NewWriter(compressed)}
}

func (e *encoder) entry(h archive.Header, parts ...[]byte) error {
	err := e.archive.WriteHeader(&h)
	for _, p := range parts {
		if err == nil {
			_, err = e.archive.Write(p)
		}
	}
	return err
}

// named writes an entry that is no message.
func (e *encoder) named(name string, data []byte) error {
	return e.entry(archive.Header{Name: name, Timestamp: time.Now().UnixNano(), PayloadSize: int64(len(data))}, data)
}

func (e *encoder) message(m jetstream.Stored) error {
	return e.entry(archive.Header{
		Name: m.Subject, Sequence: m.Sequence, Timestamp: m.Time.UnixNano(), HeaderSize: int64(len(m.Header)), PayloadSize: int64(len(m.Data)),
	}, m.Header, m.Data)
}

// end writes the last entry.
func (e *encoder) end() error {
	return errors.Join(e.entry(archive.Header{}), e.archive.Close(), e.compressed.Close())
}

// contents is what an archive holds beside messages.
type contents struct {
	state     jetstream.CopiedState
	consumers map[string][]byte // by the names of their entries
}

// maxNamed bounds an entry that is no message, in bytes: a consumer knows of each message that is in somebody's hands.
const maxNamed = 64 << 20

// maxMessage bounds a message with its headers, in bytes, above what a server takes at most.
const maxMessage = 64 << 20

// decode reads an archive to its end and calls take with each message; an archive of a stream that has no part is empty.
func decode(r io.Reader, take func(jetstream.Stored) error) (contents, error) {
	found := contents{consumers: map[string][]byte{}}
	in := archive.NewReader(s2.NewReader(r))
	for {
		h, err := in.Next()
		if err != nil {
			return found, fmt.Errorf("%w: an archive without an end: %w", ErrDamaged, err)
		}
		if h.Sequence == 0 && h.Name == "" {
			return found, nil
		}
		limit := int64(maxMessage)
		if h.Sequence == 0 {
			limit = maxNamed
		}
		if h.HeaderSize+h.PayloadSize > limit {
			return found, fmt.Errorf("%w: an entry of %d bytes", ErrDamaged, h.HeaderSize+h.PayloadSize)
		}
		data := make([]byte, h.HeaderSize+h.PayloadSize)
		if _, err := io.ReadFull(in, data); err != nil {
			return found, fmt.Errorf("%w: %s: %w", ErrDamaged, h.Name, err)
		}
		switch {
		case h.Sequence > 0:
			err = take(jetstream.Stored{
				Subject: h.Name, Sequence: h.Sequence, Time: time.Unix(0, h.Timestamp), Header: data[:h.HeaderSize:h.HeaderSize], Data: data[h.HeaderSize:],
			})
		case h.Name == stateName:
			err = json.Unmarshal(data, &found.state)
		default:
			found.consumers[h.Name] = data
		}
		if err != nil {
			return found, err
		}
	}
}
