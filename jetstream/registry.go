package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Register leaves what callers must know of a function while it sleeps; it is the deployer's act. Where nothing changes nothing is written. Changes
// are republished on im.config.functions.<f>.
func (s *Store) Register(ctx context.Context, r wire.Registered) error {
	if _, _, err := subjects.ParseCall(string(r.Function) + ".any"); err != nil {
		return fmt.Errorf("register a function: %w", err)
	}
	want, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("register function %s: %w", r.Function, err)
	}
	return s.changeRegistered(ctx, r.Function, func(have []byte, revision uint64) error {
		if bytes.Equal(have, want) {
			return nil
		}
		_, err := s.update(ctx, subjects.BucketConfig, subjects.RegistryKey(r.Function), json.RawMessage(want), revision, 0)
		return err
	})
}

// Unregister removes what Register left. It succeeds also where there is nothing.
func (s *Store) Unregister(ctx context.Context, f subjects.Function) error {
	if _, _, err := subjects.ParseCall(string(f) + ".any"); err != nil {
		return fmt.Errorf("unregister a function: %w", err)
	}
	return s.changeRegistered(ctx, f, func(have []byte, revision uint64) error {
		if have == nil {
			return nil
		}
		_, err := s.remove(ctx, subjects.BucketConfig, subjects.RegistryKey(f), revision, 0)
		return err
	})
}

// changeRegistered calls change with what is stored of a function, nil where nothing is, until nobody else writes in between.
func (s *Store) changeRegistered(ctx context.Context, f subjects.Function, change func(have []byte, revision uint64) error) error {
	for try := 0; ; try++ {
		msg, err := s.lastFromLeader(ctx, subjects.BucketStream(subjects.BucketConfig), subjects.BucketSubject(subjects.BucketConfig, subjects.RegistryKey(f)))
		switch {
		case errors.Is(err, ErrNotFound):
			err = change(nil, 0)
		case err != nil:
			return fmt.Errorf("read the registry: %w", err)
		case msg.gone():
			err = change(nil, msg.Sequence)
		default:
			err = change(msg.Data, msg.Sequence)
		}
		if !errors.Is(err, ErrConflict) || try == raiseTries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// Registered returns what is registered of all functions, in ascending order of name. A record that cannot be read is an error.
func (s *Store) Registered(ctx context.Context) ([]wire.Registered, error) {
	found, err := s.matching(ctx, subjects.BucketConfig, subjects.RegistryKey("*"))
	if err != nil {
		return nil, err
	}
	all := make([]wire.Registered, len(found))
	for i, msg := range found {
		if err := json.Unmarshal(msg.Data, &all[i]); err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", msg.key(subjects.BucketConfig), subjects.BucketConfig, err)
		}
	}
	return all, nil
}
