package jetstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects"
)

const (
	// sealQueue is how many pages wait to be sealed; beyond it, a page waits for the next who reads it.
	sealQueue = 256
	// sealTimeout bounds the work on one page.
	sealTimeout = 10 * time.Second
	// sealPause is how long nothing is sealed after the bucket took nothing, because it is full, and how often it is looked for where it is missing, because an
	// older release declared the store.
	sealPause = 30 * time.Second
)

// sealJob is a page that is to be sealed, or whose sealed form is to be erased.
type sealJob struct {
	id     pageID
	unseal bool
}

// sealer holds what waits to be sealed.
type sealer struct {
	jobs   chan sealJob
	absent atomic.Bool  // there is no bucket, or it is not known yet
	paused atomic.Int64 // nothing is sealed until then; Unix nanoseconds

	mu     sync.Mutex
	queued map[sealJob]bool // what is in jobs
}

func (s *sealer) init() {
	s.jobs, s.queued = make(chan sealJob, sealQueue), map[sealJob]bool{}
	s.absent.Store(true)
}

// add has a job done some time, unless too many wait.
func (s *sealer) add(job sealJob) {
	if s.absent.Load() || !job.unseal && time.Now().UnixNano() < s.paused.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queued[job] {
		return
	}
	select {
	case s.jobs <- job:
		s.queued[job] = true
	default:
	}
}

func (s *sealer) taken(job sealJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queued, job)
}

// Run seals full pages that were read, one after another, until ctx ends. Without it pages are remembered in memory alone.
func (p *Pages) Run(ctx context.Context) {
	for p.find(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sealPause):
		}
	}
	p.sealer.absent.Store(false)
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-p.sealer.jobs:
			p.sealer.taken(job)
			p.work(ctx, job)
		}
	}
}

// find returns an error while there is no bucket.
func (p *Pages) find(ctx context.Context) error {
	_, err := p.s.lastSequence(ctx, subjects.BucketStream(subjects.BucketPages))
	return err
}

// work does one job. A failure is nobody's concern: the page is read from the log, and what has to be erased is found again by the next who reads it.
func (p *Pages) work(ctx context.Context, job sealJob) {
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	if job.unseal {
		_ = p.s.unseal(ctx, job.id.c, job.id.page)
		return
	}
	k, err := p.s.seal(ctx, job.id.c, job.id.page)
	if errors.Is(err, ErrUnavailable) {
		p.sealer.paused.Store(time.Now().Add(sealPause).UnixNano())
	}
	if k != nil {
		if have, known := p.kept.get(job.id); known {
			k.amends = have.amends
		}
		k.proven = time.Now()
		p.kept.put(job.id, k, k.cost())
	}
}
