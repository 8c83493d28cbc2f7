package scaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// How long what was read counts. Changes are heard at once; what is read again after that mends one that was missed.
const (
	foundFor    = time.Minute
	missingFor  = 2 * time.Second
	readTimeout = 2 * time.Second
	readFailed  = 5 * time.Second // before a read that failed is tried again
)

// registry knows what the deployer left about functions, one by one as they are asked for. Its subscription's goroutine is the client library's.
type registry struct {
	nc  *nats.Conn
	log *slog.Logger
	sub *nats.Subscription

	mu      sync.Mutex
	records map[subjects.Function]lookup
	changes uint64 // heard so far: a read that began before one may be older
}

// lookup is the outcome of a read.
type lookup struct {
	record wire.Registered
	found  bool
	err    error
	until  time.Time
}

func newRegistry(nc *nats.Conn, log *slog.Logger) (*registry, error) {
	r := &registry{nc: nc, log: log, records: map[subjects.Function]lookup{}}
	sub, err := nc.Subscribe(subjects.AllRegistered, func(*nats.Msg) { r.changed() })
	if err != nil {
		return nil, err
	}
	r.sub = sub
	return r, nil
}

func (r *registry) close() {
	_ = r.sub.Unsubscribe() // fails only where the connection has forgotten it already
}

// changed forgets everything: changes are rare, and reading is cheap.
func (r *registry) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	clear(r.records)
}

// find returns what is registered of a function. While the store cannot be read, what was read before counts.
func (r *registry) find(ctx context.Context, f subjects.Function) (record wire.Registered, found bool, err error) {
	r.mu.Lock()
	known, changes := r.records[f], r.changes
	r.mu.Unlock()
	if time.Now().Before(known.until) {
		return known.record, known.found, known.err
	}
	read := r.read(ctx, f)
	if read.err != nil && known.found {
		read.record, read.found, read.err = known.record, true, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == changes {
		r.records[f] = read
	}
	return read.record, read.found, read.err
}

// read asks the store. A record that is none, or speaks of another function, counts as missing.
func (r *registry) read(ctx context.Context, f subjects.Function) lookup {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	key := subjects.BucketSubject(subjects.BucketConfig, subjects.RegistryKey(f))
	answer, err := r.nc.RequestWithContext(ctx, subjects.DirectReadLast(subjects.BucketStream(subjects.BucketConfig), key), nil)
	now := time.Now()
	switch {
	case err != nil:
		return lookup{err: fmt.Errorf("read the registry: %w", err), until: now.Add(readFailed)}
	case answer.Header.Get("Status") == "404", answer.Header.Get("KV-Operation") != "", answer.Header.Get("Nats-Marker-Reason") != "":
		return lookup{until: now.Add(missingFor)}
	case answer.Header.Get("Status") != "":
		return lookup{err: errors.New("read the registry: " + answer.Header.Get("Description")), until: now.Add(readFailed)}
	}
	var record wire.Registered
	if err := json.Unmarshal(answer.Data, &record); err != nil || record.Function != f {
		r.log.Warn("record of the registry cannot be read", "function", string(f), "err", err)
		return lookup{until: now.Add(missingFor)}
	}
	record.Concurrency = min(max(record.Concurrency, 1), maxConcurrency)
	return lookup{record: record, found: true, until: now.Add(foundFor)}
}
