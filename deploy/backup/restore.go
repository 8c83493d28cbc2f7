package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// ErrNotEmpty means that a server has streams of confab already; a restore changes none.
var ErrNotEmpty = errors.New("the server is not empty")

// RestoreOptions says how a backup is restored.
type RestoreOptions struct {
	Replicas     int                 // copies of each stream; 0 = as many as the store had that was backed up
	KeepSessions bool                // who was signed in stays so, also who has signed out since, and whoever had a token stolen that was spent since
	Progress     func(stream string) // called before each stream; nil = nobody is told
}

// Restore makes a store out of a backup on a server without one. Sequences, seqs and times are as they were. The store can be opened when Restore has returned;
// where it fails, the streams that it made are deleted again.
func (f *File) Restore(ctx context.Context, nc *nats.Conn, o RestoreOptions) (jetstream.Mended, error) {
	r, err := f.restorer(nc, o)
	if err != nil {
		return jetstream.Mended{}, err
	}
	there, err := jetstream.Present(ctx, nc)
	if err != nil {
		return jetstream.Mended{}, fmt.Errorf("restore: %w", err)
	}
	if len(there) > 0 {
		return jetstream.Mended{}, fmt.Errorf("restore: %w: it has %s", ErrNotEmpty, strings.Join(there, ", "))
	}
	if err := r.look(); err != nil {
		return jetstream.Mended{}, fmt.Errorf("restore: %w", err)
	}
	err = r.all(ctx)
	if err == nil {
		err = jetstream.EndRestore(ctx, nc, r.profile)
	}
	if err != nil {
		return jetstream.Mended{}, fmt.Errorf("restore: %w", errors.Join(err, r.undo(ctx)))
	}
	return r.mender.Mended(), nil
}

// restorer is one restore.
type restorer struct {
	*File
	nc      *nats.Conn
	profile jetstream.Profile
	mender  *jetstream.Mender
	plans   map[string]*plan
	tell    func(string)
	made    []string
}

// plan is what is known of a stream before its messages are sent.
type plan struct {
	contents
	newer map[string]uint64 // of a bucket: the last sequence of keys that were written after the copy was begun
}

func (f *File) restorer(nc *nats.Conn, o RestoreOptions) (*restorer, error) {
	m := &f.Manifest
	switch {
	case m.Layout > jetstream.Layout:
		return nil, fmt.Errorf("restore: %w: layout %d, and this one knows %d", ErrNewer, m.Layout, jetstream.Layout)
	case m.Layout < jetstream.Layout || m.Partitions != subjects.Partitions:
		return nil, fmt.Errorf("restore: the backup has layout %d with %d partitions, and this release %d with %d; restore it with the release that wrote it (%s)",
			m.Layout, m.Partitions, jetstream.Layout, subjects.Partitions, m.Version)
	}
	for _, a := range jetstream.CopyOrder() {
		if !m.has(a.Stream, partCopy) || !m.has(a.Stream, partRest) {
			return nil, fmt.Errorf("restore: %w: %s is not in it", ErrDamaged, a.Stream)
		}
	}
	for _, stream := range jetstream.CopyAgain() {
		if !m.has(stream, partLater) {
			return nil, fmt.Errorf("restore: %w: the end of %s is not in it", ErrDamaged, stream)
		}
	}
	dedupe := time.Duration(m.DedupeMS) * time.Millisecond
	r := &restorer{
		File: f, nc: nc, plans: map[string]*plan{}, tell: o.Progress, mender: jetstream.NewMender(dedupe, o.KeepSessions),
		profile: jetstream.Profile{Replicas: max(o.Replicas, 1), MaxBytes: m.MaxBytes, Dedupe: dedupe},
	}
	if o.Replicas == 0 {
		r.profile.Replicas = max(m.Replicas, 1)
	}
	return r, r.profile.Validate()
}

// look reads everything once. Nothing is sent before all of it was read.
func (r *restorer) look() error {
	decided := false
	for _, asset := range jetstream.CopyOrder() {
		if asset.Stream == subjects.BucketStream(subjects.BucketCursors) {
			if err := r.mender.Decide(); err != nil {
				return err
			}
			decided = true
		}
		p := &plan{newer: map[string]uint64{}}
		r.plans[asset.Stream] = p
		if asset.Bucket != "" {
			if _, err := decode(r.open(asset.Stream, partRest), func(m jetstream.Stored) error { p.newer[m.Subject] = m.Sequence; return nil }); err != nil {
				return fmt.Errorf("read %s: %w", asset.Stream, err)
			}
		}
		state := jetstream.CopiedState{Last: r.Manifest.last(asset.Stream)}
		err := r.messages(asset, func(m jetstream.Stored) error {
			state.Messages++
			state.Bytes += uint64(len(m.Subject)+len(m.Header)+len(m.Data)) + perMessage
			return r.mender.Look(asset.Stream, m)
		})
		if err == nil && asset.Stream == subjects.BucketStream(subjects.BucketMembers) {
			_, err = decode(r.open(asset.Stream, partLater), func(m jetstream.Stored) error { return r.mender.LookLater(asset.Stream, m) })
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", asset.Stream, err)
		}
		state.First = p.state.First
		p.state = state
	}
	if !decided {
		return r.mender.Decide()
	}
	return nil
}

