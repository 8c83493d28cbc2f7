package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/subjects"
)

// declareTries bounds how often one asset is tried when other declarers change it at the same time.
const declareTries = 5

// Declare makes every asset that is missing and updates those that may grow. It may be called any number of times, also by several
// processes at once. It refuses to shrink what is there (ErrShrink), to touch a store of a newer release (ErrNewerLayout), and to go on where
// a stream of somebody else captures calls (ErrOverlap); the error then has a line for each asset in question. The layout is written last, so Open succeeds only when all assets are there.
func Declare(ctx context.Context, nc *nats.Conn, p Profile) error {
	return declare(ctx, nc, p, ErrNotFound)
}

// EndRestore is Declare for whoever has restored all copies: it makes what is not copied, and lets the store be opened.
func EndRestore(ctx context.Context, nc *nats.Conn, p Profile) error {
	return declare(ctx, nc, p, ErrRestoring)
}

// declare is Declare where the layout says what is expected.
func declare(ctx context.Context, nc *nats.Conn, p Profile, expected error) error {
	if err := p.Validate(); err != nil {
		return err
	}
	p = p.withDefaults()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("declare the store: %w", err)
	}
	s, err := newStore(nc)
	if err != nil {
		return err
	}
	defer s.Close()
	// Nothing is touched when a newer release was here, not even the assets that look the same.
	before, err := s.checkLayout(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotDeclared) && !errors.Is(err, expected) {
		return fmt.Errorf("declare the store: %w", err)
	}
	if err := checkOverlap(ctx, js); err != nil {
		return err
	}
	assets := Assets()
	failures := make([]error, len(assets))
	var all sync.WaitGroup
	for i, asset := range assets {
		all.Go(func() { failures[i] = declareAsset(ctx, js, asset, p) })
	}
	all.Wait()
	for i, asset := range assets {
		if asset.Cache && lacksRoom(failures[i]) { // on a small disk it is better to be slow than not to start
			failures[i] = nil
		}
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	if before.Layout > 0 && !before.Restoring && !before.MarksOnce {
		if err := s.forgetFormerCursors(ctx); err != nil {
			return fmt.Errorf("declare the store: %w", err)
		}
	}
	return s.writeLayout(ctx, p)
}

// checkOverlap returns ErrOverlap with the names of the streams that capture calls. No subject of confab's own streams does.
func checkOverlap(ctx context.Context, js jetstream.JetStream) error {
	streams := js.StreamNames(ctx, jetstream.WithStreamListSubject(subjects.AllRPC))
	var names []string
	for name := range streams.Name() {
		names = append(names, name)
	}
	if err := streams.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return fmt.Errorf("look for streams that capture calls: %w", libraryError(err))
	}
	if names == nil {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("declare the store: %w: take %s out of the subjects of %s", ErrOverlap, subjects.AllRPC, strings.Join(names, ", "))
}

// Keep declares the assets, and again whenever the connection comes back, until ctx ends: a server that was started anew may have another disk, or have lost the
// presence bucket, which an earlier release kept in memory. It returns the error of the first time, and tells failed of later ones.
func Keep(ctx context.Context, nc *nats.Conn, p Profile, failed func(error)) error {
	// The channel holds one change; more of them while a declaration runs are the same news.
	connected := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(connected)
	if err := Declare(ctx, nc, p); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-connected:
			if !open { // the connection was closed for good
				return nil
			}
			if err := Declare(ctx, nc, p); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}
}

