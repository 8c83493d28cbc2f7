// Package backup copies everything that confab remembers into one file while others write, and makes a store out of such a file.
//
// It knows the file and the order of things; what the records mean and how they fit together is package jetstream's.
package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// Options says how a backup is taken.
type Options struct {
	Version  string                           // of this program, for the manifest
	Progress func(stream string, bytes int64) // called after each part with how much was written in all; nil = nobody is told
}

// Take writes a backup of the store behind a connection to a file that must not be there. It copies while others write: everything that was acknowledged
// before Manifest.Began is in it, nothing that came after Manifest.Ended. A file that was cut short keeps the name that ends in .partial.
func Take(ctx context.Context, nc *nats.Conn, name string, o Options) (Manifest, error) {
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		return Manifest{}, err
	}
	defer store.Close()
	w, err := newWriter(name)
	if err != nil {
		return Manifest{}, err
	}
	t := taker{nc: nc, store: store, w: w, progress: o.Progress}
	layout, err := store.Shape(ctx)
	if err != nil {
		return Manifest{}, err
	}
	t.manifest = Manifest{
		Format: format, Layout: jetstream.Layout, Partitions: subjects.Partitions, Version: o.Version, Began: time.Now().UTC(),
		Replicas: layout.Replicas, DedupeMS: layout.Dedupe.Milliseconds(), MaxBytes: layout.MaxBytes,
	}
	if err := t.all(ctx); err != nil {
		w.abandon()
		return Manifest{}, fmt.Errorf("take a backup: %w", err)
	}
	t.manifest.Ended = time.Now().UTC()
	if err := w.end(t.manifest); err != nil {
		w.abandon()
		return Manifest{}, err
	}
	return t.manifest, nil
}

// taker takes one backup.
type taker struct {
	nc       *nats.Conn
	store    *jetstream.Store
	w        *writer
	manifest Manifest
	progress func(string, int64)
	bytes    int64
}

// all copies every asset, in the order that their meaning asks for.
func (t *taker) all(ctx context.Context) error {
	ends := map[string]uint64{}
	for _, asset := range jetstream.CopyOrder() {
		copied := t.w.part(asset.Stream, partCopy)
		last, err := jetstream.CopyStream(ctx, t.nc, asset.Stream, copied)
		if err != nil {
			return err
		}
		first, err := copied.end(last)
		if err != nil {
			return err
		}
		t.tell(asset.Stream, first.Bytes)
		rest, err := t.scan(ctx, asset.Stream, partRest, last)
		if err != nil {
			return err
		}
		ends[asset.Stream] = rest.Last
		t.manifest.Assets = append(t.manifest.Assets, Asset{Stream: asset.Stream, Parts: []Part{first, rest}})
		t.tell(asset.Stream, rest.Bytes)
	}
	for _, stream := range jetstream.CopyAgain() {
		later, err := t.scan(ctx, stream, partLater, ends[stream])
		if err != nil {
			return err
		}
		for i, a := range t.manifest.Assets {
			if a.Stream == stream {
				t.manifest.Assets[i].Parts = append(a.Parts, later)
			}
		}
		t.tell(stream, later.Bytes)
	}
	return nil
}

func (t *taker) tell(stream string, bytes int64) {
	t.bytes += bytes
	if t.progress != nil {
		t.progress(stream, t.bytes)
	}
}

// scan writes what a stream has behind a sequence as a part of its own.
func (t *taker) scan(ctx context.Context, stream, name string, after uint64) (Part, error) {
	p := t.w.part(stream, name)
	out := newEncoder(p)
	through, err := t.store.Scan(ctx, stream, after, out.message)
	if err == nil {
		err = out.end()
	}
	if err != nil {
		return Part{}, fmt.Errorf("copy %s: %w", stream, err)
	}
	return p.end(max(after, through))
}
