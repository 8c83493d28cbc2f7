package send

import (
	"context"
	"time"

	"github.com/confab-im/confab/functions"
)

// probeEvery is how often an instance sees whether it can store. With the time that a probe takes, callers know within five seconds that it cannot.
const probeEvery = 2 * time.Second

// watch says, until ctx ends, whether sends can succeed. What has been stored since the last look counts for more than a probe: that concerns one stream of many, whose
// leader may be the one that is paused.
func (s *sender) watch(ctx context.Context, env functions.Env) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for before := s.stored.Load(); ; {
		err := s.store.Probe(ctx, env.Instance)
		now := s.stored.Load()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || now != before:
			env.Impaired("")
		default:
			env.Impaired(err.Error())
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// counted returns a handler that notes what was stored.
func (s *sender) counted(h functions.Handler) functions.Handler {
	return func(ctx context.Context, call *functions.Call) (any, error) {
		answer, err := h(ctx, call)
		if err == nil {
			s.stored.Add(1)
		}
		return answer, err
	}
}
