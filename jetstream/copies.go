package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/subjects"
)

// A copy of a stream is the server's own form (ADR-75 of NATS): an archive of its state, its consumers and its messages in order, compressed. The server
// writes it while others write to the stream, and reads message after message for it, so what is overwritten or erased meanwhile is missing in it, and what
// is new as well: Scan from the copy's last sequence on completes it.
const (
	copyChunk    = 128 << 10        // bytes of one piece of a copy
	copyWindow   = 4 << 20          // bytes under way before the receiver must have said that they came
	copyPatience = 30 * time.Second // until the next piece, or until somebody says that one came
	restoreEnd   = 10 * time.Minute // until the server has stored the whole of a copy after its last piece
)

// CopyStream writes a copy of a stream with the places of its consumers, and returns the last sequence that the stream had when it began.
func CopyStream(ctx context.Context, nc *nats.Conn, stream string, w io.Writer) (last uint64, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, fmt.Errorf("copy %s: %w", stream, natsError(err))
	}
	defer func() { _ = sub.Unsubscribe() }()             // on a closed connection there is nothing to end
	if err := sub.SetPendingLimits(-1, -1); err != nil { // the window bounds it
		return 0, fmt.Errorf("copy %s: %w", stream, natsError(err))
	}
	request := struct {
		Deliver string `json:"deliver_subject"`
		Chunk   int    `json:"chunk_size"`
		Window  int    `json:"window_size"`
	}{inbox, copyChunk, copyWindow}
	var answer struct {
		Error *apiError `json:"error"`
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := askAt(ctx, nc, subjects.SnapshotStream(stream), request, &answer); err != nil {
		return 0, fmt.Errorf("copy %s: %w", stream, err)
	}
	if answer.Error != nil {
		return 0, fmt.Errorf("copy %s: %w", stream, answer.Error)
	}
	for {
		chunk, err := next(ctx, sub)
		switch {
		case err != nil:
			return 0, fmt.Errorf("copy %s: %w", stream, err)
		case len(chunk.Data) == 0: // the end, with a status where one of the pieces before was whole
			if status := chunk.Header.Get("Status"); status != "" && status != "204" {
				return 0, fmt.Errorf("copy %s: %w", stream, statusError(status, chunk.Header.Get("Description")))
			}
			return answer.State.Last, nil
		}
		if _, err := w.Write(chunk.Data); err != nil {
			return 0, fmt.Errorf("copy %s: %w", stream, err)
		}
		if chunk.Reply == "" { // the last piece
			continue
		}
		if err := nc.Publish(chunk.Reply, nil); err != nil {
			return 0, fmt.Errorf("copy %s: %w", stream, natsError(err))
		}
	}
}

// next waits for the next message of a subscription, for copyPatience at most.
func next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, natsError(err)
	}
	return msg, nil
}

