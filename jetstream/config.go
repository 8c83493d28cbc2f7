package jetstream

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/confab-im/confab/subjects"
)

// layoutRecord is what Declare leaves in IM_CONFIG for Open.
type layoutRecord struct {
	Layout     int   `json:"layout"`
	Partitions int   `json:"partitions"`
	Replicas   int   `json:"replicas"`
	DedupeMS   int64 `json:"dedupe_ms"`
	Restoring  bool  `json:"restoring,omitempty"`  // a restore has begun here and has not ended
	MarksOnce  bool  `json:"marks_once,omitempty"` // nothing is left of the marks that earlier builds kept a second time
}

// checkLayout reads the layout from the leader. An older one counts as not declared yet, and another number of partitions as too new: what this
// release would read or write there is not what others do.
func (s *Store) checkLayout(ctx context.Context) (layoutRecord, error) {
	var layout layoutRecord
	if _, err := s.readKey(ctx, subjects.BucketConfig, subjects.LayoutKey, &layout); err != nil {
		return layout, err
	}
	switch {
	case layout.Restoring:
		return layout, ErrRestoring
	case layout.Layout > Layout:
		return layout, newerLayout(layout.Layout)
	case layout.Layout < Layout:
		return layout, fmt.Errorf("%w in layout %d, only in %d; run this release's deployer", ErrNotDeclared, Layout, layout.Layout)
	case layout.Partitions != subjects.Partitions:
		return layout, fmt.Errorf("%w: %d partitions, and this release has %d; the number is fixed when the streams are made",
			ErrNewerLayout, layout.Partitions, subjects.Partitions)
	}
	return layout, nil
}

// writeLayout tells Open that all assets are there.
func (s *Store) writeLayout(ctx context.Context, p Profile) error {
	want := layoutRecord{Layout: Layout, Partitions: subjects.Partitions, Replicas: p.Replicas, DedupeMS: p.Dedupe.Milliseconds(), MarksOnce: true}
	if have, err := s.checkLayout(ctx); err == nil && have == want {
		return nil
	}
	_, err := s.put(ctx, subjects.BucketConfig, subjects.LayoutKey, want, 0)
	return err
}

// Setting returns a setting that operators changed while everything runs, and its revision, or ErrNotFound; name is of the form of a
// function's name. Changes are republished on im.config.<name>.
func (s *Store) Setting(ctx context.Context, name subjects.Function) (value json.RawMessage, revision uint64, err error) {
	revision, err = s.readKey(ctx, subjects.BucketConfig, subjects.ConfigKey(string(name)), &value)
	return value, revision, err
}

// PutSetting stores a setting if its revision still is the given one, 0 for a new one, else ErrConflict.
func (s *Store) PutSetting(ctx context.Context, name subjects.Function, value json.RawMessage, revision uint64) (uint64, error) {
	return s.update(ctx, subjects.BucketConfig, subjects.ConfigKey(string(name)), value, revision, 0)
}