// perMessage is what a server stores beside subject, headers and data, in bytes, about.
const perMessage = 30

// messages calls take with every message of an asset in order, of a bucket with the newest of each key.
func (r *restorer) messages(asset jetstream.Asset, take func(jetstream.Stored) error) error {
	p := r.plans[asset.Stream]
	newest := func(m jetstream.Stored) error {
		if last, newer := p.newer[m.Subject]; newer && last != m.Sequence {
			return nil
		}
		return take(m)
	}
	copied, err := decode(r.open(asset.Stream, partCopy), newest)
	if err != nil {
		return err
	}
	if p.consumers == nil {
		p.contents = copied
	}
	parts := []string{partRest}
	if asset.Stream == subjects.StreamJobs {
		parts = append(parts, partLater)
	}
	for _, name := range parts {
		if _, err := decode(r.open(asset.Stream, name), newest); err != nil {
			return err
		}
	}
	return nil
}

// all restores every stream, the one first that says that a restore is under way.
func (r *restorer) all(ctx context.Context) error {
	for _, asset := range jetstream.CopyOrder() {
		if err := r.stream(ctx, asset); err != nil {
			return err
		}
	}
	for _, asset := range jetstream.Assets() {
		if asset.Bucket == subjects.BucketAmends {
			r.plans[asset.Stream] = &plan{}
			return r.stream(ctx, asset)
		}
	}
	return nil
}

// stream restores one stream.
func (r *restorer) stream(ctx context.Context, asset jetstream.Asset) error {
	if r.tell != nil {
		r.tell(asset.Stream)
	}
	p := r.plans[asset.Stream]
	rest, err := r.mender.Rest(asset.Stream)
	if err != nil {
		return err
	}
	state := p.state
	for i := range rest {
		rest[i].Sequence, rest[i].Time = state.Last+uint64(i)+1, time.Now()
		state.Bytes += uint64(len(rest[i].Subject)+len(rest[i].Data)) + perMessage
	}
	state.Messages += uint64(len(rest))
	if state.Last += uint64(len(rest)); state.Last > 0 {
		state.First = max(1, state.First)
	}
	state.Consumers = len(p.consumers)
	reader, writer := io.Pipe()
	encoded := make(chan error, 1)
	go func() {
		err := r.encode(asset, writer, state, rest)
		encoded <- err
		_ = writer.CloseWithError(err) // never fails; nil is the end
	}()
	r.made = append(r.made, asset.Stream)
	err = jetstream.RestoreStream(ctx, r.nc, asset, r.profile, state, reader)
	_ = reader.CloseWithError(io.ErrClosedPipe) // so that the other end does not wait for a reader that has given up
	if failed := <-encoded; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return fmt.Errorf("restore %s: %w", asset.Stream, failed)
	}
	return err
}

// encode writes the archive that a stream is made of.
func (r *restorer) encode(asset jetstream.Asset, w io.Writer, state jetstream.CopiedState, rest []jetstream.Stored) error {
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	out := newEncoder(w)
	if err := out.named(stateName, data); err != nil {
		return err
	}
	consumers := r.plans[asset.Stream].consumers
	for _, name := range slices.Sorted(maps.Keys(consumers)) {
		if err := out.named(name, consumers[name]); err != nil {
			return err
		}
	}
	if r.Manifest.has(asset.Stream, partCopy) {
		err := r.messages(asset, func(m jetstream.Stored) error {
			m, keep, err := r.mender.Mend(asset.Stream, m)
			if err != nil || !keep {
				return err
			}
			return out.message(m)
		})
		if err != nil {
			return err
		}
	}
	for _, m := range rest {
		if err := out.message(m); err != nil {
			return err
		}
	}
	return out.end()
}

// undoWithin bounds how long the streams of a failed restore are deleted.
const undoWithin = 30 * time.Second

// undo deletes the streams that this restore has made.
func (r *restorer) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	var errs []error
	for _, stream := range slices.Backward(r.made) { // the first one says that a restore is under way
		errs = append(errs, jetstream.RemoveStream(ctx, r.nc, stream))
	}
	return errors.Join(errs...)
}