// askAt sends a JSON request to JetStream over a connection without a store, and reads the JSON answer.
func askAt(ctx context.Context, nc *nats.Conn, subject string, body, answer any) error {
	var data []byte
	if body != nil { // some requests must be empty
		var err error
		if data, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write a request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	var reply *nats.Msg
	err := untilHeard(ctx, func() (err error) {
		if reply, err = nc.RequestWithContext(ctx, subject, data); err != nil {
			return natsError(err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("%w: an answer that is not JSON: %w", ErrUnavailable, err)
	}
	return nil
}

// CopiedState is what is known of a stream before its messages are restored.
type CopiedState struct {
	Messages  uint64 `json:"messages"`
	Bytes     uint64 `json:"bytes"` // about as many as the messages take in the store; the server makes room for them first
	First     uint64 `json:"first_seq"`
	Last      uint64 `json:"last_seq"`
	Consumers int    `json:"consumer_count"`
}

// RestoreStream makes the stream of an asset out of a copy, in the shape that the profile gives it; the stream must not be there yet. The pieces of the copy are
// confirmed by the server one after the other. After an error a part of the stream may be there.
func RestoreStream(ctx context.Context, nc *nats.Conn, asset Asset, p Profile, state CopiedState, r io.Reader) error {
	request := struct {
		Config jetstream.StreamConfig `json:"config"`
		State  CopiedState            `json:"state"`
	}{asset.config(p.withDefaults()), state}
	var answer struct {
		Error   *apiError `json:"error"`
		Deliver string    `json:"deliver_subject"`
	}
	err := askAt(ctx, nc, subjects.RestoreStream(asset.Stream), request, &answer)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err == nil {
		err = sendCopy(ctx, nc, answer.Deliver, r)
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", asset.Stream, err)
	}
	return nil
}

// sendCopy sends the pieces of a copy, a window of them ahead of what the server has confirmed, and waits until it has stored them all.
func sendCopy(ctx context.Context, nc *nats.Conn, to string, r io.Reader) error {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return natsError(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	open, first := 0, true // pieces under way, and whether none has come yet
	confirmed := func() error {
		reply, err := next(ctx, sub)
		if err != nil {
			return err
		}
		open--
		return restored(reply)
	}
	chunk := make([]byte, copyChunk)
	for {
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			if open >= copyWindow/copyChunk {
				if err := confirmed(); err != nil {
					return err
				}
			}
			if first {
				// Another server may have answered than the one that this connection speaks to, which then does not know yet who takes the pieces.
				if err := firstPiece(ctx, nc, to, chunk[:n]); err != nil {
					return err
				}
				first = false
			} else if err := nc.PublishRequest(to, inbox, bytes.Clone(chunk[:n])); err != nil {
				return natsError(err)
			} else {
				open++
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	for open > 0 {
		if err := confirmed(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, restoreEnd)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, to, nil)
	if err != nil {
		return natsError(err)
	}
	return restored(reply)
}

// firstPiece sends the first piece of a copy, again while nobody is there to take it, until it was taken.
func firstPiece(ctx context.Context, nc *nats.Conn, to string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	for {
		reply, err := nc.RequestWithContext(ctx, to, data)
		if err == nil {
			return restored(reply)
		}
		if !errors.Is(err, nats.ErrNoResponders) {
			return natsError(err)
		}
		if err := pause(ctx, raiseTries); err != nil {
			return err
		}
	}
}

// restored reads what the server says to a piece of a copy: nothing, or at the end and where it fails, an answer.
func restored(reply *nats.Msg) error {
	if status := reply.Header.Get("Status"); status != "" {
		return statusError(status, reply.Header.Get("Description"))
	}
	if len(reply.Data) == 0 {
		return nil
	}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("%w: an answer that is not JSON: %w", ErrUnavailable, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// Present returns which of the assets a server has already.
func Present(ctx context.Context, nc *nats.Conn) ([]string, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("look what is there: %w", err)
	}
	ours := map[string]bool{}
	for _, a := range Assets() {
		ours[a.Stream] = true
	}
	var there []string
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if ours[name] {
			there = append(there, name)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("look what is there: %w", libraryError(err))
	}
	return there, nil
}

// RemoveStream deletes a stream with everything in it; one that is not there is no error.
func RemoveStream(ctx context.Context, nc *nats.Conn, stream string) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	err := askAt(ctx, nc, subjects.DeleteStream(stream), nil, &answer)
	if err == nil && answer.Error != nil && answer.Error.ErrCode != codeStreamMissing {
		err = answer.Error
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", stream, err)
	}
	return nil
}

// Shape is how a store was declared.
func (s *Store) Shape(ctx context.Context) (Profile, error) {
	var answer struct {
		Error  *apiError `json:"error"`
		Config struct {
			MaxBytes int64 `json:"max_bytes"`
		} `json:"config"`
	}
	err := s.ask(ctx, subjects.StreamInfo(subjects.MessagesStream(0)), struct{}{}, &answer)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		return Profile{}, fmt.Errorf("look how the store was declared: %w", err)
	}
	return Profile{Replicas: s.layout.Replicas, MaxBytes: max(0, answer.Config.MaxBytes), Dedupe: s.Dedupe()}, nil
}
