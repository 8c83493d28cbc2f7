package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	api "k8s.io/api/core/v1"

	"github.com/confab-im/confab/deploy/e2e/kubernetes/work"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
)

// callers makes calls to the function work, as an edge makes them, and remembers what became of them.
type callers struct {
	t      *testing.T
	caller *functions.Caller
	wait   sync.WaitGroup
	begun  time.Time

	mu       sync.Mutex // guards what follows
	made     int
	took     []time.Duration // of those that were answered
	failures map[string]error
}

func newCallers(t *testing.T, i *installation) *callers {
	return &callers{t: t, caller: functionstest.Caller(t, i.connect(t, natsconfig.Edge)), begun: time.Now(), failures: map[string]error{}}
}

// call makes calls at once that each take a time, and does not wait for them.
func (c *callers) call(n int, takes time.Duration) {
	for range n {
		c.mu.Lock()
		c.made++
		id := c.id(c.made)
		c.mu.Unlock()
		c.wait.Go(func() { c.one(id, takes) })
	}
}

// id names a call, so that no two of a run of the tests are called the same.
func (c *callers) id(n int) string { return fmt.Sprintf("%s/%d/%d", c.t.Name(), c.begun.UnixNano(), n) }

func (c *callers) one(id string, takes time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, _ := json.Marshal(work.Do{ID: id, MS: int(takes.Milliseconds())})
	begun := time.Now()
	user := subjects.User(fmt.Sprintf("user-%d", rand.IntN(1000))) // one user alone may have 128 calls waiting
	_, err := c.caller.Call(ctx, "work", "do", functionstest.As(user).Header(), data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failures[id] = err
		return
	}
	c.took = append(c.took, time.Since(begun))
}

// settle waits for all calls and checks that each was answered and ran once.
func (c *callers) settle() {
	c.t.Helper()
	c.wait.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, err := range c.failures {
		c.t.Fatalf("%d of %d calls failed, %s with: %v", len(c.failures), c.made, id, err)
	}
	times := said(c.t, "ran")
	for i := range c.made {
		id := c.id(i + 1)
		if times[id] != 1 {
			c.t.Errorf("call %s ran %d times", id, times[id])
		}
	}
}

// longest returns the longest time that a call took.
func (c *callers) longest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.took) == 0 {
		return 0
	}
	return slices.Max(c.took).Round(time.Millisecond)
}

// reaches waits until a part has so many pods that run, and no others. Whether they are ready is not asked: functions are called without.
func reaches(t *testing.T, name string, n int) {
	t.Helper()
	if err := until(t.Context(), func(ctx context.Context) error {
		pods, err := cluster.Pods(ctx, namespace, part(name))
		running := 0
		for i := range pods {
			if pods[i].Status.Phase == api.PodRunning && pods[i].DeletionTimestamp == nil {
				running++
			}
		}
		if err == nil && (len(pods) != n || running != n) {
			err = fmt.Errorf("%s has %d pods of which %d run, want %d", name, len(pods), running, n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// quantile returns the value below which a share of the durations lies.
func quantile(all []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))].Round(time.Millisecond)
}