func declareAsset(ctx context.Context, js jetstream.JetStream, a Asset, p Profile) error {
	want := a.config(p)
	for range declareTries {
		// Creating what is there already with the same configuration succeeds: one round trip for a first start and for a restart.
		_, err := js.CreateStream(ctx, want)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("declare %s: %w", a.Stream, libraryError(err))
		}
		stream, err := js.Stream(ctx, a.Stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("declare %s: %w", a.Stream, libraryError(err))
		}
		have := stream.CachedInfo().Config
		if a.Volatile && (have.Storage != want.Storage || have.PersistMode != want.PersistMode) {
			if have.Replicas != want.Replicas {
				if err := js.DeleteStream(ctx, a.Stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
					return fmt.Errorf("make %s anew: %w", a.Stream, libraryError(err))
				}
				continue
			}
			want.Storage, want.PersistMode = have.Storage, have.PersistMode // of an earlier release; it works until its server is started anew
		}
		if err := refuse(have, want); err != nil {
			return fmt.Errorf("declare %s: %w", a.Stream, err)
		}
		next := merge(have, want)
		if reflect.DeepEqual(have, next) {
			return nil
		}
		if _, err = js.UpdateStream(ctx, next); err != nil {
			return fmt.Errorf("update %s: %w", a.Stream, libraryError(err))
		}
		return nil
	}
	return fmt.Errorf("declare %s: %w: it is made and deleted by others at the same time", a.Stream, ErrConflict)
}

// refuse returns ErrNewerLayout or ErrShrink with a sentence for an operator where have must not become want.
func refuse(have, want jetstream.StreamConfig) error {
	if layout, _ := strconv.Atoi(have.Metadata[metadataLayout]); layout > Layout {
		return newerLayout(layout)
	}
	var less []string
	refuseIf := func(smaller bool, what string, has, asks any) {
		if smaller {
			less = append(less, fmt.Sprintf("%s is %v and would become %v", what, has, asks))
		}
	}
	below := func(asks, has int64) bool { // -1 and 0 are no limit
		return asks > 0 && (has <= 0 || asks < has)
	}
	refuseIf(want.Replicas < have.Replicas, "replicas", have.Replicas, want.Replicas)
	refuseIf(below(want.MaxBytes, have.MaxBytes), "max bytes", have.MaxBytes, want.MaxBytes)
	refuseIf(below(want.MaxMsgs, have.MaxMsgs), "max messages", have.MaxMsgs, want.MaxMsgs)
	refuseIf(below(want.MaxMsgsPerSubject, have.MaxMsgsPerSubject), "history", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	refuseIf(below(int64(want.MaxMsgSize), int64(have.MaxMsgSize)), "max message size", have.MaxMsgSize, want.MaxMsgSize)
	refuseIf(below(int64(want.MaxAge), int64(have.MaxAge)), "max age", have.MaxAge, want.MaxAge)
	refuseIf(want.Duplicates < have.Duplicates, "dedupe window", have.Duplicates, want.Duplicates)
	refuseIf(want.Storage != have.Storage, "storage", have.Storage, want.Storage)
	refuseIf(want.Retention != have.Retention, "retention", have.Retention, want.Retention)
	refuseIf(!reflect.DeepEqual(want.Subjects, have.Subjects), "subjects", have.Subjects, want.Subjects)
	if less == nil {
		return nil
	}
	return fmt.Errorf("%w: %s; raise the profile to what is there, or change the stream with the nats tool if you mean it",
		ErrShrink, strings.Join(less, ", "))
}

// merge returns have with everything that the table says. Placement, mirrors, sources and foreign metadata stay the operator's.
func merge(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	next := want
	next.Placement, next.Mirror, next.Sources = have.Placement, have.Mirror, have.Sources
	next.Metadata = maps.Clone(have.Metadata)
	if next.Metadata == nil {
		next.Metadata = map[string]string{}
	}
	maps.Copy(next.Metadata, want.Metadata)
	return next
}

// libraryError maps what the client library reports to the errors of this package.
func libraryError(err error) error {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return &apiError{Code: api.Code, ErrCode: int(api.ErrorCode), Description: api.Description}
	}
	return natsError(err)
}

// lacksRoom reports whether the server has not the room that an asset reserves.
func lacksRoom(err error) bool {
	api, ok := errors.AsType[*apiError](err)
	return ok && slices.Contains([]int{codeAccountFull, codeNoPeers, codeInsufficient, codeResources}, api.ErrCode)
}

func newerLayout(layout int) error {
	return fmt.Errorf("%w: %d, and this release knows %d; run the newer release, or restore a backup of this one", ErrNewerLayout, layout, Layout)
}
